"""Runs are started here: each is recorded with what has started it, and begins when its mode allows it."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ringfence import PluginContext
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_automations.definitions.definition import Mode
from ringfence_automations.runs.asking import Asking
from ringfence_automations.runs.carrying_on import CarryingOn, message_of
from ringfence_automations.runs.compiled import Compiled, Plans
from ringfence_automations.runs.deciding.admission import Admission, admit
from ringfence_automations.runs.deciding.moves import Closing, Moves, Outcome
from ringfence_automations.runs.deciding.plan import CannotEvaluateError
from ringfence_automations.runs.deciding.records import Ending
from ringfence_automations.runs.jobs import TELL_FINISHED, TELL_STARTED, EndedRun, RunRef
from ringfence_automations.runs.tables import runs_table
from ringfence_automations.runs.tables.runs_table import Facts, NewRun, UnderWay

MAX_WAITING = 1000
"""How many runs of one automation may wait for others."""
MAX_SKIPPED_BYTES = 2048
"""How large the event of a run may be that is skipped, to be kept with it: there may be many of them."""
MAX_DEPTH = 8
"""How many automations may have started each other before a run."""
MOST_AT_ONCE = 50
"""How many steps a run begins in the transaction that records it; more are begun by a job."""


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
    """Starts runs."""

    def __init__(self, context: PluginContext, plans: Plans, asking: Asking, carrying_on: CarryingOn) -> None:
        self._context = context
        self._plans = plans
        self._asking = asking
        self._carrying_on = carrying_on

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
                (True, "")
                if failure or not (compiled.conditions or compiled.key)
                else await asyncio.to_thread(_conditions_and_key, compiled, values)
            )
            if not holds:
                return Skipped(None, "its conditions do not hold")
        except CannotEvaluateError as error:
            failure = str(error)
        closing = None if failure is None else Closing(Ending.FAILED, Outcome.FAILED, failure)
        await runs_table.lock_key(session, automation, key)
        there = await runs_table.under_way(session, automation, key)
        status, message = await self._admitted(
            session, compiled, key, actor, there, is_failed=closing is not None
        )
        facts = Facts(
            id=id,
            automation=automation,
            revision=revision,
            key=key,
            status=status,
            trigger=trigger.to_json(),
            event=dict(event),
            inputs=dict(inputs or {}),
            created_at=dt.datetime.fromtimestamp(there.now, dt.UTC),
            started_at=None,
            closing=closing,
            artifact_bytes=0,
            now=there.now,
        )
        moves: Moves | None = None
        if status == "running":
            moves = await self._first_moves(session, facts, compiled)
        end = None if moves is None else moves.end
        if end is not None:
            status, message = end.status.value, message_of(end)
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
            trigger=facts.trigger,
            event=_digest(facts.event) if status == "skipped" else facts.event,
            inputs=facts.inputs,
            started_by=actor,
            closing=closing if end is None else None,
            now=facts.now,
            started=facts.now if facts.status == "running" else None,
            ended=facts.now if end is not None or status == "skipped" else None,
            wake=facts.now if status == "running" else None,
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
        if facts.status == "running":
            await self._begun(session, facts, compiled, moves)
        return Skipped(id, message or "") if status == "skipped" else id

    async def _first_moves(self, session: AsyncSession, facts: Facts, compiled: Compiled) -> Moves | None:
        """What a new run does at once; None if that is left to a job."""
        try:
            moves = await self._carrying_on.moves(session, facts, compiled, {})
        except Exception:
            # What has started it is not to fail by it, nor to come again.
            self._context.logger.exception("a run cannot be carried on; trying again", run=str(facts.id))
            return None
        return moves if len(moves.written) <= MOST_AT_ONCE else None

    async def _begun(
        self, session: AsyncSession, facts: Facts, compiled: Compiled, moves: Moves | None
    ) -> None:
        """Begin a new run: it is recorded already. One that has ended as well leaves its place to nobody."""
        if moves is not None and moves.end is not None:
            await self._carrying_on.steps(session, facts, moves)
            told = EndedRun(run=facts.id, since_start=True)
            await self._context.enqueue(TELL_FINISHED, told, session=session, key=str(facts.id))
            return
        await self._context.enqueue(TELL_STARTED, RunRef(run=facts.id), session=session, key=str(facts.id))
        if moves is None:
            await self._asking.look_at(session, facts.id)
        else:
            await self._carrying_on.make(session, facts, moves)

    async def _admitted(
        self,
        session: AsyncSession,
        compiled: Compiled,
        key: str,
        actor: str | None,
        there: UnderWay,
        *,
        is_failed: bool,
    ) -> tuple[str, str | None]:
        """The status with which a new run begins, if the key is locked. A restart cancels the others."""
        if is_failed:
            return "running", None
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


def _digest(event: Mapping[str, Any]) -> Any:
    """What is kept of the event of a run that is skipped: all of it if it is small, or else what tells it again."""
    document = json.dumps(event, ensure_ascii=False, sort_keys=True, default=str).encode(errors="replace")
    if len(document) <= MAX_SKIPPED_BYTES:
        return dict(event)
    return {"leftOut": True, "bytes": len(document), "sha256": hashlib.sha256(document).hexdigest()}


def _conditions_and_key(compiled: Compiled, values: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether all conditions hold, and the key. Raises CannotEvaluateError."""
    holds = all(condition.evaluate(values) is True for condition in compiled.conditions)
    return holds, "" if compiled.key is None or not holds else str(compiled.key.evaluate(values))[:500]
