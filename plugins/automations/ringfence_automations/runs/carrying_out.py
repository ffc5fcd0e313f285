"""Steps are carried out here, by jobs: one begins an attempt, another ends one where it is.

Threat: an effect outside of the database cannot be taken back, and nobody can say of it after a crash whether it came
about. Mechanism: that an attempt has started is committed before anything is done, together with the job that does it.
That job finds it started only if it has lost the instance that did it. Then the attempt is recorded as interrupted, and
the step's own rule decides; unless asking for it again does nothing twice. Not covered: an instance that was frozen,
and not lost, may go on for a moment with an attempt that was given up.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

from ringfence import PluginContext, RunningJob
from ringfence.web import Principal
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_automations.runs.carrying_on import LOOK_SECONDS
from ringfence_automations.runs.compiled import NoPlanError, Plans
from ringfence_automations.runs.deciding import course
from ringfence_automations.runs.deciding.plan import Work
from ringfence_automations.runs.deciding.records import Record, Status
from ringfence_automations.runs.deciding.visible import Visible
from ringfence_automations.runs.engine import Engine
from ringfence_automations.runs.jobs import StepRef
from ringfence_automations.runs.performer import Performer
from ringfence_automations.runs.tables import runs_table, steps_table
from ringfence_automations.runs.tables.runs_table import Facts
from ringfence_automations.service import StepRequest, StepResult

SAY_SECONDS = 5.0
"""How long an attempt that was cancelled may take to say so."""

ActsFor = Callable[[str, int], Awaitable[Principal]]
"""Whom a revision of an automation acts for, with the rules that they hold now."""


class CarryingOut:
    """Begins and ends attempts at steps, by the one who can do them."""

    def __init__(
        self, context: PluginContext, plans: Plans, engine: Engine, acts_for: ActsFor, performer: Performer
    ) -> None:
        self._context = context
        self._plans = plans
        self._engine = engine
        self._acts_for = acts_for
        self._performer = performer

    async def perform(self, job: RunningJob[StepRef], session: AsyncSession) -> None:
        """Carry out an attempt, and record how it has ended in the transaction that ends the job."""
        step = job.payload
        async with self._context.sessions.begin() as first:
            request = await self._begin(first, job, session)
        if request is None:
            return
        try:
            result = await self._performer.perform(request)
        except asyncio.CancelledError:
            # Whoever has cancelled this waits for a moment.
            await asyncio.wait_for(self._stopped(request, cancelled=job.cancelled.is_set()), SAY_SECONDS)
            raise
        if isinstance(result, StepResult):
            await self._engine.step_ended(session, step.run, step.path, step.attempt, result)

    async def end(self, job: RunningJob[StepRef], session: AsyncSession) -> None:
        """End an attempt where it is."""
        step = job.payload
        async with self._context.sessions.begin() as reading:
            facts = await runs_table.lock(reading, step.run)
            records = {} if facts is None else await steps_table.newest(reading, step.run)
            record = records.get(step.path)
            if facts is None or record is None or record.attempt != step.attempt:
                return
            if record.status is not Status.RUNNING:
                return
            request = await self._request(reading, facts, record, records.values(), session)
        if request is not None:
            await self._performer.cancel(request)

    async def _begin(
        self, first: AsyncSession, job: RunningJob[StepRef], session: AsyncSession
    ) -> StepRequest | None:
        """What is to be done for an attempt, which is recorded as started; None if nothing is."""
        step, id = job.payload, self._context.instance_id
        facts = await runs_table.lock(first, step.run)
        known = {} if facts is None else await steps_table.with_jobs(first, step.run)
        found = known.get(step.path)
        if facts is None or found is None or found[0].attempt != step.attempt:
            return None
        record, owner = found
        if record.status is not Status.RUNNING:
            return None
        if facts.status != "running":
            # Its revision could not be read any more, and so the run has ended in the middle of it.
            return None
        if record.started is not None and owner != job.id:
            return None
        records = [one for one, _ in known.values()]
        request = await self._request(first, facts, record, records, session)
        if record.started is None:
            await steps_table.started(first, step.run, step.path, step.attempt, instance=id, job=job.id)
        elif request is not None and record.ending is None and self._performer.is_repeatable(request):
            return replace(request, is_asked_again=True)
        else:
            await self._engine.interrupted(first, step.run, step.path, step.attempt)
            return None
        if request is None:
            lost = StepResult(ok=False, message="the definition that it belongs to cannot be read any more")
            await self._engine.step_ended(first, step.run, step.path, step.attempt, lost)
            return None
        too_late = request.deadline.timestamp() + course.TIMEOUT_GRACE_SECONDS
        if too_late - facts.now < LOOK_SECONDS:
            await self._engine.look_at(first, step.run, at=too_late)
        # Otherwise it is looked at before that in any case, and then again in time.
        return request

    async def _request(
        self,
        reading: AsyncSession,
        facts: Facts,
        record: Record,
        records: Iterable[Record],
        session: AsyncSession,
    ) -> StepRequest | None:
        """What is asked for an attempt; None if its definition cannot be had."""
        try:
            compiled = await self._plans.at(reading, facts.automation, facts.revision)
        except NoPlanError:
            return None
        work = compiled.plan.step_at(record.path)
        if not isinstance(work, Work):
            return None
        visible = Visible(compiled.plan, records, facts.values)
        begins = facts.now if record.started is None else record.started
        ends = begins + work.timeout

        async def acts_for() -> Principal:
            return await self._acts_for(facts.automation, facts.revision)

        return StepRequest(
            run=facts.id,
            path=record.path,
            attempt=record.attempt,
            automation=facts.automation,
            revision=facts.revision,
            kind=work.kind,
            body=dict(work.body),
            values=visible.values_at(record.path),
            acts_for=acts_for,
            deadline=dt.datetime.fromtimestamp(ends, dt.UTC),
            session=session,
        )

    async def _stopped(self, request: StepRequest, *, cancelled: bool) -> None:
        """Record that an attempt was stopped here: on purpose, or because the instance stops.

        In the second case one that can be asked for again will be, by the same job.
        """
        run, path, attempt = request.run, request.path, request.attempt
        async with self._context.sessions.begin() as own:
            if cancelled:
                result = StepResult(ok=False, message="it was cancelled")
                await self._engine.step_ended(own, run, path, attempt, result)
            elif not self._performer.is_repeatable(request):
                await self._engine.interrupted(own, run, path, attempt)
