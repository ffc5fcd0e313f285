"""Retention: which events may go, and letting them go.

An event stays while any of these holds:
- its stream has an event that is kept for ever: such a stream is kept whole. That is written in the rows, so it holds
  when the plugin that said so is gone;
- it is younger than the time that events are kept;
- a worker group is not yet past it. A group that nobody has served for as long as events are kept holds nothing back;
- an instance that was heard of within that time has not yet read it, or has read it last. That is what protects a
  slow or frozen tailer, and lets it know its place again;
- a worker group has set it aside;
- it is the newest of its stream, whose version and hash the next one goes on from.
"""

from __future__ import annotations

import datetime as dt

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

BATCH = 1000
"""How many events go in one transaction."""

_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended('ringfence.retention', 0))")
_FORGET_ASIDE = text("DELETE FROM set_aside WHERE set_aside_at < clock_timestamp() - :keep")
_FORGET_INSTANCES = text("DELETE FROM event_instances WHERE seen_at < clock_timestamp() - :keep")
_TRIM = text("""
    WITH needed AS (
        SELECT (SELECT min(position) FROM event_cursors WHERE served_at >= clock_timestamp() - :keep) AS handled,
               (SELECT min(cursor) FROM event_instances) AS read)
    DELETE FROM events WHERE position IN (
        SELECT old.position FROM events AS old, needed
         WHERE old.occurred_at < clock_timestamp() - :keep
           AND (needed.handled IS NULL OR old.position <= needed.handled)
           AND (needed.read IS NULL OR old.position < needed.read)
           AND NOT EXISTS (SELECT FROM events AS kept WHERE kept.stream = old.stream AND kept.keep_forever)
           AND NOT EXISTS (SELECT FROM failed_events AS failed WHERE failed.position = old.position)
           AND EXISTS (SELECT FROM events AS newer WHERE newer.stream = old.stream AND newer.version > old.version)
         ORDER BY old.position LIMIT :batch)
    RETURNING position
""")


class Retention:
    """Lets go of events that are older than `keep`."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession], keep: dt.timedelta) -> None:
        self._sessions = sessions
        self._keep = keep

    async def trim(self) -> int:
        """Let every event go that may; answers how many went. Does nothing while another instance is at it."""
        gone = 0
        while True:
            batch = await self._trim_some()
            gone += batch
            if batch < BATCH:
                return gone

    async def _trim_some(self) -> int:
        async with self._sessions.begin() as session:
            if not (await session.execute(_LOCK)).scalar_one():
                return 0
            await session.execute(_FORGET_INSTANCES, {"keep": self._keep})
            await session.execute(_FORGET_ASIDE, {"keep": self._keep})
            rows = await session.execute(_TRIM, {"keep": self._keep, "batch": BATCH})
            return len(rows.all())
