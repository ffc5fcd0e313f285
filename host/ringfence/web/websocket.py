"""WebSockets that many are told the same thing through: serialise once, write at once, never wait for a
slow peer.

An ASGI `send` serialises anew for each peer and waits while that peer does not read. An endpoint that holds
thousands of connections needs neither, so this server protocol offers an ASGI extension with which it
writes bytes that are already a WebSocket frame, or learns at once that the peer is not keeping up.
Endpoints must work without it too, through `send`: other ASGI servers do not have it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from starlette.websockets import WebSocket
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request

EXTENSION = "ringfence.websocket.direct"
WRITE_BUFFER_BYTES = 32 * 1024
"""How much may wait in this process for one peer's socket before it counts as not keeping up."""


@dataclass(frozen=True, slots=True)
class TextMessage:
    """One text message, ready to be sent any number of times: its text, and the frame that it is on the wire.

    Frames from a server are not masked (RFC 6455, 5.1), so that the same bytes are right for every peer.
    Only for connections without extensions such as compression, which is how this host serves them.
    """

    text: str
    frame: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        frame = Frame(Opcode.TEXT, self.text.encode()).serialize(mask=False, extensions=[])
        object.__setattr__(self, "frame", frame)


class DirectWrites(Protocol):
    """What the extension offers. Both calls return at once."""

    def write_now(self, message: TextMessage) -> bool:
        """Hand a message to the peer's socket; False, and nothing done, if the peer is not keeping up
        or gone.
        """

    def abort(self) -> None:
        """Drop the connection and what waits to be written: the only way to be rid of a peer that reads
        nothing.
        """


def direct_writes(websocket: WebSocket) -> DirectWrites | None:
    """The extension of this connection, or None when its server has none."""
    found: DirectWrites | None = websocket.scope.get("extensions", {}).get(EXTENSION)
    return found


class DirectWebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol, with the extension."""

    def handle_connect(self, event: Request) -> None:
        """Offer the extension to the application, which starts after this."""
        super().handle_connect(event)
        if not self.handshake_complete:
            self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
            self.scope["extensions"][EXTENSION] = self  # type: ignore[assignment]

    def write_now(self, message: TextMessage) -> bool:
        """See `DirectWrites`."""
        if not self.handshake_complete or self.close_sent or self.disconnected or self.conn.extensions:
            return False
        if not self.writable.is_set() or self.transport.is_closing():
            return False
        self.transport.write(message.frame)
        return True

    def abort(self) -> None:
        """See `DirectWrites`."""
        self.transport.abort()
