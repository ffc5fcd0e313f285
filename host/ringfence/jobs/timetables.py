"""Timetables: the rows that say when a job is enqueued next, and the one exchange in which that is done.

Whoever comes first to a time enqueues the job and moves the row on, in one transaction in which the row is locked: so a
time is there for one job, whatever instances there are. A time that nobody was there for is made up for once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from ringfence.jobs.board import JobBoard, Timetable
from ringfence.jobs.job import JobError
from ringfence.jobs.queue import CHANNEL, JobQueue
from ringfence.jobs.schedule import parse
from ringfence.redaction import describe

MOST_AT_ONCE = 100
BROKEN_SECONDS = 3600.0
"""When a timetable is looked at again whose schedule this release cannot read."""

# Of a plugin that is there, what it does not name any more.
_FORGET = text("""
    DELETE FROM timetables WHERE declared AND plugin = :plugin AND NOT (name = ANY(:names))
""")
_DUE = text("""
    SELECT plugin, name, kind, payload::text AS payload, schedule, zone, extract(epoch FROM next_at)::float AS due,
           extract(epoch FROM clock_timestamp())::float AS now
      FROM timetables WHERE next_at <= clock_timestamp() AND kind = ANY(:kinds)
     ORDER BY next_at LIMIT :most FOR UPDATE SKIP LOCKED
""")
_NEXT = text("""
    SELECT extract(epoch FROM min(next_at) - clock_timestamp())::float FROM timetables WHERE kind = ANY(:kinds)
""")
# For as long as one waits, it stands for those that come meanwhile.
_ENQUEUE = text(f"""
    INSERT INTO jobs (id, plugin, kind, payload, key, single, timetable, first_due_at, due_at)
    VALUES (gen_random_uuid(), :plugin, :kind, CAST(:payload AS jsonb), :key, :key, :name, to_timestamp(:due),
            clock_timestamp())
    ON CONFLICT (kind, single) WHERE status = 'waiting' DO NOTHING
    RETURNING pg_notify('{CHANNEL}', '')
""")  # noqa: S608
_ADVANCE = text("""
    UPDATE timetables SET last_at = to_timestamp(:due), next_at = to_timestamp(:next)
     WHERE plugin = :plugin AND name = :name
""")
_log = structlog.get_logger("ringfence.jobs")


class Timetables:
    """The timetables in the database, as one instance works on them. Raises what the database raises."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession], board: JobBoard) -> None:
        self._sessions = sessions
        self._board = board
        self._queue = JobQueue()

    async def settle(self, plugins: Iterable[str]) -> None:
        """Have just those of `plugins` that they declare, beside those that were set while they ran."""
        async with self._sessions.begin() as session:
            ones: list[Timetable] = []
            for plugin in sorted(plugins):
                declared = sorted(self._board.timetables(plugin=plugin), key=lambda one: one.name)
                await session.execute(_FORGET, {"plugin": plugin, "names": [one.name for one in declared]})
                ones += declared
            await self._queue.set_timetables(session, ones, declared=True)

    async def start_due(self) -> float | None:
        """Enqueue what is due; in how many seconds the next is, None if there is none."""
        kinds = list(self._board.services)
        while await self._start_some(kinds) == MOST_AT_ONCE:
            pass
        async with self._sessions.begin() as session:
            await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
            seconds = (await session.execute(_NEXT, {"kinds": kinds})).scalar_one()
        return None if seconds is None else float(seconds)

    async def _start_some(self, kinds: list[str]) -> int:
        async with self._sessions.begin() as session:
            rows = (await session.execute(_DUE, {"kinds": kinds, "most": MOST_AT_ONCE})).all()
            for row in rows:
                await self._start(session, row)
            return len(rows)

    async def _start(self, session: AsyncSession, row: Any) -> None:
        names = {"plugin": row.plugin, "name": row.name}
        try:
            following = parse(row.schedule, row.zone).next_after(row.now, row.due)
        except JobError as error:
            _log.error("a timetable cannot be followed", **names, error=describe(error))
            following = row.now + BROKEN_SECONDS
        else:
            values = {
                "kind": row.kind,
                "payload": row.payload,
                "key": f"timetable {row.name}",
                "due": row.due,
            }
            await session.execute(_ENQUEUE, names | values)
        await session.execute(_ADVANCE, names | {"due": row.due, "next": following})
