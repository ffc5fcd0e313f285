"""The HTTP API of runs: asked for on a satellite, and from then on things with an address of their own."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Query, Response
from ringfence.web import DEFAULT_LISTED, After, Limit, Principal, Router, require

from ringfence_satellite.server.rules import FleetRules
from ringfence_satellite.server.runs.guarded import GuardedRuns, NewRun
from ringfence_satellite.server.runs.requesting import Runs
from ringfence_satellite.server.runs.states import State

PATH = "/api/satellite/runs"
MAX_WAIT_SECONDS = 60.0

OutputAfter = Annotated[int | None, Query(ge=-1, lt=2**31, alias="outputAfter")]
Wait = Annotated[float, Query(ge=0, le=MAX_WAIT_SECONDS, allow_inf_nan=False)]


def build(runs: Runs, guarded: GuardedRuns, rules: FleetRules) -> Router:
    """The routes. Each needs the rule to run scripts, on the tags of the satellite that it is about."""
    router = Router()
    Runner = Annotated[Principal, Depends(require(rules.run, narrowed=True))]

    async def shown(
        run: UUID, runner: Principal, satellite: UUID | None, wait: float, output_after: int | None = None
    ) -> dict[str, Any]:
        asked = await guarded.found(run, runner, satellite)
        if wait and not asked.has_ended:
            await runs.until_news(run, seconds=wait, output_after=output_after)
        # First what it has written: that goes when it has a result.
        output = await runs.output(run, after=-1 if output_after is None else output_after)
        if wait and not asked.has_ended:
            asked = await guarded.found(run, runner, satellite)
        return {**asked.to_wire(), "output": output, "result": asked.result}

    async def cancelled(
        run: UUID, runner: Principal, satellite: UUID | None, wait: float, response: Response
    ) -> dict[str, Any]:
        await guarded.cancel(run, runner, satellite)
        asked = await shown(run, runner, satellite, wait)
        response.status_code = 200 if asked["state"] == State.ENDED else 202
        return asked

    async def listed(
        runner: Principal, satellite: UUID | None, state: State | None, after: str | None, limit: int
    ) -> dict[str, Any]:
        shown = await guarded.listed(runner, satellite, state, after, limit)
        return {"runs": [one.to_wire() for one in shown.entries], "next": shown.next}

    State_ = Annotated[State | None, Query()]

    @router.post("/satellites/{id}/runs", status_code=201)
    async def ask(
        id: UUID, wanted: NewRun, runner: Runner, response: Response, wait: Wait = 0
    ) -> dict[str, Any]:
        run = await guarded.ask(id, wanted, runner)
        response.headers["Location"] = f"{PATH}/{run}"
        return await shown(run, runner, id, wait)

    @router.get("/runs")
    async def list_all(
        runner: Runner,
        satellite: Annotated[UUID | None, Query()] = None,
        state: State_ = None,
        after: After = None,
        limit: Limit = DEFAULT_LISTED,
    ) -> dict[str, Any]:
        return await listed(runner, satellite, state, after, limit)

    @router.get("/satellites/{id}/runs")
    async def list_of_one(
        id: UUID, runner: Runner, state: State_ = None, after: After = None, limit: Limit = DEFAULT_LISTED
    ) -> dict[str, Any]:
        return await listed(runner, id, state, after, limit)

    @router.get("/runs/{run}")
    async def show(
        run: UUID, runner: Runner, wait: Wait = 0, output_after: OutputAfter = None
    ) -> dict[str, Any]:
        return await shown(run, runner, None, wait, output_after)

    @router.get("/satellites/{id}/runs/{run}")
    async def show_of_one(
        id: UUID, run: UUID, runner: Runner, wait: Wait = 0, output_after: OutputAfter = None
    ) -> dict[str, Any]:
        return await shown(run, runner, id, wait, output_after)

    @router.delete("/runs/{run}")
    async def cancel(run: UUID, runner: Runner, response: Response, wait: Wait = 0) -> dict[str, Any]:
        return await cancelled(run, runner, None, wait, response)

    @router.delete("/satellites/{id}/runs/{run}")
    async def cancel_of_one(
        id: UUID, run: UUID, runner: Runner, response: Response, wait: Wait = 0
    ) -> dict[str, Any]:
        return await cancelled(run, runner, id, wait, response)

    return router
