"""Searching the log backwards, page by page, with bounded work: no index but those of positions and streams is needed.

A page looks at no more than `MOST_LOOKED_AT` events. Where that is not far enough to fill it, it says how far it came,
and the next one goes on from there. Times are found by halving: events are in the order of their times.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence.eventlog.read import END
from ringfence.eventlog.record import COLUMNS, EventRecord

MOST_LOOKED_AT = 10_000
EXCERPT_CHARACTERS = 200
_LISTED = "position, stream, version, hook, plugin, actor, reason, occurred_at, instance"
_CONDITIONS = {
    "hook": "hook = :hook",
    "actor": "actor = :actor",
    "words": "strpos(lower(reason), lower(:words)) > 0",
}
# The inner rows come in the order of the outer ones, so that the look ends as soon as the page is full.
_SEARCH = """
    SELECT {listed}, left(payload::text, :excerpt) AS excerpt FROM (
        SELECT {listed}, payload FROM events
         WHERE position < :before AND position >= :lowest AND {stream} ORDER BY {order} DESC LIMIT :most) AS looked
     WHERE {conditions} ORDER BY position DESC LIMIT :limit
"""
_LOOKED = """
    SELECT min(position), count(*) FROM (
        SELECT position FROM events
         WHERE position < :before AND position >= :lowest AND {stream} ORDER BY {order} DESC LIMIT :most) AS looked
"""
_ONE = text(f"SELECT {COLUMNS} FROM events WHERE position = :position")  # noqa: S608
# Between `low` and `high` lies the first position from which on no event is older than the moment.
_POSITIONS = text("""
    WITH RECURSIVE halving (moment, low, high) AS (
        SELECT moment, 0::bigint, (SELECT coalesce(max(position), 0) + 1 FROM events)
          FROM unnest(CAST(:moments AS timestamptz[])) AS moment
         UNION ALL
        SELECT moment, CASE WHEN older THEN middle ELSE low END, CASE WHEN older THEN high ELSE middle END
          FROM (SELECT moment, low, high, (low + high) / 2 AS middle,
                       coalesce((SELECT occurred_at FROM events WHERE position >= (low + high) / 2
                                  ORDER BY position LIMIT 1) < moment, false) AS older
                  FROM halving WHERE high - low > 1) AS half)
    SELECT moment, high FROM halving WHERE high - low <= 1 ORDER BY moment
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """What events are looked for: all that is given must fit. `words` are part of the reason, in any letters."""

    stream: str | None = None
    hook: str | None = None
    actor: str | None = None
    words: str | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class ListedEvent:
    """An event without its payload, but for how that begins."""

    position: int
    stream: str
    version: int
    hook: str
    plugin: str
    actor: str | None
    reason: str | None
    occurred_at: dt.datetime
    instance: UUID
    excerpt: str


class FoundEvents(NamedTuple):
    """Events, newest first; `next` is what to begin before to go on, None where there is nothing more to look at."""

    events: Sequence[ListedEvent]
    next: int | None


async def search_back(
    session: AsyncSession, sought: Sought, *, before: int | None, limit: int
) -> FoundEvents:
    """The events that fit before a position (None: before the end)."""
    lowest, highest = await _between(session, sought)
    values = {
        "before": min(highest, END if before is None else before),
        "lowest": lowest,
        "stream": sought.stream,
        "excerpt": EXCERPT_CHARACTERS,
        "limit": limit + 1,
    }
    conditions = []
    for name, condition in _CONDITIONS.items():
        if (value := getattr(sought, name)) is not None:
            values[name] = value
            conditions.append(condition)
    # Without conditions, what is looked at is what is found.
    values["most"] = MOST_LOOKED_AT if conditions else limit + 1
    parts = {
        "listed": _LISTED,
        # A stream's versions are in the order of their positions, and have an index.
        "stream": "true" if sought.stream is None else "stream = :stream",
        "order": "position" if sought.stream is None else "version",
        "conditions": " AND ".join(conditions) or "true",
    }
    rows = (await session.execute(text(_SEARCH.format(**parts)), values)).all()
    events = [ListedEvent(*row) for row in rows[:limit]]
    if len(rows) > limit:
        return FoundEvents(events, events[-1].position)
    if not conditions:
        return FoundEvents(events, None)
    reached, looked = (await session.execute(text(_LOOKED.format(**parts)), values)).one()
    return FoundEvents(events, int(reached) if looked >= MOST_LOOKED_AT else None)


async def event_at(session: AsyncSession, position: int) -> EventRecord | None:
    """The event at a position."""
    row = (await session.execute(_ONE, {"position": position})).one_or_none()
    return None if row is None else EventRecord(*row)


async def positions_at(session: AsyncSession, moments: Sequence[dt.datetime]) -> list[int]:
    """For each moment, oldest first, the position from which on no event is older."""
    rows = await session.execute(_POSITIONS, {"moments": sorted(moments)})
    return [int(row.high) for row in rows]


async def _between(session: AsyncSession, sought: Sought) -> tuple[int, int]:
    """The positions that the times of a search come to: from the one on, and before the other."""
    since, until = sought.since, sought.until
    moments = sorted(one for one in (since, until) if one is not None)
    found = dict(zip(moments, await positions_at(session, moments), strict=True)) if moments else {}
    return (0 if since is None else found[since]), (END if until is None else found[until])
