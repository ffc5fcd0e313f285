"""What an instance that is about to stop still takes: requests, and no WebSocket.

Of each request it says that it is the last of its connection. One that is not answered when the instance stops is to be
made again elsewhere, and is told so.
"""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ringfence.http.problems import Problem
from ringfence.plugins.draining import REASON, Drain

RETRY_AFTER_SECONDS = 1
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
                await _answer(self._app, scope, receive, self._answering(send))
        else:
            await self._app(scope, receive, send)

    def _answering(self, send: Send) -> Send:
        """While it drains, have the client open another connection next, which may lead to another instance."""

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start" and self._drain.began:
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        return closing


async def _answer(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    begun = False

    async def noting(message: Message) -> None:
        nonlocal begun
        begun = True
        await send(message)

    try:
        await app(scope, receive, noting)
    except asyncio.CancelledError:
        # The server cancels what it still answers when it stops, and nothing else does; this task ends all the same.
        if begun:
            raise
        cut_off = Problem(
            503,
            "The instance stops",
            detail="the instance stopped before it answered this request: ask again",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS), "Connection": "close"},
        )
        await cut_off.response()(scope, receive, send)


async def _turn_away(receive: Receive, send: Send) -> None:
    """Accept first: a reason can be given to an open WebSocket alone."""
    if (await receive())["type"] != "websocket.connect":
        return
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": TRY_LATER, "reason": REASON})
