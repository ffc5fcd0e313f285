"""Incidents and tellings in the database, for those who take events and who make messages of them."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_notifications.deciding import Fact, Phase, Telling
from ringfence_notifications.incidents.stored import from_wire, gathers, to_wire

# The row is locked from here on, so that one incident is moved by one transaction at a time.
_BEGIN = text("""
    INSERT INTO notifications_incidents AS known
        (route, key, severity, title, link, lasts, events, began_at, changed_at)
    VALUES (:route, :key, :severity, :title, :link, :lasts, 1, clock_timestamp(), clock_timestamp())
    ON CONFLICT (route, key) DO UPDATE
       SET severity = excluded.severity, title = excluded.title, link = excluded.link,
           lasts = excluded.lasts, events = known.events + 1, changed_at = excluded.changed_at,
           began_at = CASE WHEN known.lasts THEN known.began_at ELSE excluded.began_at END,
           acknowledged_at = CASE WHEN known.lasts THEN known.acknowledged_at END,
           acknowledged_by = CASE WHEN known.lasts THEN known.acknowledged_by END
    RETURNING id, lasts AND began_at >= statement_timestamp() AS is_new
""")
_END = text("""
    UPDATE notifications_incidents AS incident
       SET lasts = false, changed_at = clock_timestamp(), acknowledged_at = NULL, acknowledged_by = NULL
     WHERE id IN (
        SELECT id FROM notifications_incidents
         WHERE lasts AND route = :route AND cardinality(key) = cardinality(CAST(:key AS text[]))
           AND NOT EXISTS (
                SELECT FROM unnest(key, CAST(:key AS text[])) AS part (had, wanted)
                 WHERE part.wanted IS NOT NULL AND part.had <> part.wanted)
         ORDER BY id FOR UPDATE)
    RETURNING id
""")
_END_ONE = text("""
    UPDATE notifications_incidents
       SET lasts = false, changed_at = clock_timestamp(), acknowledged_at = NULL, acknowledged_by = NULL
     WHERE lasts AND route = :route AND key = CAST(:key AS text[])
    RETURNING id
""")
_OF_INCIDENTS = text("""
    SELECT channel, incident, route, group_key, state, due_at FROM notifications_tellings
     WHERE incident = ANY(:incidents) ORDER BY channel, incident FOR UPDATE
""")
_DUE = text("""
    SELECT channel, incident, route, group_key, state, due_at FROM notifications_tellings
     WHERE channel = :channel AND due_at <= :now ORDER BY due_at, incident LIMIT :limit FOR UPDATE
""")
_GROUP_DUE = text("""
    SELECT channel, min(due_at) AS due_at FROM notifications_tellings
     WHERE channel = ANY(:channels) AND route = :route AND group_key = :group AND gathers AND due_at > :now
     GROUP BY channel
""")
_WRITE = text("""
    INSERT INTO notifications_tellings (channel, incident, route, group_key, state, due_at, gathers)
    VALUES (:channel, :incident, :route, :group_key, CAST(:state AS jsonb), :due_at, :gathers)
    ON CONFLICT (channel, incident) DO UPDATE
       SET group_key = excluded.group_key, state = excluded.state, due_at = excluded.due_at, gathers = excluded.gathers
""")
_NEXT_DUE = text("SELECT min(due_at) FROM notifications_tellings WHERE channel = :channel")
_COUNT_OF_ROUTE = text("""
    SELECT channel, sum(CAST(state ->> 'events' AS bigint))::bigint AS events FROM notifications_tellings
     WHERE route = :route GROUP BY channel ORDER BY channel
""")
_FORGET_ROUTE = text("DELETE FROM notifications_tellings WHERE route = :route")
_END_ROUTE = text("""
    UPDATE notifications_incidents SET lasts = false, changed_at = clock_timestamp() WHERE route = :route AND lasts
""")
_NOW = text("SELECT clock_timestamp()")


@dataclass(frozen=True, slots=True)
class StoredTelling:
    """A telling with where it belongs; None where the channel knows nothing of the incident yet."""

    channel: str
    incident: int
    route: str
    group: str
    telling: Telling | None


async def begin(session: AsyncSession, route: str, key: Sequence[str], fact: Fact) -> tuple[int, bool]:
    """Record that an incident has begun, goes on or has happened; its row is locked.

    Answers its id, and whether it lasts from now on.
    """
    values = {
        "route": route,
        "key": list(key),
        "severity": fact.severity.value,
        "title": fact.title,
        "link": fact.link,
        "lasts": fact.phase is Phase.RAISED,
    }
    row = (await session.execute(_BEGIN, values)).one()
    return int(row.id), bool(row.is_new)


async def end(session: AsyncSession, route: str, key: Sequence[str | None]) -> list[int]:
    """Record that the lasting incidents whose keys fit are over; answers their ids. Their rows are locked."""
    statement = _END if None in key else _END_ONE
    rows = await session.execute(statement, {"route": route, "key": list(key)})
    return [row.id for row in rows]


async def of_incidents(session: AsyncSession, incidents: Collection[int]) -> list[StoredTelling]:
    """What channels know of incidents; the rows are locked."""
    return [_read(row) for row in await session.execute(_OF_INCIDENTS, {"incidents": list(incidents)})]


async def due(session: AsyncSession, channel: str, now: dt.datetime, *, limit: int) -> list[StoredTelling]:
    """What a channel is due to be told, the longest due first; the rows are locked."""
    rows = await session.execute(_DUE, {"channel": channel, "now": now, "limit": limit})
    return [_read(row) for row in rows]


async def group_due(
    session: AsyncSession, channels: Collection[str], route: str, group: str, now: dt.datetime
) -> Mapping[str, dt.datetime]:
    """When the next message of a group is due, for each of the channels in which one is."""
    values = {"channels": list(channels), "route": route, "group": group, "now": now}
    return {row.channel: row.due_at for row in await session.execute(_GROUP_DUE, values)}


async def write(session: AsyncSession, tellings: Sequence[StoredTelling]) -> None:
    """Store tellings."""
    rows = [
        {
            "channel": one.channel,
            "incident": one.incident,
            "route": one.route,
            "group_key": one.group,
            "state": json.dumps(to_wire(one.telling)),
            "due_at": one.telling.due_at,
            "gathers": gathers(one.telling),
        }
        for one in tellings
        if one.telling is not None
    ]
    if rows:
        await session.execute(_WRITE, rows)


async def next_due(session: AsyncSession, channel: str) -> dt.datetime | None:
    """When a channel is to be told something next."""
    found: dt.datetime | None = (await session.execute(_NEXT_DUE, {"channel": channel})).scalar_one()
    return found


async def forget_route(session: AsyncSession, route: str) -> Mapping[str, int]:
    """Have nothing more told of a route; answers how many events each channel was still to be told of."""
    untold = {row.channel: row.events for row in await session.execute(_COUNT_OF_ROUTE, {"route": route})}
    await session.execute(_END_ROUTE, {"route": route})
    await session.execute(_FORGET_ROUTE, {"route": route})
    return untold


async def clock(session: AsyncSession) -> dt.datetime:
    """What time it is by the database's clock, which the whole fleet shares."""
    now: dt.datetime = (await session.execute(_NOW)).scalar_one()
    return now


def _read(row: Row[Any]) -> StoredTelling:
    telling = from_wire(row.state, row.due_at)
    return StoredTelling(row.channel, row.incident, row.route, row.group_key, telling)
