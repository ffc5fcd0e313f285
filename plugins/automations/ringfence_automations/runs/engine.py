"""The engine: it starts runs, carries them on and ends them. What a run does next is decided by `course.py`.

Every decision is recorded in the transaction that also enqueues what follows from it, under the lock of the run's row.
So a run belongs to no instance: whoever has the next job about it goes on from the records.

Lock order: see `runs_table.py`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from ringfence import PluginContext
from ringfence.bounded import cleaned, cleaned_json
from ringfence.metrics import Counts
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_automations.hooks import (
    AutomationRunFinished,
    AutomationRunStarted,
    automation_run_finished,
    automation_run_started,
    stream_of_run,
)
from ringfence_automations.runs.admitting import Admitting
from ringfence_automations.runs.asking import Asking
from ringfence_automations.runs.carrying_on import MAX_MESSAGE_CHARACTERS, CarryingOn
from ringfence_automations.runs.compiled import Compiled, NoPlanError, Plans
from ringfence_automations.runs.deciding import told
from ringfence_automations.runs.deciding.moves import End, Outcome
from ringfence_automations.runs.deciding.plan import CannotEvaluateError, WaitEvent
from ringfence_automations.runs.deciding.records import Record, Status
from ringfence_automations.runs.deciding.visible import Visible
from ringfence_automations.runs.jobs import StepRef
from ringfence_automations.runs.starting import Starting
from ringfence_automations.runs.tables import runs_table, steps_table
from ringfence_automations.runs.tables.runs_table import Facts
from ringfence_automations.service import StepResult

MAX_ARTIFACT_BYTES = 256 * 1024
"""The largest artifact, as JSON."""
MAX_RUN_ARTIFACT_BYTES = 4 * 1024 * 1024
"""How large all artifacts of a run may be together: they are read whenever it goes on."""


@dataclass(slots=True)
class _Found:
    """An attempt at a step of a run, whose row is locked. `plan`: the run's, or why there is none."""

    facts: Facts
    plan: Compiled | NoPlanError
    records: dict[str, Record]
    record: Record


class Happened(Protocol):
    """An event of any hook."""

    @property
    def hook(self) -> str:
        """The hook's name."""
        ...

    @property
    def payload(self) -> Mapping[str, Any]:
        """Its payload as JSON."""
        ...

    @property
    def position(self) -> int:
        """Its place in the event log."""
        ...


Refused = Callable[[str, int, str], Awaitable[str | None]]
"""Why a revision of an automation may not be told of a hook's events; None if it may."""


