"""Runs that nobody looks after, and those that are kept no longer: what upkeep asks of the table of runs."""

from __future__ import annotations

import datetime as dt
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

BATCH = 500
"""How many old runs one transaction drops."""
MAX_KEPT_RUNS = 10_000
"""How many runs of one automation are kept that have ended."""

# Those whose time has come though no job has looked at them.
_OVERLOOKED = text("""
    SELECT id FROM automations_runs
     WHERE status = 'running' AND wake_at < clock_timestamp() - make_interval(secs => :seconds)
     ORDER BY number LIMIT :limit
""")
_STUCK = text("""
    SELECT DISTINCT automation, key FROM automations_runs AS one
     WHERE status = 'queued' AND NOT EXISTS (
               SELECT FROM automations_runs AS other
                WHERE other.automation = one.automation AND other.key = one.key AND other.status = 'running')
     LIMIT :limit
""")
_STARTED = text("""
    SELECT automation FROM automations_runs
     WHERE created_at > clock_timestamp() - make_interval(secs => :seconds)
       AND (CAST(:since AS timestamptz) IS NULL OR created_at > :since)
       AND (CAST(:automation AS text) IS NULL OR automation = :automation)
       AND status <> 'skipped' AND NOT trigger::jsonb @> '{"kind": "manual"}'
     GROUP BY automation HAVING count(*) > :most
""")
_FORGET = text("""
    DELETE FROM automations_runs WHERE id IN (
        SELECT id FROM automations_runs WHERE ended_at < clock_timestamp() - make_interval(secs => :keep) LIMIT :batch)
""")
_FORGET_MANY = text("""
    DELETE FROM automations_runs WHERE id IN (
        SELECT id FROM (
            SELECT id, row_number() OVER (PARTITION BY automation ORDER BY number DESC) AS place
              FROM automations_runs WHERE ended_at IS NOT NULL) AS run
         WHERE place > :most LIMIT :batch)
""")


async def overlooked(session: AsyncSession, *, seconds: float, limit: int) -> list[UUID]:
    """Runs that should have been looked at so many seconds ago."""
    return list((await session.execute(_OVERLOOKED, {"seconds": seconds, "limit": limit})).scalars())


async def stuck(session: AsyncSession, *, limit: int) -> list[tuple[str, str]]:
    """Automations and keys of which runs wait though none is under way."""
    return [(row.automation, row.key) for row in await session.execute(_STUCK, {"limit": limit})]


async def started_too_often(
    session: AsyncSession,
    since: dt.datetime | None = None,
    *,
    seconds: float,
    most: int,
    automation: str | None = None,
) -> list[str]:
    """Automations that something other than people has started more often than `most` in so many seconds.

    `automation`: this one alone; `since`: of what came after that.
    """
    values = {"seconds": seconds, "most": most, "automation": automation, "since": since}
    return list((await session.execute(_STARTED, values)).scalars())


async def forget_old(session: AsyncSession, *, keep_seconds: float) -> bool:
    """Drop some runs that have ended so long ago; whether there may be more."""
    gone = await session.execute(_FORGET, {"keep": keep_seconds, "batch": BATCH})
    return bool(gone.rowcount >= BATCH)  # type: ignore[attr-defined]


async def forget_many(session: AsyncSession) -> bool:
    """Drop some of the oldest runs of automations that have too many; whether there may be more."""
    gone = await session.execute(_FORGET_MANY, {"most": MAX_KEPT_RUNS, "batch": BATCH})
    return bool(gone.rowcount >= BATCH)  # type: ignore[attr-defined]
