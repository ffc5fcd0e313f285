"""A plugin of the tests' own around triggers and the engine: its automations are written straight into the tables."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from ringfence import Hook, PluginContext, Registry, TokenHolder, hookimpl
from ringfence.eventlog import read_stream
from ringfence.testing import eventually
from ringfence.web import Principal
from ringfence_automations.by_hand.webhooks import Webhooks
from ringfence_automations.definitions.automations import Automations
from ringfence_automations.definitions.definition import Definition
from ringfence_automations.hooks import READ, automation_changed, stream_of
from ringfence_automations.routes import triggers as routes
from ringfence_automations.runs.deciding.plan import WaitEvent, Work
from ringfence_automations.runs.tables import runs_table
from ringfence_automations.runs.tables.runs_table import Run
from ringfence_automations.triggers import wiring as triggers
from ringfence_satellite.hooks import satellite_run_finished
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from tests.automations.runs.conductor import Conductor, Score


class Bell(BaseModel):
    """A bell has rung."""

    n: int
    loud: bool = False
    tower: str | None = None


rung = Hook("bell-rung", Bell)
cracked = Hook("bell-cracked", Bell)
marked = Hook("bell-marked", Bell)
hidden = Hook("bell-hidden", Bell, payload_rule="probe.bell.hear")

HOLDER = TokenHolder(str(uuid.uuid4()), Principal("admin", frozenset()))


class Machine(Conductor):
    """The plugin, with hooks of its own to be triggered by."""

    def __init__(self, score: Score | None = None) -> None:
        super().__init__(score)
        self.info = replace(self.info, requires=("secrets",))
        self._marks = 0
        self.held: set[str] = {READ}

    @hookimpl
    def register(self, registry: Registry) -> None:
        super().register(registry)
        for hook in (rung, cracked, marked, hidden, automation_changed, satellite_run_finished):
            registry.hook(hook)
        triggers.declare(registry)

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        await super().init(context)
        self.automations = Automations(context)
        self.triggers = triggers.Triggers(context, self.automations, self._acts_for, self.runs)
        routes.add(context, self.rules, self.triggers, Webhooks(context, self.triggers.hearing))

    @hookimpl
    async def after_plugins_ready(self, context: PluginContext) -> None:
        await super().after_plugins_ready(context)
        await self.triggers.begin()

    async def apply(self, name: str, *given: dict[str, Any], enabled: bool = True, **more: Any) -> None:
        """Have an automation with these triggers."""
        written = {"name": name, "triggers": given, "steps": [{"wait": {"for": "1s"}}], "enabled": enabled}
        definition = Definition.model_validate({**written, **more})
        async with self.context.sessions.begin() as session:
            await self.automations.turn(session)
            # The plan is there before anybody can hear of the revision.
            before = await read_stream(session, stream_of(name), limit=1, newest_first=True)
            self.score.have(
                Work(id="work", kind="work", body={}),
                name=name,
                revision=before[0].version + 1 if before else 1,
                mode=definition.mode,
                most=definition.max,
            )
            await self.automations.write(session, definition, HOLDER, by="me")

    async def delete(self, name: str) -> None:
        async with self.context.sessions.begin() as session:
            await self.automations.turn(session)
            assert await self.automations.delete(session, name, by="me")

    async def pause(self, session: AsyncSession, name: str, reason: str, too_often: Any) -> int | None:
        return await self.automations.pause(session, name, reason, too_often)

    async def _acts_for(self, name: str, revision: int) -> Principal:
        return Principal("admin", frozenset(self.held))

    async def ring(self, *numbers: int, hook: Hook[Bell] = rung, **more: Any) -> int:
        """Have something happen; answers the position of the last."""
        for n in numbers:
            event = await self.context.emit_hook(hook, Bell(n=n, **more), standalone=True)
        return event.position

    async def shown(self, name: str) -> list[Run]:
        """The runs of an automation, oldest first."""
        async with self.context.sessions() as session:
            found = await runs_table.listed(
                session, automation=name, status=None, key=None, before=None, limit=500
            )
        whole = []
        async with self.context.sessions() as session:
            for one in found:
                run = await runs_table.one(session, one.id)
                assert run is not None
                whole.append(run)
        return whole[::-1]

    async def begun_by(self, name: str, count: int) -> list[Run]:
        """The runs of an automation, once there are so many."""

        async def enough() -> list[Run]:
            found = await self.shown(name)
            return found if len(found) >= count else []

        return await eventually(enough)

    async def settled(self) -> None:
        """Return when all that has happened so far has been matched."""
        if not self._marks:
            await self.apply("sentinel", {"hook": marked.name}, mode="parallel", max=100)
        self._marks += 1
        await self.ring(self._marks, hook=marked)
        await self.begun_by("sentinel", self._marks)

    def waiting_for(self, name: str, hook: str) -> None:
        """Have the newest revision of an automation wait for an event."""
        revision = max(known for one, known in self.score.plans if one == name)
        self.score.have(WaitEvent(id="wait", hook=hook), name=name, revision=revision)

    async def waits_in(self, run: UUID) -> None:
        """Return when a run waits for an event."""

        async def waits() -> bool:
            return ("wait", 1, "waiting") in await self.steps(run)

        await eventually(waits)

    async def somebody_waits_for_the_key(self, automation: str) -> bool:
        """Whether a start of this automation waits until another one is over."""
        async with self.context.sessions() as session:
            waiting = await session.execute(
                text("""
                    SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                       AND (CAST(classid AS bigint) << 32 | CAST(objid AS bigint)) = hashtextextended(:key, 17)
                """),
                {"key": json.dumps([automation, ""])},
            )
            return waiting.first() is not None

    async def can_be_locked(self, session: AsyncSession, run: uuid.UUID) -> bool:
        """Whether nobody else has the row of a run."""
        found = await session.execute(
            text("SELECT FROM automations_runs WHERE id = :run FOR UPDATE SKIP LOCKED"), {"run": run}
        )
        return found.first() is not None
