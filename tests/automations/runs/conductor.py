"""A plugin of the tests' own around the engine: its automations are plans, and its steps do what a test says."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from ringfence import Hook, PluginContext, PluginInfo, Registry, hookimpl
from ringfence.testing import eventually
from ringfence.web import Principal
from ringfence_automations.access_rules import AccessRules
from ringfence_automations.by_hand.runs import RunsByHand
from ringfence_automations.definitions.automations import Automations
from ringfence_automations.routes import runs as run_routes
from ringfence_automations.runs import wiring as runs
from ringfence_automations.runs.compiled import Compiled, NoPlanError
from ringfence_automations.runs.deciding.plan import Plan, Step
from ringfence_automations.runs.engine import Engine
from ringfence_automations.runs.starting import Skipped, TriggerFact
from ringfence_automations.runs.tables import runs_table, steps_table
from ringfence_automations.runs.tables.runs_table import Run
from ringfence_automations.service import Elsewhere, StepRequest, StepResult
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

Doing = Callable[[StepRequest], Awaitable[StepResult | Elsewhere]]


def by_hand(**more: Any) -> TriggerFact:
    return TriggerFact(kind="manual", time=dt.datetime.now(dt.UTC), **more)


async def do_well(request: StepRequest) -> StepResult:
    return StepResult(ok=True, artifact={"path": request.path})


async def elsewhere(request: StepRequest) -> Elsewhere:
    return Elsewhere("on the moon")


@dataclass
class Score:
    """What all conductors of a fleet share: the automations, and what their steps do."""

    plans: dict[tuple[str, int], Compiled] = field(default_factory=dict)
    doing: dict[str, Doing] = field(default_factory=dict)
    performed: list[tuple[str, int]] = field(default_factory=list)
    ended: list[tuple[str, int]] = field(default_factory=list)
    repeatable: bool = False

    def have(self, *steps: Step, name: str = "a", revision: int = 1, **more: Any) -> None:
        self.plans[name, revision] = Compiled(name=name, revision=revision, plan=Plan(steps), **more)

    async def at(self, session: AsyncSession, name: str, revision: int) -> Compiled:
        try:
            return self.plans[name, revision]
        except KeyError:
            raise NoPlanError(f"there is no revision {revision} of {name}") from None


class ThingDone(BaseModel):
    name: str = "x"


thing_done = Hook("thing-done", ThingDone, payload_rule="automations.automation.manage")


class Conductor:
    """The plugin. It carries out steps itself."""

    def __init__(self, score: Score | None = None) -> None:
        self.info = PluginInfo(id="automations", version="1")
        self.score = score or Score()
        self.context: PluginContext

    @hookimpl
    def register(self, registry: Registry) -> None:
        registry.migrations("ringfence_migrations.automations")
        self.rules = AccessRules.declared(registry)
        registry.hook(thing_done)
        runs.declare(registry)

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        self.context = context
        self.runs = runs.Runs(context, self.score, self._nobody, keep_seconds=3600.0, pause=self.pause)
        context.web.router(
            run_routes.build(context, self.rules, RunsByHand(context, Automations(context), self.engine))
        )

    @hookimpl
    async def after_plugins_ready(self, context: PluginContext) -> None:
        await self.runs.begin()
        self.runs.carried_out_by(self)

    @property
    def engine(self) -> Engine:
        return self.runs.engine

    async def pause(self, session: AsyncSession, name: str, reason: str, too_often: Any) -> int | None:
        return None

    async def _nobody(self, name: str, revision: int) -> Principal:
        raise AssertionError("these steps act for nobody")

    async def perform(self, request: StepRequest) -> StepResult | Elsewhere:
        self.score.performed.append((request.path, request.attempt))
        return await self.score.doing.get(request.path, do_well)(request)

    async def cancel(self, request: StepRequest) -> None:
        self.score.ended.append((request.path, request.attempt))

    def is_repeatable(self, request: StepRequest) -> bool:
        return self.score.repeatable

    async def start(self, name: str = "a", revision: int = 1, **more: Any) -> UUID | Skipped:
        more = {"trigger": by_hand(), "event": {}, **more}
        async with self.context.sessions.begin() as session:
            return await self.engine.start(session, name, revision, **more)

    async def begun(self, name: str = "a", **more: Any) -> UUID:
        run = await self.start(name, **more)
        assert isinstance(run, UUID)
        return run

    async def cancel_run(self, run: UUID) -> bool:
        async with self.context.sessions.begin() as session:
            return await self.engine.cancel(session, run, by="ann")

    async def run(self, id: UUID) -> Run:
        async with self.context.sessions() as session:
            found = await runs_table.one(session, id)
        assert found is not None
        return found

    async def ended(self, id: UUID) -> Run:
        """The run, once it has ended."""

        async def over() -> Run | None:
            found = await self.run(id)
            return found if found.has_ended else None

        found = await eventually(over)
        assert found is not None
        return found

    async def steps(self, id: UUID) -> list[tuple[str, int, str]]:
        async with self.context.sessions() as session:
            return [
                (one.path, one.attempt, one.status)
                for one in await steps_table.shown(session, id, after=0, limit=1000)
            ]

    async def performing(self, *wanted: tuple[str, int]) -> None:
        """Return when these attempts have begun."""

        async def all_of_them() -> bool:
            return set(wanted) <= set(self.score.performed)

        assert await eventually(all_of_them)

    async def tell(self, run: UUID, path: str, result: StepResult, attempt: int = 1) -> None:
        async with self.context.sessions.begin() as session:
            await self.engine.step_ended(session, run, path, attempt, result)

    async def do(self, statement: str, **values: Any) -> None:
        async with self.context.sessions.begin() as session:
            await session.execute(text(statement), values)


@dataclass
class Gate:
    """Work that goes on until it is let go. Cancelled, it says so."""

    result: StepResult = field(default_factory=lambda: StepResult(ok=True))
    open: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: bool = False

    async def __call__(self, request: StepRequest) -> StepResult:
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return self.result
