"""A socket, from the moment at which somebody opens it to the moment at which it is gone, and how it is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from ringfence.web import direct_writes
from starlette.websockets import WebSocket, WebSocketDisconnect

from ringfence_satellite.protocol import AuthFailed, CloseCode
from ringfence_satellite.server.connections.connection import Connection, expire

CLOSE_SECONDS = 1.0
"""How long a peer that is told to go may take to read that, before it is dropped."""
LOST = 1006
"""RFC 6455: the connection ended without a close frame."""


@dataclass(frozen=True, slots=True)
class End:
    """How a visit ended: the close code and reason, the peer's or ours."""

    code: int
    reason: str
    peer_is_gone: bool = False

    @property
    def is_clean(self) -> bool:
        """Whether the satellite is known to be offline now: it said goodbye, or we have thrown it out."""
        return self.code in {CloseCode.REVOKED, CloseCode.DELETED} or (
            self.peer_is_gone and self.code in {CloseCode.NORMAL, CloseCode.GOING_AWAY}
        )


@dataclass(slots=True, eq=False)
class Visit:
    """A socket, and the connection that it becomes once somebody has said who it is."""

    websocket: WebSocket
    connection: Connection | None = None
    scope: asyncio.Timeout | None = None
    sent_away: bool = False
    is_over: bool = False

    def send_away(self) -> None:
        """End it now, to make room for another."""
        self.sent_away = True
        if self.is_over:
            self.drop()
        elif self.scope is not None:
            expire(self.scope)

    def ended(self) -> None:
        """Note that its work has ended: whoever wants it ended from here on finds that it is."""
        self.is_over = True
        if self.connection is not None:
            self.connection.ended()

    def limit_messages(self, most: int) -> None:
        """Take no frame of more than `most` bytes, where the server can see to that."""
        if (direct := direct_writes(self.websocket)) is not None:
            direct.limit_messages(most)

    async def receive(self) -> str:
        """The next text message; binary ones are no frames of this protocol, and are passed over.

        Raises:
            WebSocketDisconnect: the peer has gone.
        """
        while True:
            message = await self.websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code") or LOST, message.get("reason"))
            if (text := message.get("text")) is not None:
                return str(text)

    async def close(self, end: End) -> None:
        """Close with a reason that fits a close frame (123 bytes).

        Drop the peer if it does not even read that.
        """
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                if end.code == CloseCode.AUTH_FAILED:
                    await self.websocket.send_text(AuthFailed(reason=end.reason).encode())
                await self.websocket.close(end.code, end.reason.encode()[:120].decode(errors="ignore"))
        except TimeoutError:
            self.drop()
        except (WebSocketDisconnect, RuntimeError):
            return  # It has gone in the meantime.

    def drop(self) -> None:
        """Close the socket, whether the peer has answered our closing it or not."""
        if (direct := direct_writes(self.websocket)) is not None:
            direct.abort()

    def drop_soon(self, then: Callable[[Visit], None]) -> None:
        """Drop the socket if the peer has not answered our closing it in time, and call `then` in any case."""
        asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._drop_now, then)

    def _drop_now(self, then: Callable[[Visit], None]) -> None:
        self.drop()
        then(self)
