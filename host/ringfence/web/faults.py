"""What a request is answered when the host cannot serve it: one line in the log, and a reason for whoever asked.

A database that is away, full or read-only is no fault of the request, and over in a while: 503, with a time after which
to ask again (RFC 9110, 10.2.3). Everything else that nobody foresaw is a 500, with its traceback in the log, once.
"""

from __future__ import annotations

import contextlib
import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ringfence.http.problems import Problem
from ringfence.storage.outages import outage

RETRY_AFTER_SECONDS = 5
"""About how long a database takes to start, or a fail-over to another."""

LOG_SECONDS = 10.0
"""How often at most an outage is logged, with how many requests it has cost since."""

_log = structlog.get_logger("ringfence.web")


class Faults:
    """An ASGI application that answers what `app` fails at, where nothing has been answered yet.

    What nobody foresaw is raised on when it is answered and logged, for tests to see; see `Told`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._refused = 0
        self._logged_at = -LOG_SECONDS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answered = False

        async def noted(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as error:
            reason = outage(error)
            problem = self._unforeseen(scope, error) if reason is None else self._out_of_order(reason)
            if not answered:
                await problem.response()(scope, receive, send)
            if reason is None:
                raise

    def _unforeseen(self, scope: Scope, error: Exception) -> Problem:
        _log.error("request failed", method=scope["method"], path=scope["path"], exc_info=error)
        return Problem(500, detail="the host failed at this request; its log says why")

    def _out_of_order(self, reason: str) -> Problem:
        self._refused += 1
        if (now := time.monotonic()) - self._logged_at >= LOG_SECONDS:
            _log.error(
                "cannot serve requests: the database is out of order", reason=reason, refused=self._refused
            )
            self._logged_at, self._refused = now, 0
        return Problem(
            503,
            detail=f"the database is out of order at the moment: {reason}; try again",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )


class Told:
    """An ASGI application that keeps from the server what `app` raises at a request: `Faults` has told of it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with contextlib.suppress(Exception):
            await self._app(scope, receive, send)
