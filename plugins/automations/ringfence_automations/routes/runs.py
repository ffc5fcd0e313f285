"""Runs of automations over HTTP: what became of each, what its steps did and wrote, and its end.

Who may see what is said in `by_hand/runs.py`.
"""

# No `from __future__ import annotations` here: FastAPI reads the annotations, and the rules are local names.
import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Query, Response
from ringfence import PluginContext
from ringfence.bounded import LongText, ShortText
from ringfence.web import DEFAULT_LISTED, After, Limit, Principal, Router, number_of, page, require

from ringfence_automations.access_rules import AccessRules
from ringfence_automations.by_hand.runs import RunsByHand
from ringfence_automations.runs.tables import kept_output, runs_table, steps_table
from ringfence_automations.runs.tables.runs_table import Run, RunStatus

MAX_WAIT_SECONDS = 60.0
LOOK_SECONDS = 0.5
"""How often a request that waits for something looks whether it is there."""

Wait = Annotated[float, Query(ge=0, le=MAX_WAIT_SECONDS, allow_inf_nan=False)]


def build(context: PluginContext, rules: AccessRules, by_hand: RunsByHand) -> Router:
    """The routes. Each needs the rule to see automations, or to run them."""
    router = Router()
    Reader = Annotated[Principal, Depends(require(rules.read))]
    Runner = Annotated[Principal, Depends(require(rules.run))]

    found = by_hand.one

    async def ended(run: UUID, wait: float) -> Run:
        """The run, once it has ended or so long has passed."""

        async def over() -> bool:
            return (await found(run)).has_ended

        await _until(context, wait, over)
        return await found(run)

    def shown(principal: Principal, run: Run) -> dict[str, Any]:
        wire = run.to_wire()
        return wire if by_hand.may_see_event(principal, run) else {**wire, "event": None}

    @router.get("/runs")
    async def list_runs(
        _: Reader,
        automation: Annotated[ShortText | None, Query()] = None,
        status: Annotated[RunStatus | None, Query()] = None,
        key: Annotated[LongText | None, Query()] = None,
        after: After = None,
        limit: Limit = DEFAULT_LISTED,
    ) -> dict[str, Any]:
        async with context.sessions() as session:
            some = await runs_table.listed(
                session,
                automation=automation,
                status=status,
                key=key,
                before=None if after is None else number_of(after),
                limit=limit + 1,
            )
        listed = page(some, limit, lambda one: str(one.number))
        return {"runs": [one.to_wire() for one in listed.entries], "next": listed.next}

    @router.get("/runs/{run}")
    async def show(run: UUID, reader: Reader, wait: Wait = 0) -> dict[str, Any]:
        return shown(reader, await ended(run, wait))

    @router.get("/runs/{run}/steps")
    async def list_steps(
        run: UUID, _: Reader, after: After = None, limit: Limit = DEFAULT_LISTED
    ) -> dict[str, Any]:
        await found(run)
        number = 0 if after is None else number_of(after)
        async with context.sessions() as session:
            some = await steps_table.shown(session, run, after=number, limit=limit + 1)
        listed = page(some, limit, lambda one: str(one.number))
        return {"steps": [one.to_wire() for one in listed.entries], "next": listed.next}

    @router.get("/runs/{run}/output")
    async def read_output(
        run: UUID, _: Reader, after: After = None, limit: Limit = DEFAULT_LISTED, wait: Wait = 0
    ) -> dict[str, Any]:
        """What was written after that piece. `last` is where to go on; `ended`: nothing more comes."""
        number = 0 if after is None else number_of(after)
        pieces: list[kept_output.Piece] = []
        is_over = False

        async def anything() -> bool:
            nonlocal pieces, is_over
            is_over = (await found(run)).has_ended
            async with context.sessions() as session:
                pieces = await kept_output.read(session, run, after=number, limit=limit)
            return bool(pieces) or is_over

        await anything()
        if not pieces and not is_over:
            await _until(context, wait, anything)
        return {
            "output": [one.to_wire() for one in pieces],
            "last": str(pieces[-1].number if pieces else number),
            "ended": is_over and len(pieces) < limit,
        }

    @router.post("/runs/{run}/cancel")
    async def cancel(run: UUID, runner: Runner, response: Response, wait: Wait = 0) -> dict[str, Any]:
        await by_hand.cancel(run, runner)
        asked = await ended(run, wait)
        response.status_code = 200 if asked.has_ended else 202
        if not runner.holds(rules.read.name):
            return {**asked.to_wire(), "event": None, "inputs": None}
        return shown(runner, asked)

    return router


async def _until(context: PluginContext, seconds: float, check: Callable[[], Awaitable[bool]]) -> None:
    """Return when `check` holds, after so many seconds, or when the instance is about to stop."""
    if not seconds or await check():
        return
    try:
        async with context.waiting(seconds):
            while not await check():  # noqa: ASYNC110  (another instance may be the one that changes it)
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError:
        pass
