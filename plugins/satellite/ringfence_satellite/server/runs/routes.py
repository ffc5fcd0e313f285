"""The HTTP API of runs: asked for on a satellite, and from then on things with an address of their own.

Threat: what a script prints is told to whoever may read satellites. Mechanism: a run is shown, listed and cancelled
only for who may run scripts on its satellite as that is labelled now, and for who has asked for it. Not covered: a
token that is given the name of one that was revoked counts as the same asker.
"""

from dataclasses import replace
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    StringConstraints,
    model_validator,
)
from ringfence import PluginContext, WireModel
from ringfence.bounded import STORABLE, ShortText, Text, bounded_json
from ringfence.sandbox.policy import Needs
from ringfence.scripts import DEFAULT_TIMEOUT_MS, ScriptKind, ScriptRequest
from ringfence.web import (
    DEFAULT_LISTED,
    After,
    Limit,
    Principal,
    Problem,
    number_of,
    page,
    require,
    require_on,
)
from ringfence_script_packages.service import PackagesError, ScriptSets

from ringfence_satellite.protocol import RunScript, SetName
from ringfence_satellite.server import satellites
from ringfence_satellite.server.rules import FleetRules
from ringfence_satellite.server.runs import table
from ringfence_satellite.server.runs.requesting import DELIVER_WITHIN_SECONDS, Runs
from ringfence_satellite.server.runs.states import State
from ringfence_satellite.server.runs.table import Run
from ringfence_satellite.service import SatelliteBusy, UnknownSatellite

PATH = "/api/satellite/runs"
MAX_TIMEOUT_MS = 60 * 60 * 1000
MAX_SCRIPT_CHARACTERS = 1024 * 1024
MAX_CONTEXT_BYTES = 1024 * 1024
"""The largest context, as JSON: beside the largest script it still fits into a frame."""
MAX_ENV_BYTES = 128 * 1024
MAX_DELIVER_WITHIN_SECONDS = 24 * 3600.0
MAX_WAIT_SECONDS = 60.0
RETRY_AFTER_SECONDS = 5

Context = Annotated[Any, AfterValidator(lambda value: bounded_json(value, max_bytes=MAX_CONTEXT_BYTES))]
OutputAfter = Annotated[int | None, Query(ge=-1, lt=2**31, alias="outputAfter")]
Wait = Annotated[float, Query(ge=0, le=MAX_WAIT_SECONDS, allow_inf_nan=False)]


def _no_more_than_fits(env: dict[str, str]) -> dict[str, str]:
    """Variables that a frame holds beside a script and a context. Raises ValueError."""
    if sum(len(name.encode()) + len(value.encode()) for name, value in env.items()) > MAX_ENV_BYTES:
        raise ValueError(f"must have at most {MAX_ENV_BYTES} bytes together")
    return env


class NewRun(WireModel):
    """A script or a command to run on a satellite, under the policy that the satellite has applied.

    It is kept in the database until the satellite has it, with all that it is given, so secrets do not belong into it.
    For `deliver_within_seconds` it may wait for the satellite. It gets of the policy what it `needs` and no more, if it
    says so, and imports from the set of `packages`, which it brings to the satellite; a first one may come before them.
    """

    model_config = ConfigDict(extra="forbid")

    kind: ScriptKind
    script: Annotated[str, StringConstraints(max_length=MAX_SCRIPT_CHARACTERS), STORABLE] | None = None
    name: ShortText = ""
    command: tuple[Text, ...] | None = None
    args: tuple[Text, ...] = ()
    env: Annotated[dict[ShortText, Text], AfterValidator(_no_more_than_fits)] = Field(default_factory=dict)
    stdin: Text | None = None
    context: Context = None
    needs: Needs | None = None
    packages: SetName | None = None
    timeout_ms: Annotated[StrictInt, Field(ge=1, le=MAX_TIMEOUT_MS)] = DEFAULT_TIMEOUT_MS
    deliver_within_seconds: Annotated[
        StrictFloat, Field(gt=0, le=MAX_DELIVER_WITHIN_SECONDS, allow_inf_nan=False)
    ] = DELIVER_WITHIN_SECONDS

    @model_validator(mode="after")
    def _can_be_given(self) -> Self:
        self.request()
        return self

    def request(self) -> ScriptRequest:
        """What is to be run. Raises ValueError for what cannot be."""
        return ScriptRequest(
            kind=self.kind,
            script=self.script,
            context=self.context,
            timeout_ms=self.timeout_ms,
            env=self.env,
            command=self.command,
            name=self.name,
            args=self.args,
            stdin=self.stdin,
            needs=self.needs,
            packages=self.packages,
        )


