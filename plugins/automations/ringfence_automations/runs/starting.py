"""Runs are started here: each is recorded with what has started it, and begins when its mode allows it."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ringfence import PluginContext
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_automations.definitions.definition import Mode
from ringfence_automations.runs.asking import Asking
from ringfence_automations.runs.compiled import Compiled, Plans
from ringfence_automations.runs.deciding.admission import Admission, admit, to_begin
from ringfence_automations.runs.deciding.moves import Closing, Outcome
from ringfence_automations.runs.deciding.plan import CannotEvaluateError
from ringfence_automations.runs.deciding.records import Ending
from ringfence_automations.runs.jobs import TELL_STARTED, RunRef
from ringfence_automations.runs.tables import runs_table
from ringfence_automations.runs.tables.runs_table import NewRun

MAX_WAITING = 1000
"""How many runs of one automation may wait for others."""
MAX_DEPTH = 8
"""How many automations may have started each other before a run."""
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


class Starting:
    """Starts runs, and has those begin that wait."""

    def __init__(self, context: PluginContext, plans: Plans, asking: Asking) -> None:
        self._context = context
        self._plans = plans
        self._asking = asking

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
        closing = None if failure is None else Closing(Ending.FAILED, Outcome.FAILED, failure)
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
            await self._begun(session, id)
        return Skipped(id, message or "") if status == "skipped" else id

    async def admit(self, session: AsyncSession, automation: str, key: str) -> None:
        """Begin those of a key that wait, as far as there is room."""
        await runs_table.lock_key(session, automation, key)
        await self.admit_next(session, automation, key)

    async def admit_next(self, session: AsyncSession, automation: str, key: str) -> None:
        """The same, where the key is locked already."""
        there = await runs_table.under_way(session, automation, key)
        if not there.waiting:
            return
        waiting = await runs_table.waiting(session, automation, key, limit=BEGIN_AT_ONCE)
        count = to_begin(there.running, [one for _, one in waiting])
        for run, _ in waiting[:count]:
            await runs_table.begin(session, run)
            await self._begun(session, run)

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
                await self._asking.cancel(session, other, by=actor, why="a later run has taken its place")
        match admission:
            case Admission.BEGIN:
                return "running", None
            case Admission.WAIT:
                return "queued", None
            case Admission.SKIP:
                return "skipped", "another run is under way"
            case Admission.REFUSE:
                return "skipped", f"refused: {MAX_WAITING} runs of this automation wait already"

    async def _begun(self, session: AsyncSession, run: UUID) -> None:
        await self._context.enqueue(TELL_STARTED, RunRef(run=run), session=session, key=str(run))
        await self._asking.look_at(session, run)


def _conditions_and_key(compiled: Compiled, values: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether all conditions hold, and the key. Raises CannotEvaluateError."""
    holds = all(condition.evaluate(values) is True for condition in compiled.conditions)
    return holds, "" if compiled.key is None or not holds else str(compiled.key.evaluate(values))[:500]