class Engine:
    """Runs of automations, in the caller's transactions.

    `start` is that of `Starting`, `admit` that of `Admitting`, `cancel` and `look_at` those of `Asking`.
    """

    def __init__(self, context: PluginContext, plans: Plans) -> None:
        self._context = context
        self._plans = plans
        self.ended = Counts()
        """Runs of whose end was told here, by how they ended."""
        self._asking = Asking(context)
        admitting = Admitting(context, self._asking)
        self._carrying_on = CarryingOn(context, self._asking, admitting)
        self.start = Starting(context, plans, self._asking, self._carrying_on).start
        self.admit = admitting.admit
        self.cancel = self._asking.cancel
        self.look_at = self._asking.look_at

    async def advance(self, session: AsyncSession, run: UUID) -> None:
        """Carry a run on as far as it goes now."""
        facts = await runs_table.lock(session, run)
        if facts is None or facts.status not in ("queued", "running"):
            return
        if facts.status == "queued":
            if facts.closing is not None:
                await self._carrying_on.end(session, facts, End(facts.closing.status, facts.closing.message))
            return
        try:
            compiled = await self._plans.at(session, facts.automation, facts.revision)
        except NoPlanError as error:
            await self._carrying_on.end(session, facts, End(Outcome.FAILED, str(error)))
            return
        records = await steps_table.newest(session, run, artifacts=compiled.plan.evaluates)
        await self._carrying_on.on(session, facts, compiled, records)

    async def step_ended(
        self, session: AsyncSession, run: UUID, path: str, attempt: int, result: StepResult
    ) -> None:
        """Take in how an attempt at a step has ended. Told again, or too late, it changes nothing."""
        found = await self._found(session, run, path, attempt)
        if found is None:
            return
        facts, record = found.facts, found.record
        ok, message = result.ok, cleaned(result.message, MAX_MESSAGE_CHARACTERS)
        artifact = cleaned_json(dict(result.artifact))
        size = _size(artifact)
        if (too_large := _too_large(size, facts)) is not None:
            ok, artifact, size = False, {}, 0
            message = f"what it gave back is too large: {too_large}"
        now = told.ended(record, attempt=attempt, ok=ok, artifact=artifact, message=message, now=facts.now)
        if now is None:
            if record.status in (Status.FAILED, Status.CANCELLED, Status.INTERRUPTED):
                await steps_table.late(
                    session, run, path, attempt, {"ok": ok, "message": message, "artifact": artifact}
                )
            return
        await self._go_on(session, found, now, size)

    async def interrupted(self, session: AsyncSession, run: UUID, path: str, attempt: int) -> None:
        """Take in that an attempt had started, and that nobody will tell of its end."""
        found = await self._found(session, run, path, attempt)
        if found is None:
            return
        now = told.interrupted(found.record, attempt=attempt, now=found.facts.now)
        if now is not None:
            await self._go_on(session, found, now)

    async def event(self, session: AsyncSession, event: Happened, refused: Refused) -> None:
        """Have those go on that wait for this event; those for whom `refused` has a reason fail with it."""
        for run, path in await steps_table.waits(session, event.hook, event.position):
            facts = await runs_table.lock(session, run)
            if facts is None or facts.status != "running" or facts.closing is not None:
                continue
            records = await steps_table.newest(session, run)
            record = records.get(path)
            if record is None or record.status is not Status.WAITING:
                continue
            try:
                compiled = await self._plans.at(session, facts.automation, facts.revision)
                # Asked before the filter, which would tell of an event whether it holds.
                if (why := await refused(facts.automation, facts.revision, event.hook)) is not None:
                    heard: Record | None = told.cannot_wait(record, why, now=facts.now)
                else:
                    heard = await asyncio.to_thread(_heard, compiled, records, record, facts, event)
            except NoPlanError:
                continue
            if heard is not None:
                size = 0 if heard.artifact is None else _size(heard.artifact)
                if (too_large := _too_large(size, facts)) is not None:
                    heard, size = (
                        told.cannot_wait(record, f"the event is too large: {too_large}", now=facts.now),
                        0,
                    )
                await steps_table.write(session, run, [heard])
                await runs_table.grew(session, run, size)
                await self._asking.look_at(session, run)

    async def awaited_hooks(self, session: AsyncSession) -> frozenset[str]:
        """The hooks for whose events some run waits now."""
        return await steps_table.awaited_hooks(session)

    async def cancel_all(self, session: AsyncSession, automation: str, *, by: str | None, why: str) -> int:
        """Have all runs of an automation end; how many those are."""
        runs = await runs_table.of_automation(session, automation)
        return sum([await self._asking.cancel(session, run, by=by, why=why) for run in runs])

    async def tell_started(self, session: AsyncSession, run: UUID) -> None:
        """Emit that a run has begun."""
        await self._tell(session, run, finished=False)

    async def tell_finished(self, session: AsyncSession, run: UUID) -> None:
        """Emit that a run has ended."""
        await self._tell(session, run, finished=True)

    async def perform(self, session: AsyncSession, step: StepRef) -> None:
        """Have an attempt at a step carried out that is recorded already."""
        job = await self._carrying_on.enqueued(session, step)
        await steps_table.has_job(session, step.run, step.path, step.attempt, job)

    async def _go_on(self, session: AsyncSession, found: _Found, told: Record, grown: int = 0) -> None:
        """Carry a run on, of whose steps one has become what was `told`."""
        facts = found.facts
        if facts.status != "running":
            await self._carrying_on.keep(session, facts, [told], grown=grown)
            return
        if isinstance(found.plan, NoPlanError):
            await self._carrying_on.keep(session, facts, [told], grown=grown)
            await self._carrying_on.end(session, facts, End(Outcome.FAILED, str(found.plan)))
            return
        records = {**found.records, told.path: told}
        await self._carrying_on.on(session, facts, found.plan, records, told=[told], grown=grown)

    async def _found(self, session: AsyncSession, run: UUID, path: str, attempt: int) -> _Found | None:
        facts = await runs_table.lock(session, run)
        if facts is None:
            return None
        plan: Compiled | NoPlanError
        try:
            plan = await self._plans.at(session, facts.automation, facts.revision)
        except NoPlanError as error:
            plan = error
        sees = not isinstance(plan, NoPlanError) and plan.plan.evaluates
        records = await steps_table.newest(session, run, artifacts=sees)
        record = records.get(path)
        if record is None or record.attempt != attempt:
            earlier = await steps_table.one(session, run, path, attempt)
            return None if earlier is None else _Found(facts, plan, records, earlier[0])
        return _Found(facts, plan, records, record)

    async def _tell(self, session: AsyncSession, run: UUID, *, finished: bool) -> None:
        shown = await runs_table.one(session, run)
        if shown is None:
            return
        told: dict[str, Any] = {
            "run_id": shown.id,
            "automation": shown.automation,
            "revision": shown.revision,
            "trigger": shown.trigger["kind"],
            "depth": shown.depth,
        }
        stream = stream_of_run(run)
        if finished:
            ended = AutomationRunFinished(**told, status=shown.status, message=shown.message)
            await self._context.emit_hook(automation_run_finished, ended, session=session, stream=stream)
            self.ended.add(str(shown.status))
        else:
            begun = AutomationRunStarted(**told)
            await self._context.emit_hook(automation_run_started, begun, session=session, stream=stream)


def _heard(
    compiled: Compiled, records: Mapping[str, Record], record: Record, facts: Facts, event: Happened
) -> Record | None:
    """What a wait becomes by an event; None if it waits on."""
    step = compiled.plan.step_at(record.path)
    if not isinstance(step, WaitEvent):
        return None
    values = Visible(compiled.plan, records.values(), facts.values).values_at(record.path)
    try:
        if step.filter is not None and step.filter.evaluate({**values, "event": event.payload}) is not True:
            return None
    except CannotEvaluateError as error:
        return told.cannot_wait(record, str(error), now=facts.now)
    return told.heard_event(record, event.payload, now=facts.now)


def _size(artifact: Mapping[str, Any]) -> int:
    """How large an artifact is as JSON, in bytes."""
    return len(json.dumps(artifact, ensure_ascii=False).encode())


def _too_large(size: int, facts: Facts) -> str | None:
    """The bound that an artifact of this size is beyond, in words; None if it is within all."""
    if size > MAX_ARTIFACT_BYTES:
        return f"an artifact may have {MAX_ARTIFACT_BYTES} bytes"
    if facts.artifact_bytes + size > MAX_RUN_ARTIFACT_BYTES:
        return f"all artifacts of a run together may have {MAX_RUN_ARTIFACT_BYTES} bytes"
    return None
