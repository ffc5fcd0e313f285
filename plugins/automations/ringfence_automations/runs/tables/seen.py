"""What people see of many runs at once: how each automation does, what needs attention, and what runs where."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

LONG_SECONDS = 600.0
"""A run that waits for its turn for so long is told of."""
RECENT_SECONDS = 86_400.0
"""What failed longer ago is not told of any more."""
MOST_LOOKED_AT = 1000

_LISTED = """
    SELECT a.name, a.revision, a.enabled, a.definition, last.id AS last_id, last.status AS last_status,
           last.message AS last_message, last.ended_at AS last_at, under_way.running, under_way.waiting
      FROM automations_automations AS a
      LEFT JOIN LATERAL (
           SELECT id, status, message, ended_at FROM automations_runs
            WHERE automation = a.name AND status IN ('succeeded', 'failed', 'cancelled')
            ORDER BY number DESC LIMIT 1) AS last ON true
     CROSS JOIN LATERAL (
           SELECT count(*) FILTER (WHERE status = 'running') AS running,
                  count(*) FILTER (WHERE status = 'queued') AS waiting
             FROM automations_runs WHERE automation = a.name AND status IN ('queued', 'running')) AS under_way
"""
_PAGE = text(f"""
    {_LISTED}
     WHERE a.name > :after
       AND (CAST(:like AS text) IS NULL OR a.name ILIKE :like OR a.definition ->> 'description' ILIKE :like
            OR EXISTS (
               SELECT FROM jsonb_path_query(a.definition, '$.triggers[*].keyvalue()') AS pair
                WHERE pair ->> 'key' ILIKE :like OR pair ->> 'value' ILIKE :like))
       AND (CAST(:enabled AS boolean) IS NULL OR a.enabled = :enabled)
     ORDER BY a.name LIMIT :limit
""")
_ONE = text(f"{_LISTED} WHERE a.name = :name")
_NAMES = text("""
    SELECT name, enabled FROM automations_automations WHERE name ILIKE :like ORDER BY name LIMIT :limit
""")
_FAILING = text("""
    SELECT DISTINCT ON (failed.automation) failed.automation, failed.id, failed.message, failed.ended_at
      FROM (SELECT automation, id, message, ended_at, number FROM automations_runs
             WHERE status = 'failed' ORDER BY number DESC LIMIT :most) AS failed
      JOIN automations_automations AS a ON a.name = failed.automation AND a.enabled
     WHERE failed.ended_at > now() - make_interval(secs => :seconds)
       AND NOT EXISTS (SELECT FROM automations_runs AS later
                        WHERE later.automation = failed.automation AND later.number > failed.number
                          AND later.status IN ('succeeded', 'failed', 'cancelled'))
     ORDER BY failed.automation LIMIT :limit
""")
_WAITING = text("""
    SELECT automation, count(*) AS many, min(created_at) AS since FROM automations_runs
     WHERE status = 'queued' AND closing IS NULL
       AND created_at < now() - make_interval(secs => :seconds)
     GROUP BY automation ORDER BY since LIMIT :limit
""")
_REFUSED = text("""
    SELECT run_id, path, error, run.automation, step.ended_at
      FROM (SELECT run_id, path, error, ended_at FROM automations_steps
             WHERE status = 'failed' AND error LIKE 'refused by the sandbox:%'
               AND ended_at > now() - make_interval(secs => :seconds)
             ORDER BY ended_at DESC LIMIT :limit) AS step
      JOIN automations_runs AS run ON run.id = run_id
     ORDER BY step.ended_at DESC
""")
_UNDER_WAY = text("""
    SELECT count(*) FILTER (WHERE status = 'running') AS running, count(*) FILTER (WHERE status = 'queued') AS waiting
      FROM automations_runs WHERE status IN ('queued', 'running')
""")
_ENDED = text("""
    SELECT floor(extract(epoch FROM now() - ended_at) / 300)::int AS slot, count(*) AS many
      FROM automations_runs WHERE ended_at > now() - interval '1 hour' GROUP BY slot
