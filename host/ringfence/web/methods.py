"""The methods that every resource has: HEAD wherever GET is, and OPTIONS everywhere (RFC 9110, 9.3.2 and 9.3.7).

Load balancers ask with these whether a host lives, and what they are refused they take for an outage.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CANDIDATES = ("GET", "POST", "PUT", "PATCH", "DELETE")
"""The methods that routes are declared with; HEAD and OPTIONS follow from them."""


class CommonMethods:
    """An ASGI application that answers HEAD and OPTIONS by what `routes` have, and leaves the rest to `app`."""

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        # The application's own list, to which routes are still added.
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            await self._options(scope)(scope, receive, send)
        elif scope["type"] == "http" and scope["method"] == "HEAD":
            await self._app({**scope, "method": "GET"}, receive, _without_body(send))
        else:
            await self._app(scope, receive, send)

    def _options(self, scope: Scope) -> Response:
        if scope["path"] == "*":
            # About the server as a whole; a load balancer's way of asking whether it answers.
            return Response(status_code=204)
        methods = self._methods(scope)
        if not methods:
            return Response(status_code=404)
        return Response(status_code=204, headers={"Allow": ", ".join((*methods, "OPTIONS"))})

    def _methods(self, scope: Scope) -> list[str]:
        found = [
            method
            for method in CANDIDATES
            if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in self._routes)
        ]
        return ["HEAD", *found] if "GET" in found else found


def _without_body(send: Send) -> Send:
    """Pass on the head of an answer and an empty body; the head tells the length that GET's body has."""
    ended = False

    async def head_only(message: Message) -> None:
        nonlocal ended
        if message["type"] != "http.response.body":
            await send(message)
        elif not ended:
            ended = True
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return head_only
