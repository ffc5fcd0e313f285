"""The tailer: one per instance, it follows the log from a cursor and hands on every event, in order.

It wakes by LISTEN/NOTIFY, by a slow poll and on every reconnect, and always reads from its cursor. A notification
carries nothing and is only an alarm clock: a lost one costs latency, never an event.

It is *live* while a read has lately succeeded. Whoever keeps a copy of what events say may use it only then.
Every wait on the database has a deadline, so that a stalled network or a half-dead server is noticed, and the
clock that judges it goes on while the process is frozen, so that a resumed process knows that it has been away.

Threat: a database that has been set back (restored, or a standby promoted that had not got everything) numbers new
events as it had numbered lost ones, and whoever reads on from their cursor never sees them. Mechanism: each read begins
with the event at the cursor, which must still be the one that was read there. If not, nobody here trusts a copy until
the tailer has gone back to the newest event that the log still has as it was read (see `trail`), has told of it, and
has read on from there. So every event of the history that holds is heard at least once, without a restart. Of what
others here have read from the tables ahead of the tailer this says nothing, so each new connection is told of as well.
Not covered: what is asked of a copy before that read, for which `LIVE_SECONDS` is the bound; who waits (`wait_for`)
before that read for a position that the old history had reached; and a database that is restored from before a
migration, which needs the restart that migrates it.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
import structlog
from psycopg.rows import args_row

from ringfence.backoff import Pauses
from ringfence.eventlog.history.resumed import EventLogResumed
from ringfence.eventlog.history.trail import Mark, Trail
from ringfence.eventlog.record import COLUMNS, EventRecord
from ringfence.redaction import describe

POLL_SECONDS = 1.0
"""How often the log is read when nothing wakes the tailer."""
READ_SECONDS = 2.0
"""The deadline of one exchange with the database."""
LIVE_SECONDS = 3.0
"""For how long after a read that reached the end of the log the tailer counts as live."""
RETRY_SECONDS = (0.05, 2.0)
"""The first and the longest pause before connecting again."""
BATCH = 500

# From the event at the cursor on, of which the payload, which may be large, is left out.
_COLUMNS = COLUMNS.replace("payload", "CASE WHEN position > %(cursor)s THEN payload END")
_READ = (
    f"SELECT hash, {_COLUMNS} FROM events WHERE position >= %(cursor)s ORDER BY position LIMIT {BATCH + 1}"  # noqa: S608
)
# The read is always a short walk along the primary key. A plan made while the table was small would be kept by the
# connection, and read all of it each time once it has grown.
_PREPARE = "SET enable_seqscan = off; SET enable_sort = off"
_CHANNEL = "ringfence_events"
# The newest event, the oldest, and what is 1, 2, 4, 8 … positions before the newest.
_START = """
    WITH last AS (SELECT max(position) AS position FROM events),
         back AS (SELECT 0 AS far UNION ALL SELECT 1::bigint << n FROM generate_series(0, 61) AS n)
    SELECT near.position, near.hash
      FROM last, back, LATERAL (
        SELECT position, hash FROM events
         WHERE position <= last.position - back.far ORDER BY position DESC LIMIT 1) AS near
     WHERE back.far < last.position
     UNION (SELECT position, hash FROM events ORDER BY position LIMIT 1)
     ORDER BY position
"""
_STILL_THERE = """
    SELECT coalesce(max(position), 0)
      FROM unnest(%s::bigint[], %s::bytea[]) AS mark (position, hash) JOIN events USING (position, hash)
