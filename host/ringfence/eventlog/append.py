"""Appending: one row, in the caller's own transaction."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from typing import Any, NamedTuple, cast
from uuid import UUID

import psycopg
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

_APPEND = """
    SELECT r_position, r_version, r_occurred_at, r_current_version
      FROM ringfence_append_events(ARRAY[%s], ARRAY[%s::jsonb], %s, %s, %s, %s, %s::bigint, %s::uuid, %s)
"""
# Two JSON documents, for psycopg takes longer to write a list as an array than the append takes.
_APPEND_ALL = """
    SELECT ringfence_append_events(
        ARRAY(SELECT jsonb_array_elements_text(%s::jsonb)), ARRAY(SELECT jsonb_array_elements(%s::jsonb)),
        %s, %s, %s, %s, NULL, %s::uuid, %s)
"""
_DRIVER = "ringfence.eventlog.driver"


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


async def append(
    session: AsyncSession,
    *,
    stream: str,
    hook: str,
    plugin: str,
    payload: BaseModel,
    instance: UUID,
    actor: str | None = None,
    reason: str | None = None,
    expected_version: int | None = None,
    keep_forever: bool = False,
) -> Appended:
    """Append one event. It is there for others once the caller's transaction commits, and never if it does not.

    Holds the log's append lock until then, so append late in a transaction and keep it short. `keep_forever` exempts
    the event, and with it its whole stream, from retention.
    Raises `WrongExpectedVersionError` when `expected_version` is given and the stream is elsewhere.
    """
    document = payload.model_dump_json(by_alias=True)
    values = (stream, document, hook, plugin, actor, reason, expected_version, instance, keep_forever)
    position, version, occurred_at, current = await _execute(session, _APPEND, values)
    if position is None:
        assert expected_version is not None
        raise WrongExpectedVersionError(stream, expected=expected_version, current=current)
    return Appended(position, version, occurred_at)


async def append_all(
    session: AsyncSession,
    facts: Sequence[tuple[str, BaseModel]],
    *,
    hook: str,
    plugin: str,
    instance: UUID,
    actor: str | None = None,
    reason: str | None = None,
    keep_forever: bool = False,
) -> None:
    """Append many events of one hook, each a stream and a payload, in their order: one exchange with the
    database.

    Otherwise as `append` without an expected version.
    """
    streams = json.dumps([stream for stream, _ in facts])
    documents = ",".join(payload.model_dump_json(by_alias=True) for _, payload in facts)
    values = (streams, f"[{documents}]", hook, plugin, actor, reason, instance, keep_forever)
    await _execute(session, _APPEND_ALL, values)


async def _execute(session: AsyncSession, statement: str, values: tuple[object, ...]) -> tuple[Any, ...]:
    """One statement on the session's own connection, past SQLAlchemy's machinery, which costs more than the append.

    Raises what SQLAlchemy would have raised.
    """
    driver = await _driver(session)
    try:
        cursor = await driver.execute(statement, values, prepare=True)
        row = await cursor.fetchone()
    except psycopg.Error as error:
        raise DBAPIError.instance(
            statement, values, error, psycopg.Error, connection_invalidated=driver.closed or driver.broken
        ) from error
    assert row is not None
    return row


async def _driver(session: AsyncSession) -> psycopg.AsyncConnection[tuple[Any, ...]]:
    """The psycopg connection of the session's transaction, looked up once for each transaction."""
    transaction = session.sync_session.get_transaction()
    known, driver = session.info.get(_DRIVER, (None, None))
    if known is None or known is not transaction:
        driver = await session.run_sync(lambda sync: sync.connection().connection.driver_connection)
        session.info[_DRIVER] = (transaction, driver)
    return cast("psycopg.AsyncConnection[tuple[Any, ...]]", driver)
