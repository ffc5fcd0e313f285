"""Addresses with one slash too many, or one too few, at their end: sent on to the one that there is.

Threat: the answer leads to whatever name the request has given for this host, and a cache or a client goes there.
Mechanism: it names a path alone, which is of the host that was asked, and never one that a browser takes for another
host's.
"""

from __future__ import annotations

from urllib.parse import quote

from starlette.responses import RedirectResponse
from starlette.routing import Match, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from ringfence.pages.requests import is_own_place


class OtherSlash:
    """What `router` answers where none of its routes fits."""

    def __init__(self, router: Router, nothing_here: ASGIApp) -> None:
        self._router = router
        self._nothing_here = nothing_here

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        to = self._other(scope) if scope["type"] == "http" else None
        answer = self._nothing_here if to is None else RedirectResponse(to, 307)
        await answer(scope, receive, send)

    def _other(self, scope: Scope) -> str | None:
        path: str = scope["path"]
        other = path.rstrip("/") if path.endswith("/") else f"{path}/"
        asked = {**scope, "path": other}
        if all(route.matches(asked)[0] is Match.NONE for route in self._router.routes):
            return None
        query = scope["query_string"].decode("latin-1")
        to = quote(other) + (f"?{query}" if query else "")
        return to if is_own_place(quote(other)) else None
