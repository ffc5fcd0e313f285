"""What goes through the sockets of this instance, counted."""

from __future__ import annotations

from ringfence.metrics import Counts

from ringfence_satellite.protocol import SatelliteFrame

UNKNOWN = "unknown"
"""A frame of a type that this host does not know."""


class Traffic:
    """The messages to satellites and from them."""

    def __init__(self) -> None:
        self.sent_messages = 0
        self.sent_bytes = 0
        self.received = Counts()
        """Frames that have come, by type."""
        self.received_bytes = 0
        self.dropped = Counts()
        """Messages that were not sent, and frames that were not acted on, by why."""

    def sent(self, size: int) -> None:
        """A message was handed to a socket."""
        self.sent_messages += 1
        self.sent_bytes += size

    def came(self, frame: SatelliteFrame | None, size: int) -> None:
        """A frame has come."""
        self.received.add(UNKNOWN if frame is None else frame.TYPE)
        self.received_bytes += size

    def no_room(self) -> None:
        """A message was not sent, because too much waits for its satellite already."""
        self.dropped.add("no-room")

    def unasked(self) -> None:
        """A frame was not acted on, because nobody has asked for it."""
        self.dropped.add("not-asked-for")
