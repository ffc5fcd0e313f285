"""The channel to a run: what the run says on it, and nothing that could come with that.

Threat: a script sends descriptors along (unix(7), SCM_RIGHTS). Whoever takes in what they came with has those closed
that it does not want, and so has whoever closes a socket in which they wait. That takes as long as the script likes: a
TCP socket with unsent data lingers when it is closed (socket(7), SO_LINGER). The event loop would stand still, and with
it all that holds the limits of every run.

Mechanism: the kernel refuses them to who sends them (SO_PASSRIGHTS, since Linux 6.16). Where it cannot, they are taken
in, so that they are ours to close: on a thread, as is the socket itself.

Not covered: such a thread, before Linux 6.16, may be held up for as long as this process lives.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable

SO_PASSRIGHTS = 83
"""Of asm-generic/socket.h."""

MOST_IN_MESSAGE = 253
"""Descriptors in one message (unix(7), SCM_MAX_FD)."""


class Channel:
    """Our end."""

    def __init__(self, end: socket.socket) -> None:
        """Take it over."""
        self._end = end
        self._refuses = False
        end.setblocking(False)
        with contextlib.suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
            self._refuses = True

    def fileno(self) -> int:
        """Its descriptor, to wait for it."""
        return self._end.fileno()

    def send(self, data: bytes) -> None:
        """Say something. Raises OSError."""
        self._end.send(data)

    def recv(self, most: int) -> bytes:
        """What the run has said, at most so many bytes; nothing at its end. Raises OSError."""
        if self._refuses:
            return self._end.recv(most)
        data, descriptors, _, _ = socket.recv_fds(self._end, most, MOST_IN_MESSAGE)
        for descriptor in descriptors:
            _aside(os.close, descriptor)
        return data

    def close(self) -> None:
        """Let go of it; whoever is at its other end sees so at once."""
        if self._refuses or self._end.fileno() < 0:
            self._end.close()
            return
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        _aside(os.close, self._end.detach())


def _aside(close: Callable[[int], None], descriptor: int) -> None:
    """Close it on a thread that nobody waits for, also when this process ends."""
    try:
        threading.Thread(target=close, args=(descriptor,), name="ringfence-close", daemon=True).start()
    except RuntimeError:
        # The interpreter ends, and starts no thread any more.
        close(descriptor)
