"""How requests were answered, by the route that served them: counted for `/metrics`."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ringfence.counting import OTHER, Counts, Distribution
from ringfence.web.methods import CANDIDATES

MOST_ROUTES = 2000
API = "/api/"
UNKNOWN_ROUTE = "none"
"""The route of a request for what is not there. Its path is whatever somebody has asked for, and no label."""


class Requests:
    """The requests of one instance."""

    def __init__(self) -> None:
        self.answered = Counts(most=MOST_ROUTES)
        """By route template, method and class of status."""
        self.seconds = Distribution()


class Counted:
    """An ASGI application that counts what `app` answers."""

    def __init__(self, app: ASGIApp, requests: Requests) -> None:
        self._app = app
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        began = time.monotonic()
        try:
            await self._app(scope, receive, noted)
        finally:
            self._requests.seconds.observe(time.monotonic() - began)
            method = scope["method"] if scope["method"] in CANDIDATES else OTHER
            self._requests.answered.add(template_of(scope), method, f"{status // 100}xx")


def template_of(scope: Scope) -> str:
    """The path of the route that has served a request, with names where it has parameters."""
    path = getattr(scope.get("route"), "path", None)
    if not isinstance(path, str):
        return UNKNOWN_ROUTE
    asked: str = scope["path"]
    if asked.startswith(API) and not path.startswith(API):
        # A plugin's router knows its own part only. One of its routes was found, so this is the plugin's id.
        return "/".join(asked.split("/")[:3]) + path
    return path
