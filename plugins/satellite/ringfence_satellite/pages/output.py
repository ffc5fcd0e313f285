"""What a run writes, to whoever watches its page: server-sent events for as long as it runs.

Threat: somebody reads none of it, or goes on hearing after their rights were narrowed. Mechanism: nothing waits in
memory: a stream reads from the table where the browser has got to, and only when that has taken what came before;
rights are looked up anew before each message. How many streams there may be, and that they end with the session, is
seen to by the host. Not covered: what was written until then.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from uuid import UUID

from fastapi import Response
from fastapi.responses import StreamingResponse
from ringfence.pages import View, spelt_out
from ringfence.web import Problem
from sqlalchemy.exc import SQLAlchemyError

from ringfence_satellite.pages.finding import id_of
from ringfence_satellite.server.runs.guarded import GuardedRuns
from ringfence_satellite.server.runs.requesting import Runs

LOOK_SECONDS = 5.0
"""How often a stream says that it is still there while a run writes nothing."""
RETRY_MILLISECONDS = 1000


class Output:
    """The streams of one instance."""

    def __init__(self, runs: Runs, guarded: GuardedRuns) -> None:
        self._runs = runs
        self._guarded = guarded

    async def answer(self, view: View) -> Response:
        """The stream of a run, from after the piece that the browser has."""
        run, satellite = id_of(view.parameters["run"]), id_of(view.parameters["id"])
        await self._guarded.found(run, view.principal, satellite)
        after = _number(view.last_event_id or view.query.get("after", ""))
        return StreamingResponse(
            self._messages(view, run, satellite, after),
            media_type="text/event-stream",
            headers={"X-Accel-Buffering": "no"},
        )

    async def _messages(self, view: View, run: UUID, satellite: UUID, after: int) -> AsyncIterator[str]:
        yield f"retry: {RETRY_MILLISECONDS}\n\n"
        while True:
            try:
                principal = await view.rights()
                if principal is None:
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
