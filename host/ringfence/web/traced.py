"""A span for each request, beneath whoever sent it. Without traces, requests pass through."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from ringfence import tracing
from ringfence.web.counted import template_of

PASSED_OVER = frozenset({"/healthz", "/readyz", "/metrics"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Traced:
    """An ASGI application that makes a span of each HTTP request of `app`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        if not tracing.is_on() or scope["type"] != "http" or scope["path"] in PASSED_OVER:
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        parent = Headers(scope=scope).get("traceparent")
        with tracing.span(f"HTTP {method}", parent, kind=tracing.Kind.SERVER, begins=True):
            try:
                await self._app(scope, receive, send)
            finally:
                tracing.tell(route=template_of(scope))
