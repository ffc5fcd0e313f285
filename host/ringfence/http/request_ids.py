"""The id of each request: in what is logged while it is served, in the answer's header, and in problem details.

Whoever asks may bring one, so that a request can be followed through several systems. Threat: it holds what forges a
line of a log, or is as long as a book. Mechanism: one that is not well formed is not taken, and another is made.
"""

from __future__ import annotations

import re
import uuid
from contextvars import ContextVar

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "X-Request-ID"
_WELL_FORMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_CURRENT: ContextVar[str | None] = ContextVar("ringfence.request_id", default=None)


def current_request_id() -> str | None:
    """The id of the request that is being served; None outside of any."""
    return _CURRENT.get()


def request_id_of(given: str | None) -> str:
    """The id that a request brings, if it is well formed, or a new one."""
    return given if given is not None and _WELL_FORMED.fullmatch(given) else uuid.uuid4().hex


class RequestIds:
    """An ASGI application that gives each request of `app` its id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        id = request_id_of(Headers(scope=scope).get(HEADER))

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = id
            await send(message)

        before = _CURRENT.set(id)
        try:
            with structlog.contextvars.bound_contextvars(request_id=id):
                await self._app(scope, receive, named)
        finally:
            _CURRENT.reset(before)
