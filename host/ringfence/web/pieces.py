"""How small the pieces of a request's body may be.

Threat: a body that comes in chunks (RFC 9112, section 7.1) of one byte each costs this process thousands of times as
much as the peer, before it is known who sends it: a few such connections keep everybody waiting. Mechanism: what has
come in by one read is taken apart at once, so chunks that come together are counted, and a connection with more of them
than its body is large enough for is dropped. Not covered: chunks that come one by one, which cost their sender as much.
"""

from __future__ import annotations

from typing import Any

import h11

MOST_PIECES = 1000
BYTES_A_PIECE = 256
"""So many chunks may come together, and one more for so many bytes of the body."""


class PiecesConnection(h11.Connection):
    """h11's connection, which says nothing more once a body has come in `too_many` pieces."""

    too_many = False
    _pieces = 0
    _bytes = 0

    def next_event(self) -> Any:
        """See `h11.Connection.next_event`."""
        if self.too_many:
            return h11.NEED_DATA
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._pieces = self._bytes = 0
        elif isinstance(event, h11.Data):
            self._bytes += len(event.data)
            self._pieces += 1
            self.too_many = self._pieces > MOST_PIECES + self._bytes // BYTES_A_PIECE
        return event

    def read_begins(self) -> None:
        """Whatever comes next has come by a new read: its first piece does not count."""
        self._pieces = max(0, self._pieces - 1)
