"""Timetable triggers: each is a timetable of the host's jobs, whose job starts a run.

Threat: a time is missed, or starts two runs, when instances come and go; or nobody notices that all were down at the
time. Mechanism: the jobs of a timetable are enqueued once for the fleet, and a run is recorded in the transaction that
ends its job, under a key made of the time. Of times for which no instance was there, the first is made up for; the
run's event says how late it is and how many others were missed, and the log does.
"""

from __future__ import annotations

import datetime as dt

from pydantic import BaseModel, StrictInt
from ringfence import Event, Job, Mode, PluginContext, Registry, RunningJob
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_automations.definitions.definition import Definition
from ringfence_automations.definitions.trigger import MAX_TRIGGERS
from ringfence_automations.hooks import AutomationChange, AutomationChanged, automation_changed
from ringfence_automations.runs.starting import TriggerFact
from ringfence_automations.triggers.hearing import Hearing
from ringfence_automations.triggers.matching import Match
from ringfence_automations.triggers.times import missed, schedule_of
from ringfence_automations.triggers.webhooks import addresses

LATE_SECONDS = 60.0
"""What is later than that is told in the log."""


class TimetableRef(BaseModel):
    """One trigger of an automation, by its number in the definition, from 1."""

    automation: str
    trigger: StrictInt


START = Job("start-by-timetable", TimetableRef)


def declare(registry: Registry) -> None:
    """Declare what this module brings."""
    registry.job(START)


class Timetables:
    """Keeps the host's timetables as the definitions have them, and starts what is due."""

    def __init__(self, context: PluginContext, hearing: Hearing) -> None:
        self._context = context
        self._hearing = hearing

    def begin(self) -> None:
        """Take part."""
        self._context.on_job(START, self._start)
        self._context.on_hook(
            automation_changed, self._changed, mode=Mode.WORK_QUEUE, worker_group="timetables"
        )

    async def _changed(self, event: Event[AutomationChanged], session: AsyncSession) -> None:
        told = event.payload
        definition = Definition.model_validate(told.definition)
        is_deleted = told.change is AutomationChange.DELETED
        is_on = definition.enabled and not is_deleted
        wanted = dict(enumerate(definition.triggers, 1)) if is_on else {}
        for number in range(1, MAX_TRIGGERS + 1):
            name = f"{told.name}/{number}"
            schedule = schedule_of(wanted[number]) if number in wanted else None
            if schedule is None:
                await self._context.remove_timetable(name, session=session)
            else:
                payload = TimetableRef(automation=told.name, trigger=number)
                await self._context.set_timetable(
                    schedule.when, START, payload, name=name, zone=schedule.zone, session=session
                )
        if is_deleted:
            await addresses.remove(session, told.name)

    async def _start(self, job: RunningJob[TimetableRef], session: AsyncSession) -> None:
        armed = await self._hearing.armed(job.payload.automation)
        found = (
            next((one for one in armed.triggers if one.number == job.payload.trigger), None)
            if armed
            else None
        )
        if armed is None or found is None or schedule_of(found.trigger) is None:
            # It was changed since: then it has other timetables, or none.
            return
        now = dt.datetime.now(dt.UTC)
        others = missed(found.trigger, job.due_at.timestamp(), now.timestamp())
        late = (now - job.due_at).total_seconds()
        if others or late > LATE_SECONDS:
            self._context.logger.warning(
                "an automation starts late: no instance was there at its time",
                automation=armed.name,
                due_at=job.due_at.isoformat(),
                late_seconds=round(late),
                missed=others,
            )
        fact = TriggerFact(kind="timetable", time=job.due_at)
        event: dict[str, object] = {
            "dueAt": job.due_at.isoformat(),
            "lateSeconds": max(0, round(late)),
            "missed": others,
        }
        once_key = f"timetable/{found.number}/{job.due_at.isoformat()}"
        await self._hearing.start(session, Match(armed, found.number), fact, event, once_key=once_key)
