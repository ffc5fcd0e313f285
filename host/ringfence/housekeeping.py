"""What the host itself has done again and again, once for the fleet: to let go of what is old, to verify the rest."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from ringfence.access.sessions import forget_old
from ringfence.eventlog import Retention, Watching
from ringfence.jobs import Job, JobBoard, JobService, Nothing, RunningJob, Timetable
from ringfence.jobs.records import forget_ended
from ringfence.scripts.schedule.cron import UTC
from ringfence.settings import HostSettings

HOST = "host"
EVERY = "1h"
VERIFY_EVERY = "6h"


TRIM_EVENTS = Job("trim-events", Nothing, deadline_seconds=None, at_once=1)
FORGET_JOBS = Job("forget-jobs", Nothing, deadline_seconds=None, at_once=1)
FORGET_SESSIONS = Job("forget-sessions", Nothing, deadline_seconds=None, at_once=1)
VERIFY_EVENTS = Job("verify-events", Nothing, deadline_seconds=None, at_once=1)
_log = structlog.get_logger("ringfence.host")


def declare(
    board: JobBoard, sessions: async_sessionmaker[AsyncSession], settings: HostSettings, watching: Watching
) -> None:
    """Have the host's own jobs done, and done again. What they delete is committed piece by piece."""
    events = Retention(sessions, dt.timedelta(days=settings.event_retention_days))
    keep_jobs = dt.timedelta(days=settings.job_retention_days)

    async def trim_events(_: RunningJob[Nothing], __: AsyncSession) -> None:
        _tell("old events trimmed", await events.trim())

    async def forget_jobs(_: RunningJob[Nothing], __: AsyncSession) -> None:
        _tell("jobs forgotten that ended long ago", await forget_ended(sessions, keep_jobs))

    async def forget_sessions(_: RunningJob[Nothing], __: AsyncSession) -> None:
        _tell(
            "sessions forgotten that ended long ago",
            await forget_old(sessions, settings.session_hours * 3600),
        )

    async def verify_events(_: RunningJob[Nothing], __: AsyncSession) -> None:
        if found := await watching.look():
            _log.error("streams of the event log do not say any more what was written", streams=found)

    works: list[tuple[Job[Nothing], str, Callable[[RunningJob[Any], AsyncSession], Awaitable[None]]]] = [
        (TRIM_EVENTS, EVERY, trim_events),
        (FORGET_JOBS, EVERY, forget_jobs),
        (FORGET_SESSIONS, EVERY, forget_sessions),
        (VERIFY_EVENTS, VERIFY_EVERY, verify_events),
    ]
    for job, schedule, handler in works:
        board.serve(JobService(HOST, job, handler))
        board.repeat(Timetable(HOST, job.name, job, Nothing(), schedule, UTC))


def _tell(what: str, count: int) -> None:
    if count:
        _log.info(what, count=count)
