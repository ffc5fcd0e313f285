"""Appending: a row for each event, in the caller's own transaction or in one by itself."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Protocol, cast
from uuid import UUID

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence import tracing
from ringfence.eventlog.record import Written
from ringfence.storage.configs import ConfigWrite

_APPEND = """
    SELECT r_position, r_version, r_occurred_at, r_current_version
      FROM ringfence_append_event(%s, %s, %s, %s::jsonb, %s, %s, %s::bigint, %s::uuid, %s)
"""
_APPEND_WITH_CONFIG = """
    SELECT r_position, r_version, r_occurred_at
      FROM ringfence_append_with_config(%s, %s, %s, %s::jsonb, %s, %s, %s::bigint, %s::uuid, %s,
        %s, %s::integer, %s::jsonb, %s::timestamptz, %s::timestamptz, %s)
"""
# JSON documents and an array as text, for psycopg takes longer to write a list as an array than the append takes.
_APPEND_ALL = """
    SELECT ringfence_append_batch(
        ARRAY(SELECT jsonb_array_elements_text(%s::jsonb)), %s::integer[],
        ARRAY(SELECT jsonb_array_elements(%s::jsonb)), %s, %s, %s, %s, %s::uuid, %s)
"""
_TRACE = "SELECT set_config('ringfence.traceparent', %s, true)"
_DRIVER = "ringfence.eventlog.driver"

_Driver = psycopg.AsyncConnection[tuple[Any, ...]]


class WrongExpectedVersionError(RuntimeError):
    """Somebody else has appended to the stream since it was read. `current` is the version that it is at."""

    def __init__(self, stream: str, *, expected: int, current: int) -> None:
        super().__init__(
            f"stream {stream} is at version {current}, not at the expected {expected}: read it again"
        )
        self.stream = stream
        self.expected = expected
        self.current = current


class Appended(NamedTuple):
    """Where an event has come to stand in the log, and when."""

    position: int
    version: int
    occurred_at: dt.datetime


class Source(NamedTuple):
    """What the events of one emission have in common."""

    hook: str
    plugin: str
    instance: UUID
    actor: str | None = None
    reason: str | None = None
    keep_forever: bool = False
    """Exempts the event, and with it its whole stream, from retention."""


class Log(Protocol):
    """Where events are appended: the event log, but for a plugin's own tests."""

    async def append(
        self,
        session: AsyncSession | None,
        stream: str,
        written: Written,
        source: Source,
        *,
        expected_version: int | None = None,
    ) -> Appended:
        """Append one event. It is there for others once the session's transaction commits, and never if it does not.

        The log's append lock is held until then, so append late in a transaction and keep it short. With no session,
        the event is a transaction by itself and has been committed when this returns.
        Raises `WrongExpectedVersionError` when `expected_version` is given and the stream is elsewhere.
        """

    async def append_all(
        self, session: AsyncSession | None, facts: Sequence[tuple[str, Written]], source: Source
    ) -> None:
        """Append many events, each a stream and a payload, in their order: one exchange with the database."""

    async def append_with_config(
        self, stream: str, written: Written, source: Source, *, expected_version: int, config: ConfigWrite
    ) -> Appended | None:
        """Append one event and store the config of its plugin, in a transaction of their own: one exchange.

        None, and nothing done, if the stream is elsewhere or another config is stored than the one to be replaced.
        """


def _event(stream: str, written: Written, source: Source, expected_version: int | None) -> tuple[object, ...]:
    """One event as the statements take it."""
    hook, plugin, instance, actor, reason, keep_forever = source
    return (stream, hook, plugin, written.document, actor, reason, expected_version, instance, keep_forever)


class EventLog:
    """The log in the database.

    Each append is one statement on the session's own psycopg connection, past SQLAlchemy's machinery, which costs more
    than the append does.
    """

    def __init__(self, autocommit: Callable[[], AbstractAsyncContextManager[_Driver]]) -> None:
        """`autocommit` lends a connection on which each statement commits by itself."""
        self._autocommit = autocommit

    async def append(
        self,
        session: AsyncSession | None,
        stream: str,
        written: Written,
        source: Source,
        *,
        expected_version: int | None = None,
    ) -> Appended:
        """See `Log`."""
        values = _event(stream, written, source, expected_version)
        position, version, occurred_at, current = await self._execute(session, _APPEND, values)
        if position is None:
            assert expected_version is not None
            raise WrongExpectedVersionError(stream, expected=expected_version, current=current)
        return Appended(position, version, occurred_at)

    async def append_all(
        self, session: AsyncSession | None, facts: Sequence[tuple[str, Written]], source: Source
    ) -> None:
        """See `Log`."""
        streams: dict[str, int] = {}
        of_stream = ",".join([str(streams.setdefault(stream, len(streams) + 1)) for stream, _ in facts])
        documents = ",".join([written.document for _, written in facts])
        hook, plugin, instance, actor, reason, keep_forever = source
        lists = (json.dumps(list(streams)), f"{{{of_stream}}}", f"[{documents}]")
        values = (*lists, hook, plugin, actor, reason, instance, keep_forever)
        await self._execute(session, _APPEND_ALL, values)

    async def append_with_config(
        self, stream: str, written: Written, source: Source, *, expected_version: int, config: ConfigWrite
    ) -> Appended | None:
        """See `Log`."""
        event = _event(stream, written, source, expected_version)
        position, version, occurred_at = await self._execute(None, _APPEND_WITH_CONFIG, (*event, *config))
        return None if position is None else Appended(position, version, occurred_at)

    async def _execute(
        self, session: AsyncSession | None, statement: str, values: tuple[object, ...]
    ) -> tuple[Any, ...]:
        if session is not None:
            driver = await _driver(session)
            await _tell_of_trace(driver)
            return await _execute(driver, statement, values)
        async with self._autocommit() as driver:
            if tracing.current() is None:
                return await _execute(driver, statement, values)
            async with driver.transaction():
                await _tell_of_trace(driver)
                return await _execute(driver, statement, values)


async def _tell_of_trace(driver: _Driver) -> None:
    """Have what is written until the end of the transaction know its span: see the default of `events.traceparent`."""
    if (traceparent := tracing.current()) is not None:
        await driver.execute(_TRACE, (traceparent,))


async def _execute(driver: _Driver, statement: str, values: tuple[object, ...]) -> tuple[Any, ...]:
    """The one row that is answered. Raises what SQLAlchemy would have raised."""
    try:
        cursor = await driver.execute(statement, values, prepare=True)
        row = await cursor.fetchone()
    except psycopg.Error as error:
        raise DBAPIError.instance(
            statement,
            values,
            error,
            psycopg.Error,
            hide_parameters=True,
            connection_invalidated=driver.closed or driver.broken,
        ) from error
    assert row is not None
    return row


async def _driver(session: AsyncSession) -> _Driver:
    """The psycopg connection of the session's transaction, looked up once for each transaction."""
    transaction = session.sync_session.get_transaction()
    known, driver = session.info.get(_DRIVER, (None, None))
    if known is None or known is not transaction:
        driver = await session.run_sync(lambda sync: sync.connection().connection.driver_connection)
        session.info[_DRIVER] = (transaction, driver)
    return cast("_Driver", driver)
