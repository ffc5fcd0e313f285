"""How the fleet stands, for people: which instances there are, and how far each and each worker group has come."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence.eventlog.groups.presence import GONE_SECONDS

MOST_LISTED = 100
_INSTANCES = text("""
    SELECT instance, cursor, seen_at,
           greatest(seen_at, pg_postmaster_start_time()) < clock_timestamp() - make_interval(secs => :gone) AS gone,
           coalesce(extract(epoch FROM seen_at - (
               SELECT occurred_at FROM events WHERE position > cursor ORDER BY position LIMIT 1)), 0)::float AS lag
      FROM event_instances WHERE seen_at > clock_timestamp() - make_interval(secs => :within)
     ORDER BY seen_at DESC LIMIT :limit
""")
_GROUPS = text("""
    SELECT cursor.plugin, cursor.worker_group, cursor.position,
           greatest(0, (SELECT coalesce(max(position), 0) FROM events) - cursor.position) AS behind,
           cursor.attempts, cursor.retry_at,
           (SELECT worker.instance FROM event_workers AS worker
             WHERE (worker.plugin, worker.worker_group) = (cursor.plugin, cursor.worker_group)
               AND worker.holds) AS holder
      FROM event_cursors AS cursor
     WHERE (CAST(:plugin AS text) IS NULL OR cursor.plugin = :plugin) AND (NOT :failing OR cursor.attempts > 1)
     ORDER BY cursor.plugin, cursor.worker_group LIMIT :limit
""")


@dataclass(frozen=True, slots=True)
class InstanceStanding:
    """An instance as it has last told of itself.

    `gone`: it has not been heard of, and has not left in good order. `lag_seconds`: how old the oldest event was that
    it had not read by then.
    """

    instance: UUID
    cursor: int
    seen_at: dt.datetime
    gone: bool
    lag_seconds: float


@dataclass(frozen=True, slots=True)
class GroupStanding:
    """A worker group: `behind` counts the positions after its cursor, also of events that are not for it.

    `attempts` were begun at the event that it is at. `holder` serves it; None: nobody does at the moment.
    """

    plugin: str
    name: str
    position: int
    behind: int
    attempts: int
    retry_at: dt.datetime | None
    holder: UUID | None


async def instances(session: AsyncSession, *, within_seconds: float) -> list[InstanceStanding]:
    """The instances that were heard of within that time, and have not left in good order; the latest first."""
    values = {"gone": GONE_SECONDS, "within": within_seconds, "limit": MOST_LISTED}
    return [InstanceStanding(*row) for row in await session.execute(_INSTANCES, values)]


async def groups(
    session: AsyncSession, *, plugin: str | None = None, failing: bool = False
) -> list[GroupStanding]:
    """The worker groups, of one plugin if it is named; with `failing`, only those that try an event again."""
    values = {"plugin": plugin, "failing": failing, "limit": MOST_LISTED}
    return [GroupStanding(*row) for row in await session.execute(_GROUPS, values)]
