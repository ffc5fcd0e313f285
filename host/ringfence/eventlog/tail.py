"""The tailer: one per instance, it follows the log from a cursor and hands on every event, in order.

It wakes by LISTEN/NOTIFY, by a slow poll and on every reconnect, and always reads from its cursor. A notification
carries nothing and is only an alarm clock: a lost one costs latency, never an event.

It is *live* while a read has lately succeeded. Whoever keeps a copy of what events say may use it only then.
Every wait on the database has a deadline, so that a stalled network or a half-dead server is noticed, and the
clock that judges it goes on while the process is frozen, so that a resumed process knows that it has been away.

Threat: a database that has been set back (restored, or a standby promoted that had not got everything) numbers new
events as it had numbered lost ones, and whoever reads on from their cursor never sees them. Mechanism: the end of the
log is compared with the cursor on every new connection; when the log has become shorter the tailer stops for good, so
that nobody here trusts a copy again before a restart. Not covered: a log that has grown past the cursor again by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import psycopg
import structlog
from psycopg.rows import args_row

from ringfence.eventlog.record import COLUMNS, EventRecord

POLL_SECONDS = 1.0
"""How often the log is read when nothing wakes the tailer."""
READ_SECONDS = 2.0
"""The deadline of one exchange with the database."""
LIVE_SECONDS = 3.0
"""For how long after a read that reached the end of the log the tailer counts as live."""
RETRY_SECONDS = (0.05, 2.0)
"""The first and the longest pause before connecting again."""
BATCH = 500

_READ = f"SELECT {COLUMNS} FROM events WHERE position > %s ORDER BY position LIMIT {BATCH}"  # noqa: S608
# The read is always a short walk along the primary key. A plan made while the table was small would be kept by the
# connection, and read all of it each time once it has grown.
_PREPARE = "SET enable_seqscan = off; SET enable_sort = off; LISTEN ringfence_events"
_LAST = "SELECT coalesce(max(position), 0) FROM events"
_log = structlog.get_logger("ringfence.eventlog")

T = TypeVar("T")
Connection = psycopg.AsyncConnection[tuple[Any, ...]]
Deliver = Callable[[EventRecord], Awaitable[None]]


class LogSetBackError(RuntimeError):
    """The log is shorter than what was read from it: the database has been set back, and instances must restart."""

    def __init__(self, *, cursor: int, last: int) -> None:
        super().__init__(
            f"the event log ends at position {last}, but this instance has read up to {cursor}: the database has been "
            "set back; restart every instance"
        )


class Tailer:
    """Follows the log of the database at `libpq_url` and awaits `deliver` for each event after its cursor."""

    def __init__(self, libpq_url: str, deliver: Deliver) -> None:
        self._url = libpq_url
        self._deliver = deliver
        self._moved = asyncio.Condition()
        self._caught_up_at: float | None = None
        self._error: str | None = None
        self.cursor = 0

    async def start_at_end(self) -> None:
        """Put the cursor at the newest event there is now. What comes later will be delivered by `run`."""
        async with await self._connect() as connection:
            self.cursor = await self._last(connection)

    @property
    def live(self) -> bool:
        """Whether everything committed more than `LIVE_SECONDS` ago is known to have been delivered."""
        return self.silent_seconds is not None and self.silent_seconds < LIVE_SECONDS

    @property
    def silent_seconds(self) -> float | None:
        """How long ago the end of the log was last reached, in seconds; None when it never was."""
        return (
            None
            if self._caught_up_at is None
            else time.clock_gettime(time.CLOCK_BOOTTIME) - self._caught_up_at
        )

    @property
    def error(self) -> str | None:
        """What stands in the way at the moment, if anything does."""
        return self._error

    async def wait_for(self, position: int) -> None:
        """Return once the event at `position` has been delivered here."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.cursor >= position)

    async def run(self) -> None:
        """Follow the log until cancelled, through any number of lost connections. Raises `LogSetBackError`."""
        pause = RETRY_SECONDS[0]
        while True:
            try:
                async with await self._connect() as connection:
                    await self._within_deadline(connection, connection.execute(_PREPARE))
                    await self._check_not_set_back(connection)
                    pause = RETRY_SECONDS[0]
                    await self._follow(connection)
            except (psycopg.Error, OSError, TimeoutError) as error:
                self._error = f"{type(error).__name__}: {error}".strip()
                _log.warning("event log out of reach; trying again", error=self._error, cursor=self.cursor)
            # Full jitter, so that a fleet does not return to a restarted database in step.
            await asyncio.sleep(random.uniform(0, pause))  # noqa: S311  (not for secrets)
            pause = min(pause * 2, RETRY_SECONDS[1])

    async def _connect(self) -> Connection:
        async with asyncio.timeout(READ_SECONDS):
            return await psycopg.AsyncConnection.connect(self._url, autocommit=True)

    async def _check_not_set_back(self, connection: Connection) -> None:
        last = await self._last(connection)
        if last < self.cursor:
            self._caught_up_at = None
            raise LogSetBackError(cursor=self.cursor, last=last)

    async def _follow(self, connection: Connection) -> None:
        while True:
            await self._drain(connection)
            async for _ in connection.notifies(timeout=POLL_SECONDS, stop_after=1):
                pass

    async def _drain(self, connection: Connection) -> None:
        while True:
            asked_at = time.clock_gettime(time.CLOCK_BOOTTIME)
            records = await self._within_deadline(connection, self._read(connection))
            for record in records:
                await self._deliver(record)
                async with self._moved:
                    self.cursor = record.position
                    self._moved.notify_all()
            if len(records) < BATCH:
                self._caught_up_at = asked_at
                self._error = None
                return

    async def _read(self, connection: Connection) -> list[EventRecord]:
        async with connection.cursor(row_factory=args_row(EventRecord)) as cursor:
            await cursor.execute(_READ, (self.cursor,))
            return await cursor.fetchall()

    async def _last(self, connection: Connection) -> int:
        rows = await self._within_deadline(connection, connection.execute(_LAST))
        row = await rows.fetchone()
        assert row is not None
        return int(row[0])

    @staticmethod
    async def _within_deadline(connection: Connection, awaitable: Awaitable[T]) -> T:
        """Await an exchange on `connection`; one that takes too long loses the connection, and fails by that.

        It is not cancelled: psycopg would then ask the server to stop, and wait for an answer that does not come.
        """
        deadline = asyncio.get_running_loop().call_later(READ_SECONDS, _cut, connection)
        try:
            return await awaitable
        finally:
            deadline.cancel()


def _cut(connection: Connection) -> None:
    with (
        contextlib.suppress(OSError, psycopg.Error),
        socket.socket(fileno=os.dup(connection.fileno())) as wire,
    ):
        wire.shutdown(socket.SHUT_RDWR)
