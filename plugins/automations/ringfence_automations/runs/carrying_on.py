"""A run is carried on here: what is decided about it is recorded, with the jobs that follow, in one transaction.

Whoever records something of a run goes on with it at once, as far as nothing from outside is needed: whoever starts it
begins its first steps, and what tells of a step's end begins the next one, or ends the run.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from uuid import UUID

import structlog
from ringfence import PluginContext
from ringfence.bounded import cleaned
from ringfence.eventlog import last_position
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_automations.runs.admitting import Admitting
from ringfence_automations.runs.asking import Asking
from ringfence_automations.runs.compiled import Compiled
from ringfence_automations.runs.deciding import course
from ringfence_automations.runs.deciding.moves import End, Moves
from ringfence_automations.runs.deciding.records import Record
from ringfence_automations.runs.jobs import (
    ADMIT,
    END_STEP,
    PERFORM_STEP,
    TELL_FINISHED,
    EndedRun,
    KeyRef,
    StepRef,
)
from ringfence_automations.runs.tables import runs_table, steps_table
from ringfence_automations.runs.tables.runs_table import Facts

MAX_MESSAGE_CHARACTERS = 2000
LOOK_SECONDS = 900.0
"""A run for which nothing is due is looked at so often all the same."""

_log = structlog.get_logger("ringfence.automations")


class CarryingOn:
    """Decides what runs do next, and records it."""

    def __init__(self, context: PluginContext, asking: Asking, admitting: Admitting) -> None:
        self._context = context
        self._asking = asking
        self._admitting = admitting

    async def on(
        self,
        session: AsyncSession,
        facts: Facts,
        compiled: Compiled,
        records: Mapping[str, Record],
        *,
        told: Sequence[Record] = (),
        grown: int = 0,
    ) -> None:
        """Carry a run on as far as it goes now, whose row is locked.

        `told`: those of the records that are to be written, too; `grown`: by how many bytes of artifacts.
        """
        try:
            moves = await self.moves(session, facts, compiled, records)
        except Exception:
            if not told:
                raise
            # What was told is kept in any case; whoever comes next may be able to go on.
            _log.exception("a run cannot be carried on; trying again", run=str(facts.id))
            await self.keep(session, facts, told, grown=grown)
            await self._asking.look_at(session, facts.id)
            return
        await self.make(session, facts, moves, told=told, grown=grown, has_timers=compiled.plan.has_timers)

    async def keep(
        self, session: AsyncSession, facts: Facts, told: Sequence[Record], *, grown: int = 0
    ) -> None:
        """Record what was told of steps, and no more."""
        await steps_table.write(session, facts.id, told)
        await runs_table.grew(session, facts.id, grown)

    async def moves(
        self, session: AsyncSession, facts: Facts, compiled: Compiled, records: Mapping[str, Record]
    ) -> Moves:
        """What a run does next."""
        heard = await last_position(session) if compiled.plan.hears else 0

        def decided() -> Moves:
            return course.advance(
                compiled.plan,
                records,
                values=facts.values,
                now=facts.now,
                closing=facts.closing,
                heard=heard,
            )

        # Only expressions take long.
        return await asyncio.to_thread(decided) if compiled.plan.evaluates else decided()

    async def make(
        self,
        session: AsyncSession,
        facts: Facts,
        moves: Moves,
        *,
        told: Sequence[Record] = (),
        grown: int = 0,
        has_timers: bool = True,
    ) -> None:
        """Record moves, and enqueue what follows from them."""
        await self.steps(session, facts, moves, told=told)
        for record in moves.tell_to_end:
            await self._tell_to_end(session, facts, record)
        if moves.end is not None:
            await self.end(session, facts, moves.end, grown=grown, has_timers=has_timers)
            return
        wake = facts.now + LOOK_SECONDS if moves.wake is None else moves.wake
        await runs_table.go_on(session, facts.id, closing=moves.closing, wake=wake, grown=grown)
        if moves.wake is not None:
            await self._asking.look_at(session, facts.id, at=moves.wake)

    async def steps(
        self, session: AsyncSession, facts: Facts, moves: Moves, *, told: Sequence[Record] = ()
    ) -> None:
        """Record what becomes of steps, and enqueue their work."""
        jobs = {
            record.path: await self.enqueued(
                session, StepRef(run=facts.id, path=record.path, attempt=record.attempt)
            )
            for record in moves.begin
        }
        written = {(one.path, one.attempt): one for one in (*told, *moves.written)}
        await steps_table.write(session, facts.id, written.values(), jobs)

    async def enqueued(self, session: AsyncSession, step: StepRef) -> UUID:
        """Have an attempt carried out; by which job."""
        unique = uuid.uuid5(step.run, f"{step.path}/{step.attempt}")
        return await self._context.enqueue(PERFORM_STEP, step, session=session, unique=str(unique))

    async def end(
        self, session: AsyncSession, facts: Facts, end: End, *, grown: int = 0, has_timers: bool = True
    ) -> None:
        """Record that a run is over, and have the next one begin that waits for it."""
        await runs_table.end(session, facts.id, end.status, message_of(end), grown=grown)
        ended = EndedRun(run=facts.id)
        await self._context.enqueue(TELL_FINISHED, ended, session=session, key=str(facts.id))
        is_old = facts.started_at is not None and facts.now - facts.started_at.timestamp() >= LOOK_SECONDS
        if has_timers or is_old or facts.closing is not None:
            await self._asking.look_no_more(session, facts.id)
        if facts.status != "running":
            return
        # Whoever starts runs takes the key before rows: here a row is locked already, so nobody is waited for.
        if await runs_table.try_key(session, facts.automation, facts.key):
            await self._admitting.admit_next(session, facts.automation, facts.key)
        else:
            await self._context.enqueue(
                ADMIT, KeyRef(automation=facts.automation, key=facts.key), session=session
            )

    async def _tell_to_end(self, session: AsyncSession, facts: Facts, record: Record) -> None:
        """End an attempt where it is carried out: by the job that does it, or elsewhere."""
        found = await steps_table.one(session, facts.id, record.path, record.attempt)
        if found is not None and found[1] is not None:
            await self._context.cancel_job(found[1], session=session)
        step = StepRef(run=facts.id, path=record.path, attempt=record.attempt)
        await self._context.enqueue(END_STEP, step, session=session)


def message_of(end: End) -> str | None:
    """What is kept of what a run's end says."""
    return None if end.message is None else cleaned(end.message, MAX_MESSAGE_CHARACTERS)
