"""The engine: it starts runs, carries them on and ends them. What a run does next is decided by `course.py`.

Every decision is recorded in the transaction that also enqueues what follows from it, under the lock of the run's row.
So a run belongs to no instance: whoever has the next job about it goes on from the records.

Lock order: see `runs_table.py`.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from ringfence import PluginContext
from ringfence.bounded import cleaned, cleaned_json
from ringfence.eventlog import last_position
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_automations.definitions.definition import Mode
from ringfence_automations.hooks import (
    AutomationRunFinished,
    AutomationRunStarted,
    automation_run_finished,
    automation_run_started,
    stream_of_run,
)
from ringfence_automations.runs.compiled import Compiled, NoPlanError, Plans
from ringfence_automations.runs.deciding import course
from ringfence_automations.runs.deciding.admission import Admission, admit, to_begin
from ringfence_automations.runs.deciding.course import Closing, End, Moves, RunStatus
from ringfence_automations.runs.deciding.plan import CannotEvaluateError, WaitEvent
from ringfence_automations.runs.deciding.records import Ending, Record, Status
from ringfence_automations.runs.deciding.visible import Visible
from ringfence_automations.runs.jobs import (
    ADMIT,
    ADVANCE,
    END_STEP,
    PERFORM_STEP,
    TELL_FINISHED,
    TELL_STARTED,
    KeyRef,
    RunRef,
    StepRef,
)
from ringfence_automations.runs.tables import runs_table, steps_table
from ringfence_automations.runs.tables.runs_table import Facts, NewRun
from ringfence_automations.service import StepResult

MAX_WAITING = 1000
"""How many runs of one automation may wait for others."""
MAX_DEPTH = 8
"""How many automations may have started each other before a run."""
MAX_ARTIFACT_BYTES = 256 * 1024
"""The largest artifact, as JSON."""
MAX_RUN_ARTIFACT_BYTES = 4 * 1024 * 1024
"""How large all artifacts of a run may be together: they are read whenever it goes on."""
MAX_MESSAGE_CHARACTERS = 2000
LOOK_SECONDS = 3600.0
"""A run for which nothing is due is looked at so often all the same."""
BEGIN_AT_ONCE = 100
"""How many of those that wait are begun in one transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerFact:
    """What has started a run: `kind` is hook, timetable, webhook or manual, and `hook` the name of a hook.

    `depth`: how many automations have started each other before.
    """

    kind: str
    time: dt.datetime
    hook: str | None = None
    depth: int = 0

    def to_json(self) -> dict[str, Any]:
        """What expressions see as `trigger`."""
        return {"kind": self.kind, "hook": self.hook or "", "time": self.time.isoformat()}


@dataclass(frozen=True, slots=True)
class Skipped:
    """No run has begun, and none will. Where that is recorded, `run` is its id."""

    run: UUID | None
    why: str


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


