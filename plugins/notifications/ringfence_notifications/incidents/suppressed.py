"""Events that are in no message: counted by channel, route and day, with why."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_notifications.deciding import Why

EVERYBODY = ""
"""Stands for the channel where none was to be told."""

_COUNT = text("""
    INSERT INTO notifications_suppressed AS known (channel, route, why, day, events)
    VALUES (:channel, :route, :why, CAST(timezone('UTC', clock_timestamp()) AS date), :events)
    ON CONFLICT (channel, route, why, day) DO UPDATE SET events = known.events + excluded.events
""")
_LIST = text("""
    SELECT channel, route, why, sum(events)::bigint AS events, max(day) AS last FROM notifications_suppressed
     WHERE day >= :since GROUP BY channel, route, why ORDER BY channel, route, why
""")


@dataclass(frozen=True, slots=True)
class Reason:
    """Where an event got lost on its way to a message, and why."""

    channel: str
    route: str
    why: Why


Counts = Counter[Reason]


async def count(session: AsyncSession, counts: Counts) -> None:
    """Add to the counts, in the transaction of `session`; in one order, so that no two wait for each other."""
    rows = [
        {"channel": one.channel, "route": one.route, "why": one.why.value, "events": events}
        for one, events in sorted(
            counts.items(), key=lambda item: (item[0].channel, item[0].route, item[0].why)
        )
        if events
    ]
    if rows:
        await session.execute(_COUNT, rows)


async def listed(session: AsyncSession, since: dt.date) -> Sequence[dict[str, Any]]:
    """How many events are in no message, since a day, as JSON for the API."""
    rows = await session.execute(_LIST, {"since": since})
    return [
        {
            "channel": row.channel or None,
            "route": row.route,
            "why": row.why,
            "events": row.events,
            "lastDay": row.last,
        }
        for row in rows
    ]