"""
_log = structlog.get_logger("ringfence.eventlog")

T = TypeVar("T")
Connection = psycopg.AsyncConnection[tuple[Any, ...]]
Deliver = Callable[[EventRecord], Awaitable[None]]
TellResumed = Callable[[EventLogResumed], Awaitable[None]]


class LogSetBackError(RuntimeError):
    """The database was set back while an event was waited for, which may be lost: read whether it is there."""

    def __init__(self, position: int) -> None:
        super().__init__(
            f"the database was set back while somebody waited for position {position} of the event log: "
            "read again whether the change is there"
        )


@dataclass(frozen=True, slots=True)
class NoticedSetBack:
    """The last time that the log was found to have been set back.

    Also how often it has been by now, and when that was, by this host's clock.
    """

    what: EventLogResumed
    times: int
    at: dt.datetime


async def _tell_nobody(_: EventLogResumed) -> None:
    return None


class Tailer:
    """Follows the log of the database at `libpq_url` and awaits `deliver` for each event after its cursor.

    `resumed` is awaited on every new connection, between the events that were read before and those that come now.
    """

    def __init__(
        self,
        libpq_url: str,
        deliver: Deliver,
        *,
        resumed: TellResumed = _tell_nobody,
        delivered: Callable[[EventRecord], None] = lambda _: None,
        alarms: Mapping[str, Callable[[], None]] | None = None,
        mark: tuple[str, Callable[[bool], None]] | None = None,
    ) -> None:
        """Follow the log, once it runs.

        `mark` is a statement that takes a lock of the session, and what is told whether the session has it: when it
        begins, and when it has ended.

        `delivered` is called once an event has been delivered, and counts as read; `alarms` for notifications of other
        channels, which come by the same connection.
        """
        self._url = libpq_url
        self._delivered = delivered
        self._alarms = dict(alarms or {})
        self._mark = mark
        self._deliver = deliver
        self._tell_resumed = resumed
        self._resumed = False
        self._trail = Trail()
        self._moved = asyncio.Condition()
        self._caught_up_at: float | None = None
        self._error: str | None = None
        self.set_back: NoticedSetBack | None = None

    @property
    def cursor(self) -> int:
        """The position of the last event that was delivered."""
        return 0 if self._trail.head is None else self._trail.head.position

    @property
    def head(self) -> Mark | None:
        """The last event that was delivered, as it is known again."""
        return self._trail.head

    async def start_at_end(self) -> None:
        """Put the cursor at the newest event there is now. What comes later will be delivered by `run`."""
        async with await self._connect() as connection:
            found = await self._within_deadline(connection, connection.execute(_START))
            self._trail = Trail([Mark(*row) async for row in found])

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
        """Return once the event at `position` has been delivered here. Raises `LogSetBackError`."""
        before = self.set_back
        async with self._moved:
            await self._moved.wait_for(lambda: self.cursor >= position or self.set_back is not before)
        if self.set_back is not before:
            raise LogSetBackError(position)

    async def run(self) -> None:
        """Follow the log until cancelled, through any number of lost connections."""
        pauses = Pauses(*RETRY_SECONDS)
        while True:
            try:
                async with await self._connect() as connection:
                    listen = "; ".join(f"LISTEN {channel}" for channel in (_CHANNEL, *self._alarms))
                    await self._within_deadline(connection, connection.execute(f"{_PREPARE}; {listen}"))
                    pauses.succeeded()
                    self._resumed = False
                    await self._take_mark(connection)
                    await self._follow(connection)
            except (psycopg.Error, OSError, TimeoutError) as error:
                self._error = describe(error)
                _log.warning("cannot read the event log; trying again", error=self._error, cursor=self.cursor)
                self._tell_mark(False)
            await asyncio.sleep(pauses.after_failure())

    async def _take_mark(self, connection: Connection) -> None:
        if self._mark is not None:
            found = await self._within_deadline(connection, connection.execute(self._mark[0]))
            row = await found.fetchone()
            self._tell_mark(row is not None and bool(row[0]))

    def _tell_mark(self, is_held: bool) -> None:
        if self._mark is not None:
            self._mark[1](is_held)

    async def _connect(self) -> Connection:
        async with asyncio.timeout(READ_SECONDS):
            return await psycopg.AsyncConnection.connect(self._url, autocommit=True)

    async def _follow(self, connection: Connection) -> None:
        notified = asyncio.Event()

        def heard(channel: str) -> None:
            self._alarms.get(channel, notified.set)()

        connection.add_notify_handler(lambda notification: heard(notification.channel))
        for alarm in self._alarms.values():
            alarm()
        while True:
            # What has come so far is answered by the read that begins now.
            _take_notifications(connection, heard)
            notified.clear()
            await self._drain(connection)
            _take_notifications(connection, heard)
            due = asyncio.get_running_loop().time() + POLL_SECONDS
            while not notified.is_set() and await _until_readable(connection, due):
                _take_notifications(connection, heard)

    async def _drain(self, connection: Connection) -> None:
        while True:
            asked_at = time.clock_gettime(time.CLOCK_BOOTTIME)
            read = await self._within_deadline(connection, self._read(connection))
            if read is None:
                self._caught_up_at = None
                await self._go_back(connection)
                continue
            if not self._resumed:
                await self._resume(EventLogResumed(read_up_to=self.cursor, resumed_after=self.cursor))
            for mark, record in read:
                await self._deliver(record)
                async with self._moved:
                    self._trail.add(mark)
                    self._moved.notify_all()
                self._delivered(record)
            if len(read) < BATCH:
                self._caught_up_at = asked_at
                self._error = None
                return

    async def _read(self, connection: Connection) -> list[tuple[Mark, EventRecord]] | None:
        """What comes after the cursor; None when the event at the cursor is not the one that was read there."""
        async with connection.cursor(row_factory=args_row(_marked)) as cursor:
            await cursor.execute(_READ, {"cursor": self.cursor})
            rows = await cursor.fetchall()
        if self._trail.head is None:
            return rows
        return rows[1:] if rows and rows[0][0] == self._trail.head else None

    async def _go_back(self, connection: Connection) -> None:
        """The log was set back: find where to read on, and tell of it."""
        marks = self._trail.marks()
        asked = connection.execute(
            _STILL_THERE, ([mark.position for mark in marks], [mark.hash for mark in marks])
        )
        row = await (await self._within_deadline(connection, asked)).fetchone()
        assert row is not None
        what = EventLogResumed(read_up_to=self.cursor, resumed_after=int(row[0]), set_back=True)
        _log.error(
            "the database was set back: events that were read are no longer in it. "
            "Going on from the last event that it still holds",
            read_up_to=what.read_up_to,
            resumed_after=what.resumed_after,
        )
        async with self._moved:
            self._trail.cut(what.resumed_after)
            times = 1 if self.set_back is None else self.set_back.times + 1
            self.set_back = NoticedSetBack(what, times, dt.datetime.now(dt.UTC))
            self._moved.notify_all()
        await self._resume(what)

    async def _resume(self, what: EventLogResumed) -> None:
        self._resumed = True
        await self._tell_resumed(what)

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


def _take_notifications(connection: Connection, heard: Callable[[str], None]) -> None:
    """Take what notifications have come, without waiting, and tell of their channels."""
    connection.pgconn.consume_input()
    while (notification := connection.pgconn.notifies()) is not None:
        heard(notification.relname.decode())


async def _until_readable(connection: Connection, due: float) -> bool:
    """Return when the server has sent something, or at `due` by the loop's clock; whether it has.

    psycopg's own waiting for notifications wakes up ten times a second.
    """
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    descriptor = connection.fileno()
    loop.add_reader(descriptor, readable.set)
    try:
        async with asyncio.timeout_at(due):
            await readable.wait()
    except TimeoutError:
        return False
    else:
        return True
    finally:
        loop.remove_reader(descriptor)


def _marked(hash: bytes, *columns: Any) -> tuple[Mark, EventRecord]:
    record = EventRecord(*columns)
    return Mark(record.position, hash), record


def _cut(connection: Connection) -> None:
    with (
        contextlib.suppress(OSError, psycopg.Error),
        socket.socket(fileno=os.dup(connection.fileno())) as wire,
    ):
        wire.shutdown(socket.SHUT_RDWR)
