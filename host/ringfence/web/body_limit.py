"""A bound on what one request may bring along.

Threat: a body is read, and taken apart, before it is known who sends it, so whoever reaches the port could use up this
process's memory and time. Mechanism: a body that says it is too large is refused unread, and one that grows too large
where it does; and a body that is not small is read only for those who are known here, by their token or their session.
A plugin may say that it reads a route's body piece by piece: then that route has to find out who sends it, and to bound
it. Not covered: many requests at once (limit those in front).
"""

from __future__ import annotations

from collections.abc import Collection

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ringfence.http.guard import known
from ringfence.http.problems import Problem

MAX_BODY_BYTES = 16 * 1024 * 1024
"""Room for the largest script that a route takes, however its characters are written, and a context beside it."""

MAX_STRANGERS_BYTES = 64 * 1024


class BodyLimit:
    """An ASGI application that answers 413 to a request with more than `most` bytes, and leaves the rest to `app`.

    Strangers with more than `MAX_STRANGERS_BYTES` get 401. Requests to the paths in `streamed`, in which names may
    stand in braces, are left to `app` as they are.
    """

    def __init__(
        self, app: ASGIApp, most: int = MAX_BODY_BYTES, *, streamed: Collection[str] = frozenset()
    ) -> None:
        self._app = app
        self._most = most
        self._streamed = tuple(compile_path(path)[0] for path in streamed)
        self._refusal = f"a request may have at most {most} bytes"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        if scope["type"] != "http" or any(path.match(scope["path"]) for path in self._streamed):
            await self._app(scope, receive, send)
            return
        if _announced(scope) > self._most:
            await Problem(413, detail=self._refusal).response()(scope, receive, send)
            return
        came = 0
        is_known = False
        if _announced(scope) > MAX_STRANGERS_BYTES:
            try:
                await known(Request(scope))
            except Problem as problem:
                await problem.response()(scope, receive, send)
                return
            is_known = True

        async def counted() -> Message:
            nonlocal came, is_known
            message = await receive()
            came += len(message.get("body", b""))
            if came > MAX_STRANGERS_BYTES and not is_known:
                try:
                    await known(Request(scope))
                except Problem as problem:
                    raise HTTPException(problem.status, problem.detail, problem.headers) from problem
                is_known = True
            if came > self._most:
                # Out of whatever reads the body, to where every exception of a request is answered.
                raise HTTPException(413, self._refusal)
            return message

        await self._app(scope, counted, send)


def _announced(scope: Scope) -> int:
    """What the request says that its body has; 0 where it does not. The server has seen to it that it is a number."""
    return next((int(value) for name, value in scope["headers"] if name == b"content-length"), 0)
