"""What somebody may do with runs: asked for, shown, listed and cancelled by the rules that they hold.

Routes and pages go through this, so that both refuse the same. Threat: what a script prints is told to whoever may
read satellites. Mechanism: a run is shown, listed and cancelled only for who may run scripts on its satellite as that
is labelled now, and for who has asked for it. Not covered: a token that is given the name of one that was revoked
counts as the same asker.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Self
from uuid import UUID

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
from ringfence.web import Page, Principal, Problem, number_of, page, require_on
from ringfence_script_packages.service import PackagesError, ScriptSets

from ringfence_satellite.protocol import RunScript, SetName
from ringfence_satellite.server import satellites
from ringfence_satellite.server.guarded_fleet import found, unknown
from ringfence_satellite.server.rules import FleetRules
from ringfence_satellite.server.runs import table
from ringfence_satellite.server.runs.requesting import DELIVER_WITHIN_SECONDS, Runs
from ringfence_satellite.server.runs.states import State
from ringfence_satellite.server.runs.table import Run
from ringfence_satellite.service import SatelliteBusy, UnknownSatellite

MAX_TIMEOUT_MS = 60 * 60 * 1000
MAX_SCRIPT_CHARACTERS = 1024 * 1024
MAX_CONTEXT_BYTES = 1024 * 1024
"""The largest context, as JSON: beside the largest script it still fits into a frame."""
MAX_ENV_BYTES = 128 * 1024
MAX_DELIVER_WITHIN_SECONDS = 24 * 3600.0
RETRY_AFTER_SECONDS = 5

Context = Annotated[Any, AfterValidator(lambda value: bounded_json(value, max_bytes=MAX_CONTEXT_BYTES))]


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


class GuardedRuns:
    """Runs behind the rule to run scripts. Each method raises `Problem`, as a route would answer it."""

    def __init__(self, context: PluginContext, runs: Runs, rules: FleetRules) -> None:
        self._context = context
        self._runs = runs
        self._rules = rules

    async def ask(self, satellite: UUID, wanted: NewRun, runner: Principal) -> UUID:
        """Ask for a run; its id."""
        async with self._context.sessions() as session:
            there = found(await satellites.one(session, satellite), satellite)
        require_on(runner, self._rules.run, there.profile.carried)
        request = wanted.request()
        script = None if wanted.script is None else request
        try:
            packages = await self._context.services.get(ScriptSets).of(script, named=wanted.packages)
        except PackagesError as error:
            raise Problem(
                422, "The script cannot have its packages", detail=error.with_hint, problem=error.to_wire()
            ) from error
        frame = RunScript.asking_for("new", replace(request, packages=packages))
        try:
            return await self._runs.ask(
                satellite, frame, by=runner.name, deliver_within=wanted.deliver_within_seconds
            )
        except UnknownSatellite as error:
            raise unknown(satellite) from error
        except SatelliteBusy as error:
            raise Problem(
                429,
                "Too many runs on this satellite",
                detail=f"{error}: cancel some, or ask again when one has ended",
                headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
                satellite=str(satellite),
            ) from error

    async def found(self, run: UUID, runner: Principal, satellite: UUID | None) -> Run:
        """The run, if it may be shown."""
        shown = await self._runs.show(run, satellite=satellite)
        if shown is None:
            raise Problem(404, "No such run", detail=f"there is no run {run}, or not any more", run=str(run))
        if runner.name != shown.asked_by:
            require_on(runner, self._rules.run, shown.carried)
        return shown

    async def output(self, run: Run) -> list[dict[str, Any]]:
        """What a run that may be shown has written so far."""
        return await self._runs.output(run.id, after=-1)

    async def cancel(self, run: UUID, runner: Principal, satellite: UUID | None) -> None:
        """Have the run ended."""
        await self.found(run, runner, satellite)
        await self._runs.cancel(run, by=runner.name)

    async def listed(
        self, runner: Principal, satellite: UUID | None, state: State | None, after: str | None, limit: int
    ) -> Page[Run]:
        """The runs that may be shown, newest first."""
        async with self._context.sessions() as session:
            some = await table.listed(
                session,
                satellite=satellite,
                state=state,
                before=None if after is None else number_of(after),
                limit=limit + 1,
                reader=runner.name,
                reach=runner.reach(self._rules.run.name),
            )
        return page(some, limit, lambda one: str(one.number))
