"""A bound on what one request may bring along.

Threat: a body is read before it is known who sends it, so whoever reaches the port could use up this process's memory.
Mechanism: a body that says it is too large is refused unread, and one that grows too large where it does. A plugin may
say that it reads a route's body piece by piece: then that route has to find out who sends it, and to bound it. Not
covered: many requests at once (limit those in front).
"""

from __future__ import annotations

from collections.abc import Collection

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ringfence.http.problems import Problem

MAX_BODY_BYTES = 16 * 1024 * 1024
"""Room for the largest script that a route takes, however its characters are written, and a context beside it."""


class BodyLimit:
    """An ASGI application that answers 413 to a request with more than `most` bytes, and leaves the rest to `app`.

    So are requests to the paths in `streamed`.
    """

    def __init__(
        self, app: ASGIApp, most: int = MAX_BODY_BYTES, *, streamed: Collection[str] = frozenset()
    ) -> None:
        self._app = app
        self._most = most
        self._streamed = streamed
        self._refusal = f"a request may have at most {most} bytes"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        if scope["type"] != "http" or scope["path"] in self._streamed:
            await self._app(scope, receive, send)
            return
        if _announced(scope) > self._most:
            await Problem(413, detail=self._refusal).response()(scope, receive, send)
            return
        came = 0

        async def counted() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > self._most:
                # Out of whatever reads the body, to where every exception of a request is answered.
                raise HTTPException(413, self._refusal)
            return message

        await self._app(scope, counted, send)


def _announced(scope: Scope) -> int:
    """What the request says that its body has; 0 where it does not. The server has seen to it that it is a number."""
    return next((int(value) for name, value in scope["headers"] if name == b"content-length"), 0)