""")
_ON_SATELLITE = text("""
    SELECT place.run_id, place.path, place.attempt, place.state, place.message, run.automation, run.status,
           run.created_at
      FROM (SELECT run_id, path, attempt, state, message, number FROM automations_places
             WHERE satellite_id = :satellite ORDER BY number DESC LIMIT :limit) AS place
      JOIN automations_runs AS run ON run.id = place.run_id
     ORDER BY place.number DESC
""")
_STATES = text("""
    SELECT DISTINCT ON (path) path, status FROM automations_steps WHERE run_id = :run ORDER BY path, attempt DESC
""")
_PLACES = text("""
    SELECT path, attempt, name, satellite_id, state, message FROM automations_places
     WHERE run_id = :run ORDER BY path, attempt, place LIMIT :limit
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An automation in a list; `last_…` are those of its newest run that has ended and was not skipped."""

    name: str
    revision: int
    enabled: bool
    definition: dict[str, Any]
    last_id: UUID | None
    last_status: str | None
    last_message: str | None
    last_at: dt.datetime | None
    running: int
    waiting: int


def like(words: str) -> str | None:
    """A pattern for what has these words in it, whatever signs those hold; None for no words."""
    escaped = words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%" if words else None


async def listed(
    session: AsyncSession, *, words: str, enabled: bool | None, after: str, limit: int
) -> list[Listed]:
    """Automations by name, from after a name: those whose name, description or triggers have these words."""
    values = {"like": like(words), "enabled": enabled, "after": after, "limit": limit}
    return [Listed(**row._asdict()) for row in await session.execute(_PAGE, values)]


async def one(session: AsyncSession, name: str) -> Listed | None:
    """How one automation does."""
    row = (await session.execute(_ONE, {"name": name})).one_or_none()
    return None if row is None else Listed(**row._asdict())


async def names(session: AsyncSession, words: str, *, limit: int) -> list[tuple[str, bool]]:
    """The automations whose names have these words, and whether each is enabled."""
    rows = await session.execute(_NAMES, {"like": like(words) or "%", "limit": limit})
    return [(row.name, row.enabled) for row in rows]


async def failing(session: AsyncSession, *, limit: int) -> Sequence[Any]:
    """The enabled automations whose last run has failed lately: automation, id, message, ended_at."""
    values = {"seconds": RECENT_SECONDS, "most": MOST_LOOKED_AT, "limit": limit}
    return (await session.execute(_FAILING, values)).all()


async def waiting_long(session: AsyncSession, *, limit: int) -> Sequence[Any]:
    """The automations of which runs wait for long: automation, many, since."""
    return (await session.execute(_WAITING, {"seconds": LONG_SECONDS, "limit": limit})).all()


async def refused(session: AsyncSession, *, limit: int) -> Sequence[Any]:
    """The newest steps that the sandbox has refused lately: run_id, path, error, automation, ended_at."""
    return (await session.execute(_REFUSED, {"seconds": RECENT_SECONDS, "limit": limit})).all()


async def under_way(session: AsyncSession) -> tuple[int, int]:
    """How many runs are under way, and how many wait."""
    row = (await session.execute(_UNDER_WAY)).one()
    return row.running, row.waiting


async def ended_lately(session: AsyncSession) -> list[int]:
    """How many runs have ended in each five minutes of the last hour, the oldest first."""
    counted = {row.slot: row.many for row in await session.execute(_ENDED)}
    return [counted.get(slot, 0) for slot in range(11, -1, -1)]


async def on_satellite(session: AsyncSession, satellite: UUID, *, limit: int) -> Sequence[Any]:
    """The newest steps on a satellite: run_id, path, attempt, state, message, automation, status, created_at."""
    return (await session.execute(_ON_SATELLITE, {"satellite": satellite, "limit": limit})).all()


async def states(session: AsyncSession, run: UUID) -> dict[str, str]:
    """How far each step of a run is, by path."""
    return {row.path: row.status for row in await session.execute(_STATES, {"run": run})}


async def places(session: AsyncSession, run: UUID, *, limit: int) -> dict[tuple[str, int], list[Any]]:
    """Where steps of a run go on, or went, on satellites: by path and attempt, so many in all."""
    found: dict[tuple[str, int], list[Any]] = {}
    for row in await session.execute(_PLACES, {"run": run, "limit": limit}):
        found.setdefault((row.path, row.attempt), []).append(row)
    return found
