"""The jobs as an operator sees them: listed, cancelled, tried again, and forgotten when they have ended long ago."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from ringfence.jobs.queue import CHANNEL

BATCH = 1000
"""How many jobs are forgotten in one transaction."""
MOST_LOOKED_AT = 20_000

_COLUMNS = """
    id, number, plugin, kind, status, key, timetable, actor, enqueued_at, due_at, attempts, failures, losses, instance,
    begun_at, ended_at, cancel, progress, error
"""
_LIST = f"""
    SELECT {_COLUMNS}, EXISTS (SELECT FROM job_workers AS worker WHERE jobs.kind = ANY(worker.kinds)) AS served
      FROM {{table}} WHERE {{wanted}} ORDER BY number DESC LIMIT :limit
"""  # noqa: S608
# The inner rows come in the order of the outer ones, so that the look ends as soon as the page is full.
_NEWEST = "(SELECT * FROM jobs WHERE {} ORDER BY number DESC LIMIT :most) AS jobs"
_REACHED = "SELECT min(number), count(*) FROM {table}"
_ONLY = {
    "before": "number < :before",
    "plugin": "plugin = :plugin",
    "kind": "kind = :kind",
    "status": "status = :status",
}
# By name, so that the planner sees that the index of those that have failed will do.
_FAILED = "status = 'failed'"
_ONE = text(f"""
    SELECT {_COLUMNS}, EXISTS (SELECT FROM job_workers AS worker WHERE jobs.kind = ANY(worker.kinds)) AS served, payload
      FROM jobs WHERE id = :id
""")  # noqa: S608
# It keeps its place among those of its key. By its `single` name another one may wait by now.
_RETRY = text(f"""
    UPDATE jobs SET status = 'waiting', due_at = clock_timestamp(), ended_at = NULL, cancel = false, failures = 0,
           losses = 0, single = NULL, held = false
     WHERE id = :id AND status IN ('failed', 'cancelled')
    RETURNING id, pg_notify('{CHANNEL}', '')
""")  # noqa: S608
_FORGET = text("""
    DELETE FROM jobs WHERE id IN (
        SELECT id FROM jobs WHERE ended_at < clock_timestamp() - :keep ORDER BY ended_at LIMIT :batch)
    RETURNING id
""")
_TIMETABLES = text("""
    SELECT plugin, name, kind, schedule, zone, next_at, last_at,
           EXISTS (SELECT FROM job_workers AS worker WHERE timetables.kind = ANY(worker.kinds)) AS served
      FROM timetables WHERE (plugin, name) > (:plugin, :name) ORDER BY plugin, name LIMIT :limit
""")


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as it is stored. `served`: an instance of the fleet does such jobs. `payload` is None in a list."""

    id: UUID
    number: int
    plugin: str
    kind: str
    status: str
    key: str | None
    timetable: str | None
    actor: str | None
    enqueued_at: dt.datetime
    due_at: dt.datetime
    attempts: int
    failures: int
    losses: int
    instance: UUID | None
    begun_at: dt.datetime | None
    ended_at: dt.datetime | None
    cancel: bool
    progress: dict[str, Any] | None
    error: str | None
    served: bool
    payload: Any = None


@dataclass(frozen=True, slots=True)
class TimetableRecord:
    """A timetable as it is stored."""

    plugin: str
    name: str
    kind: str
    schedule: str
    zone: str
    next_at: dt.datetime
    last_at: dt.datetime | None
    served: bool


async def list_jobs(
    session: AsyncSession,
    *,
    before: int | None,
    limit: int,
    plugin: str | None = None,
    kind: str | None = None,
    status: str | None = None,
) -> list[JobRecord]:
    """Jobs that fit, the newest first: those that were enqueued before the one of that number."""
    values = {"before": before, "plugin": plugin, "kind": kind, "status": status}
    wanted = [condition for name, condition in _ONLY.items() if values[name] is not None]
    if status == "failed":
        wanted.append(_FAILED)
    statement = text(_LIST.format(table="jobs", wanted=" AND ".join(wanted) or "true"))
    return [JobRecord(*row) for row in await session.execute(statement, values | {"limit": limit})]


async def look_back(
    session: AsyncSession,
    *,
    before: int | None,
    limit: int,
    plugin: str | None = None,
    kind: str | None = None,
    status: str | None = None,
) -> tuple[Sequence[JobRecord], int | None]:
    """As `list_jobs`, but looks at no more than `MOST_LOOKED_AT` jobs; and before which number to go on, if at all."""
    values = {"before": before, "plugin": plugin, "kind": kind, "status": status}
    given = {name: condition for name, condition in _ONLY.items() if values[name] is not None}
    inner = [given.pop("before")] if "before" in given else []
    if status == "failed":
        # These have an index of their own.
        inner.append(_FAILED)
        given.pop("status")
    values |= {"limit": limit + 1, "most": MOST_LOOKED_AT if given else limit + 1}
    table = _NEWEST.format(" AND ".join(inner) or "true")
    statement = text(_LIST.format(table=table, wanted=" AND ".join(given.values()) or "true"))
    found = [JobRecord(*row) for row in await session.execute(statement, values)]
    if len(found) > limit:
        return found[:limit], found[limit - 1].number
    if not given:
        return found, None
    reached, looked = (await session.execute(text(_REACHED.format(table=table)), values)).one()
    return found, int(reached) if looked >= MOST_LOOKED_AT else None


async def one_job(session: AsyncSession, id: UUID) -> JobRecord | None:
    """The job of that id, with its payload."""
    row = (await session.execute(_ONE, {"id": id})).one_or_none()
    return None if row is None else JobRecord(*row)


async def retry_job(session: AsyncSession, id: UUID) -> bool:
    """Have a job that has failed, or was cancelled, tried again as if it never had been; False for any other."""
    return (await session.execute(_RETRY, {"id": id})).one_or_none() is not None


async def list_timetables(
    session: AsyncSession, *, after: tuple[str, str], limit: int
) -> list[TimetableRecord]:
    """The timetables after a plugin's name and their own, in the order of both."""
    values = {"plugin": after[0], "name": after[1], "limit": limit}
    return [TimetableRecord(*row) for row in await session.execute(_TIMETABLES, values)]


async def forget_ended(sessions: async_sessionmaker[AsyncSession], keep: dt.timedelta) -> int:
    """Forget the jobs that ended longer ago than that; answers how many went."""
    gone = 0
    while True:
        async with sessions.begin() as session:
            rows: Sequence[Any] = (await session.execute(_FORGET, {"keep": keep, "batch": BATCH})).all()
        gone += len(rows)
        if len(rows) < BATCH:
            return gone