class Engine:
    """Runs of automations, in the caller's transactions."""

    def __init__(self, context: PluginContext, plans: Plans) -> None:
        self._context = context
        self._plans = plans

    async def start(
        self,
        session: AsyncSession,
        automation: str,
        revision: int,
        *,
        trigger: TriggerFact,
        event: Mapping[str, Any],
        inputs: Mapping[str, Any] | None = None,
        once_key: str | None = None,
        actor: str | None = None,
        failure: str | None = None,
    ) -> UUID | Skipped:
        """Record a run of this revision, which begins when the transaction commits and its mode allows it.

        Called again with the same `once_key`, it starts nothing, and answers as it did. What cannot be evaluated is
        told by a run that has failed; so is a `failure` of what was to start it. May be called often in one
        transaction. Raises NoPlanError where there is no such revision.
        """
        if (
            once_key is not None
            and (known := await runs_table.known(session, automation, once_key)) is not None
        ):
            id, status, message = known
            return Skipped(id, message or "") if status == "skipped" else id
        compiled = await self._plans.at(session, automation, revision)
        id, depth = uuid.uuid4(), trigger.depth
        values = {
            "event": dict(event),
            "trigger": trigger.to_json(),
            "inputs": dict(inputs or {}),
            "run": {
                "id": str(id),
                "automation": automation,
                "revision": revision,
                "startedAt": trigger.time.isoformat(),
            },
        }
        key = ""
        if depth > MAX_DEPTH:
            failure = f"it was started by {depth} automations, one by the other, and there may be {MAX_DEPTH}"
        try:
            holds, key = (
                (True, "") if failure else await asyncio.to_thread(_conditions_and_key, compiled, values)
            )
            if not holds:
                return Skipped(None, "its conditions do not hold")
        except CannotEvaluateError as error:
            failure = str(error)
        closing = None if failure is None else Closing(Ending.FAILED, RunStatus.FAILED, failure)
        await runs_table.lock_key(session, automation, key)
        status, message = await self._admitted(session, compiled, key, actor, is_failed=closing is not None)
        run = NewRun(
            id=id,
            automation=automation,
            revision=revision,
            mode=compiled.mode,
            most=compiled.most,
            key=key,
            once_key=once_key,
            depth=depth,
            status=status,
            message=message,
            trigger=trigger.to_json(),
            event=dict(event),
            inputs=dict(inputs or {}),
            started_by=actor,
            closing=closing,
        )
        if not await runs_table.insert(session, run):
            assert once_key is not None
            return await self.start(
                session,
                automation,
                revision,
                trigger=trigger,
                event=event,
                inputs=inputs,
                once_key=once_key,
                actor=actor,
                failure=failure,
            )
        if status == "running":
            await self._begin(session, id)
        return Skipped(id, message or "") if status == "skipped" else id

    async def advance(self, session: AsyncSession, run: UUID) -> None:
        """Carry a run on as far as it goes now."""
        facts = await runs_table.lock(session, run)
        if facts is None or facts.status not in ("queued", "running"):
            return
        if facts.status == "queued":
            if facts.closing is not None:
                await self._end(session, facts, End(facts.closing.status, facts.closing.message))
            return
        try:
            compiled = await self._plans.at(session, facts.automation, facts.revision)
        except NoPlanError as error:
            await self._end(session, facts, End(RunStatus.FAILED, str(error)))
            return
        records = await steps_table.newest(session, run)
        heard = await last_position(session)
        moves = await asyncio.to_thread(
            course.advance,
            compiled.plan,
            records,
            values=facts.values,
            now=facts.now,
            closing=facts.closing,
            heard=heard,
        )
        await self._make(session, facts, moves)

    async def step_ended(
        self, session: AsyncSession, run: UUID, path: str, attempt: int, result: StepResult
    ) -> None:
        """Take in how an attempt at a step has ended. Told again, or too late, it changes nothing."""
        facts = await runs_table.lock(session, run)
        found = None if facts is None else await steps_table.one(session, run, path, attempt)
        if facts is None or found is None:
            return
        record, _ = found
        ok, message = result.ok, cleaned(result.message, MAX_MESSAGE_CHARACTERS)
        artifact = cleaned_json(dict(result.artifact))
        size = len(json.dumps(artifact, ensure_ascii=False).encode())
        if size > MAX_ARTIFACT_BYTES or facts.artifact_bytes + size > MAX_RUN_ARTIFACT_BYTES:
            most = MAX_ARTIFACT_BYTES if size > MAX_ARTIFACT_BYTES else MAX_RUN_ARTIFACT_BYTES
            whose = "an artifact" if size > MAX_ARTIFACT_BYTES else "all artifacts of a run together"
            ok, artifact, size = False, {}, 0
            message = f"what it gave back is too large: {whose} may have {most} bytes"
        now = course.ended(record, attempt=attempt, ok=ok, artifact=artifact, message=message, now=facts.now)
        if now is None:
            if (
                record.status in (Status.FAILED, Status.CANCELLED, Status.INTERRUPTED)
                and record.artifact is None
            ):
                await steps_table.late(
                    session, run, path, attempt, {"ok": ok, "message": message, "artifact": artifact}
                )
            return
        await steps_table.write(session, run, [now])
        await runs_table.grew(session, run, size)
        await self.look_at(session, run)

    async def interrupted(self, session: AsyncSession, run: UUID, path: str, attempt: int) -> None:
        """Take in that an attempt had started, and that nobody will tell of its end."""
        facts = await runs_table.lock(session, run)
        found = None if facts is None else await steps_table.one(session, run, path, attempt)
        if facts is None or found is None:
            return
        now = course.interrupted(found[0], attempt=attempt, now=facts.now)
        if now is not None:
            await steps_table.write(session, run, [now])
            await self.look_at(session, run)

    async def event(self, session: AsyncSession, event: Happened) -> None:
        """Have those go on that wait for this event."""
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
                heard = await asyncio.to_thread(_heard, compiled, records, record, facts, event)
            except NoPlanError:
                continue
            if heard is not None:
                await steps_table.write(session, run, [heard])
                await self.look_at(session, run)

    async def awaited_hooks(self, session: AsyncSession) -> frozenset[str]:
        """The hooks for whose events some run waits now."""
        return await steps_table.awaited_hooks(session)

    async def cancel(
        self, session: AsyncSession, run: UUID, *, by: str | None, why: str | None = None
    ) -> bool:
        """Have a run end, and what it does end where it is done; False if it is told to already, or has ended."""
        closing = Closing(
            Ending.CANCELLED, RunStatus.CANCELLED, why or (f"cancelled by {by}" if by else "cancelled")
        )
        if not await runs_table.close(session, run, closing, by=by):
            return False
        await self.look_at(session, run)
        return True

    async def cancel_all(self, session: AsyncSession, automation: str, *, by: str | None, why: str) -> int:
        """Have all runs of an automation end; how many those are."""
        runs = await runs_table.of_automation(session, automation)
        return sum([await self.cancel(session, run, by=by, why=why) for run in runs])

    async def admit(self, session: AsyncSession, automation: str, key: str) -> None:
        """Begin those of a key that wait, as far as there is room."""
        await runs_table.lock_key(session, automation, key)
        await self._admit_next(session, automation, key)

    async def look_at(self, session: AsyncSession, run: UUID, *, at: float | None = None) -> None:
        """Have a run looked at when the transaction commits, or at that time; once, if asked for several times."""
        when = None if at is None else dt.datetime.fromtimestamp(at, dt.UTC)
        await self._context.enqueue(ADVANCE, RunRef(run=run), session=session, at=when, unique=str(run))

    async def tell_started(self, session: AsyncSession, run: UUID) -> None:
        """Emit that a run has begun."""
        await self._tell(session, run, finished=False)

    async def tell_finished(self, session: AsyncSession, run: UUID) -> None:
        """Emit that a run has ended."""
        await self._tell(session, run, finished=True)

    async def perform(self, session: AsyncSession, step: StepRef) -> None:
        """Have an attempt at a step carried out that is recorded already."""
        job = await self._context.enqueue(
            PERFORM_STEP, step, session=session, unique=f"{step.run}/{step.attempt}/{step.path}"[:500]
        )
        await steps_table.has_job(session, step.run, step.path, step.attempt, job)

    async def _admitted(
        self, session: AsyncSession, compiled: Compiled, key: str, actor: str | None, *, is_failed: bool
    ) -> tuple[str, str | None]:
        """The status with which a new run begins, if the key is locked. A restart cancels the others."""
        if is_failed:
            return "running", None
        there = await runs_table.under_way(session, compiled.name, key)
        admission = admit(
            compiled.mode,
            compiled.most,
            running=there.running,
            waiting=there.waiting,
            waiting_in_all=there.waiting_in_all,
            most_waiting=MAX_WAITING,
        )
        if compiled.mode is Mode.RESTART and (there.running or there.waiting):
            for other in await runs_table.others(session, compiled.name, key):
                await self.cancel(session, other, by=actor, why="a later run has taken its place")
        match admission:
            case Admission.BEGIN:
                return "running", None
            case Admission.WAIT:
                return "queued", None
            case Admission.SKIP:
                return "skipped", "another run is under way"
            case Admission.REFUSE:
                return "skipped", f"refused: {MAX_WAITING} runs of this automation wait already"

    async def _begin(self, session: AsyncSession, run: UUID) -> None:
        await runs_table.begin(session, run)
        await self._context.enqueue(TELL_STARTED, RunRef(run=run), session=session, key=str(run))
        await self.look_at(session, run)

    async def _make(self, session: AsyncSession, facts: Facts, moves: Moves) -> None:
        """Record moves, and enqueue what follows from them."""
        await steps_table.write(session, facts.id, moves.written)
        for record in moves.begin:
            await self.perform(session, StepRef(run=facts.id, path=record.path, attempt=record.attempt))
        for record in moves.tell_to_end:
            await self._tell_to_end(session, facts, record)
        if moves.end is not None:
            await self._end(session, facts, moves.end)
            return
        wake = facts.now + LOOK_SECONDS if moves.wake is None else moves.wake
        await runs_table.go_on(session, facts.id, closing=moves.closing, wake=wake)
        if moves.wake is not None:
            await self.look_at(session, facts.id, at=moves.wake)

    async def _tell_to_end(self, session: AsyncSession, facts: Facts, record: Record) -> None:
        """End an attempt where it is carried out: by the job that does it, or elsewhere."""
        found = await steps_table.one(session, facts.id, record.path, record.attempt)
        if found is not None and found[1] is not None:
            await self._context.cancel_job(found[1], session=session)
        step = StepRef(run=facts.id, path=record.path, attempt=record.attempt)
        await self._context.enqueue(END_STEP, step, session=session)

    async def _end(self, session: AsyncSession, facts: Facts, end: End) -> None:
        message = None if end.message is None else cleaned(end.message, MAX_MESSAGE_CHARACTERS)
        await runs_table.end(session, facts.id, end.status, message)
        await self._context.enqueue(TELL_FINISHED, RunRef(run=facts.id), session=session, key=str(facts.id))
        if facts.status != "running":
            return
        # Whoever starts runs takes the key before rows: here a row is locked already, so nobody is waited for.
        if await runs_table.try_key(session, facts.automation, facts.key):
            await self._admit_next(session, facts.automation, facts.key)
        else:
            await self._context.enqueue(
                ADMIT, KeyRef(automation=facts.automation, key=facts.key), session=session
            )

    async def _admit_next(self, session: AsyncSession, automation: str, key: str) -> None:
        there = await runs_table.under_way(session, automation, key)
        if not there.waiting:
            return
        waiting = await runs_table.waiting(session, automation, key, limit=BEGIN_AT_ONCE)
        count = to_begin(there.running, [one for _, one in waiting])
        for run, _ in waiting[:count]:
            await self._begin(session, run)

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
        else:
            begun = AutomationRunStarted(**told)
            await self._context.emit_hook(automation_run_started, begun, session=session, stream=stream)


def _conditions_and_key(compiled: Compiled, values: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether all conditions hold, and the key. Raises CannotEvaluateError."""
    holds = all(condition.evaluate(values) is True for condition in compiled.conditions)
    return holds, "" if compiled.key is None or not holds else str(compiled.key.evaluate(values))[:500]


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
        return course.cannot_wait(record, str(error), now=facts.now)
    return course.heard_event(record, event.payload, now=facts.now)
