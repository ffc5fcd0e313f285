"""What an instance that is about to stop still takes: requests, and no WebSocket.

Of each request it says that it is the last of its connection.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ringfence.plugins.draining import REASON, Drain

TRY_LATER = 1013
"""RFC 6455's registry: the server is overloaded or restarts, and the client should connect again."""


class Door:
    """An ASGI application that counts the requests to `app`, and turns WebSockets away once its instance drains."""

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        self._app = app
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        if scope["type"] == "websocket" and self._drain.began:
            await _turn_away(receive, send)
        elif scope["type"] == "http":
            with self._drain.answering():
                await self._app(scope, receive, self._last(send) if self._drain.began else send)
        else:
            await self._app(scope, receive, send)

    @staticmethod
    def _last(send: Send) -> Send:
        """Have the client open another connection for its next request, which may lead to another instance."""

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        return closing


async def _turn_away(receive: Receive, send: Send) -> None:
    """Accept first: a reason can be given to an open WebSocket alone."""
    if (await receive())["type"] != "websocket.connect":
        return
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": TRY_LATER, "reason": REASON})