def build(context: PluginContext, runs: Runs, rules: FleetRules) -> APIRouter:
    """The routes. Each needs the rule to run scripts, on the tags of the satellite that it is about."""
    router = APIRouter()
    Runner = Annotated[Principal, Depends(require(rules.run, narrowed=True))]

    async def found(run: UUID, runner: Principal, satellite: UUID | None) -> Run:
        shown = await runs.show(run, satellite=satellite)
        if shown is None:
            raise Problem(404, "No such run", detail=f"there is no run {run}, or not any more", run=str(run))
        if runner.name != shown.asked_by:
            require_on(runner, rules.run, shown.carried)
        return shown

    async def shown(
        run: UUID, runner: Principal, satellite: UUID | None, wait: float, output_after: int | None = None
    ) -> dict[str, Any]:
        asked = await found(run, runner, satellite)
        if wait and not asked.has_ended:
            await runs.until_news(run, seconds=wait, output_after=output_after)
        # First what it has written: that goes when it has a result.
        output = await runs.output(run, after=-1 if output_after is None else output_after)
        if wait and not asked.has_ended:
            asked = await found(run, runner, satellite)
        return {**asked.to_wire(), "output": output, "result": asked.result}

    async def cancelled(
        run: UUID, runner: Principal, satellite: UUID | None, wait: float, response: Response
    ) -> dict[str, Any]:
        await found(run, runner, satellite)
        await runs.cancel(run, by=runner.name)
        asked = await shown(run, runner, satellite, wait)
        response.status_code = 200 if asked["state"] == State.ENDED else 202
        return asked

    async def listed(
        runner: Principal, satellite: UUID | None, state: State | None, after: str | None, limit: int
    ) -> dict[str, Any]:
        async with context.sessions() as session:
            some = await table.listed(
                session,
                satellite=satellite,
                state=state,
                before=None if after is None else number_of(after),
                limit=limit + 1,
                reader=runner.name,
                reach=runner.reach(rules.run.name),
            )
        shown = page(some, limit, lambda one: str(one.number))
        return {"runs": [one.to_wire() for one in shown.entries], "next": shown.next}

    State_ = Annotated[State | None, Query()]

    @router.post("/satellites/{id}/runs", status_code=201)
    async def ask(
        id: UUID, wanted: NewRun, runner: Runner, response: Response, wait: Wait = 0
    ) -> dict[str, Any]:
        async with context.sessions() as session:
            satellite = await satellites.one(session, id)
        if satellite is None:
            raise _unknown(id)
        require_on(runner, rules.run, satellite.profile.carried)
        request = wanted.request()
        script = None if wanted.script is None else request
        try:
            packages = await context.services.get(ScriptSets).of(script, named=wanted.packages)
        except PackagesError as error:
            raise Problem(
                422, "The script cannot have its packages", detail=error.with_hint, problem=error.to_wire()
            ) from error
        frame = RunScript.asking_for("new", replace(request, packages=packages))
        try:
            run = await runs.ask(id, frame, by=runner.name, deliver_within=wanted.deliver_within_seconds)
        except UnknownSatellite as error:
            raise _unknown(id) from error
        except SatelliteBusy as error:
            raise Problem(
                429,
                "Too many runs on this satellite",
                detail=f"{error}: cancel some, or ask again when one has ended",
                headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
                satellite=str(id),
            ) from error
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


def _unknown(id: UUID) -> Problem:
    return Problem(404, "No such satellite", detail=f"there is no satellite {id}", satellite=str(id))
