"""What a run writes, to whoever watches its page: server-sent events for as long as it runs.

Threat: somebody holds many streams, reads none of them, or goes on hearing after their rights have ended. Mechanism:
nothing waits in memory: a stream reads from the table where the browser has got to, and only when that has taken what
came before; a session has at most `MOST_PER_SESSION` of them and an instance `MOST`; the session and its rights are
looked up anew before each message. Not covered: what was written until then.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from uuid import UUID

from fastapi import Response
from fastapi.responses import StreamingResponse
from ringfence import PluginContext
from ringfence.pages import View, spelt_out
from ringfence.web import Problem
from sqlalchemy.exc import SQLAlchemyError

from ringfence_satellite.pages.finding import id_of
from ringfence_satellite.server.runs.guarded import GuardedRuns
from ringfence_satellite.server.runs.requesting import Runs

MOST_PER_SESSION = 8
MOST = 500
LOOK_SECONDS = 5.0
"""How often a stream says that it is still there, and looks whether it may go on, while a run writes nothing."""
RETRY_MILLISECONDS = 1000


class Output:
    """The streams of one instance."""

    def __init__(self, context: PluginContext, runs: Runs, guarded: GuardedRuns) -> None:
        self._context = context
        self._runs = runs
        self._guarded = guarded
        self._open: Counter[str] = Counter()

    @property
    def open(self) -> int:
        """How many streams there are."""
        return self._open.total()

    async def answer(self, view: View) -> Response:
        """The stream of a run, from after the piece that the browser has."""
        run, satellite = id_of(view.parameters["run"]), id_of(view.parameters["id"])
        await self._guarded.found(run, view.principal, satellite)
        if self._open[view.session] >= MOST_PER_SESSION or self._open.total() >= MOST:
            raise Problem(429, detail="too many runs are watched: close some", headers={"Retry-After": "10"})
        after = _number(view.last_event_id or view.query.get("after", ""))
        return StreamingResponse(
            self._counted(view, run, satellite, after),
            media_type="text/event-stream",
            headers={"X-Accel-Buffering": "no"},
        )

    async def _counted(self, view: View, run: UUID, satellite: UUID, after: int) -> AsyncIterator[str]:
        self._open[view.session] += 1
        try:
            async for message in self._messages(view, run, satellite, after):
                yield message
        finally:
            self._open[view.session] -= 1
            self._open += Counter()

    async def _messages(self, view: View, run: UUID, satellite: UUID, after: int) -> AsyncIterator[str]:
        yield f"retry: {RETRY_MILLISECONDS}\n\n"
        while not self._context.draining:
            try:
                principal = await view.rights()
                if principal is None:
                    yield _end("signed out", "Your session has ended. Sign in again.")
                    return
                # The state first: what was written before the run ended is read with it.
                shown = await self._guarded.found(run, principal, satellite)
                pieces = await self._runs.output(run, after=after)
                for piece in pieces:
                    after = piece["sequence"]
                    told = json.dumps({"stream": piece["stream"], "text": spelt_out(piece["text"])})
                    yield f"id: {after}\nevent: output\ndata: {told}\n\n"
                if shown.has_ended:
                    yield _end(shown.outcome or "", shown.reason or "")
                    return
                if not pieces:
                    yield ": still here\n\n"
                await self._runs.until_news(run, seconds=LOOK_SECONDS, output_after=after)
            except Problem as problem:
                yield _end("gone", problem.detail or problem.title)
                return
            except (SQLAlchemyError, OSError):
                # The browser connects again, perhaps to an instance that has a database.
                return


def _end(status: str, said: str) -> str:
    return f"event: end\ndata: {json.dumps({'status': status, 'said': said})}\n\n"


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
