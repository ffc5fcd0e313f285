"""How far an installation is, line by line, for as long as somebody looks: first on the host, then on satellites.

Server-sent events as the component `stream` reads them. What is told comes from the set's row, which the instance that
installs writes a few times a second, so any instance can tell it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from fastapi import Response
from fastapi.responses import StreamingResponse
from ringfence.pages import View
from ringfence.web import Problem
from sqlalchemy.exc import SQLAlchemyError

from ringfence_script_packages.packages.ports import PackageHolder
from ringfence_script_packages.packages.sets import NoSetError, Sets, State
from ringfence_script_packages.pages.packages.sets import held_counts
from ringfence_script_packages.pages.packages.words import doing, failure

LOOK_SECONDS = 0.5
MOST_SECONDS = 900.0
"""A page that is still open then is asked to be loaded again."""


class Following:
    """Answers the stream of a set."""

    def __init__(self, sets: Sets, holders: Callable[[], Sequence[PackageHolder]]) -> None:
        self._sets = sets
        self._holders = holders

    async def answer(self, view: View) -> Response:
        """The stream. Raises `Problem` where there is no such set."""
        name = view.parameters["name"]
        try:
            await self._sets.get(name)
        except NoSetError:
            raise Problem(404, "No such set", detail=f"There is no set of packages {name}.") from None
        return StreamingResponse(self._told(name, view), media_type="text/event-stream")

    async def _told(self, name: str, view: View) -> AsyncIterator[str]:
        last = ""
        try:
            async with asyncio.timeout(MOST_SECONDS):
                while True:
                    line, end = await self._now(name, view)
                    if line != last:
                        last = line
                        yield _event("output", {"stream": "stdout", "text": f"{line}\n"})
                    if end is not None:
                        yield _event("end", {"status": end, "said": line})
                        return
                    await asyncio.sleep(LOOK_SECONDS)
        except (NoSetError, TimeoutError, SQLAlchemyError, OSError):
            yield _event("end", {"status": "unknown", "said": "Reload the page to see the progress."})

    async def _now(self, name: str, view: View) -> tuple[str, str | None]:
        """What is to be said at this moment, and how it has ended, if it has."""
        found = await self._sets.get(name)
        if found.state is State.INSTALLING:
            return f"{doing(found)[:1].upper()}{doing(found)[1:]}.", None
        if found.error is not None:
            return failure(found.error), "failed"
        if found.lock_hash is None:
            return "Nothing has been installed yet.", "succeeded"
        counts = (await held_counts(self._holders(), {name: found.lock_hash}, view))[name]
        ready, total = counts["ready"], counts.total()
        lacking = total - ready - counts["offline"]
        if not total:
            return "Installed.", "succeeded"
        words = f"Installed. {ready} of {total} satellites have it."
        return words, None if lacking and not counts["failed"] else "succeeded"


def _event(name: str, data: Mapping[str, str]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
