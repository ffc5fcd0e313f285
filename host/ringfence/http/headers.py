"""What browsers are told with every answer, of a page, of the API, of a file and of an error alike.

Threat: another site shows an answer in a frame, has it read as something else than it is, or learns from where somebody
came. Mechanism: the headers of `ringfence.http.browsers` go with each answer that has none of its own. Not covered:
answers to what is no HTTP at all, which the server gives by itself.
"""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ringfence.http import browsers


class BrowserHeaders:
    """An ASGI application that has each answer of `app` carry them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in browsers.HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, told)
