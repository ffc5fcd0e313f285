"""Writing many things at once, so that one which cannot be written harms none of the others.

Threat: what many peers have said is written in one transaction, and one of them has said something that cannot be
stored. The transaction fails, is tried again, and fails again: nobody is heard of any more. Mechanism: a transaction
that fails for what is in it is halved, until the culprit is alone. That one is set aside with its origin and its error,
counted and shown (`ringfence events failed`), and the rest goes on. An outage of the database is nobody's fault: it is
raised, and what was not written stays. Not covered: what fails only together with something else in one half, which is
written once the other is not there.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import psycopg
import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from ringfence.bounded import UnstorableError, cleaned
from ringfence.redaction import describe

CONTENT_CHARACTERS = 4000
"""How much is kept of what was set aside."""
KEPT_OF_ONE_ORIGIN = 100
"""How many of one origin are kept, the newest: whoever goes on like that fills no disk."""
_STATES = ("22", "23", "54")
"""SQLSTATEs that are about what was given: its values, the rules of the table, the limits of what can be stored."""

_PUT = text("""
    INSERT INTO set_aside (plugin, origin, what, error, content)
    VALUES (:plugin, :origin, :what, :error, :content)
""")
_MAKE_ROOM = text("""
    DELETE FROM set_aside WHERE id IN (
        SELECT id FROM set_aside WHERE plugin = :plugin AND origin = :origin ORDER BY id DESC OFFSET :kept)
""")

_LIST = text("""
    SELECT id, plugin, origin, what, error, set_aside_at FROM set_aside ORDER BY id DESC LIMIT :limit
""")

T = TypeVar("T")
Write = Callable[[AsyncSession, Sequence[T]], Awaitable[None]]
_log = structlog.get_logger("ringfence.apart")


@dataclass(frozen=True, slots=True)
class Culprit:
    """What could not be written: whom it came from (`satellite 7f…`), what it was (`heartbeat`), and its content."""

    origin: str
    what: str
    content: object


@dataclass(frozen=True, slots=True)
class SetAside:
    """Something that was set aside, without its content."""

    id: int
    plugin: str
    origin: str
    what: str
    error: str
    set_aside_at: dt.datetime


async def set_aside(session: AsyncSession, *, limit: int = 500) -> list[SetAside]:
    """The newest of what was set aside, oldest first."""
    return [SetAside(*row) for row in await session.execute(_LIST, {"limit": limit})][::-1]


def cannot_be_stored(error: Exception) -> bool:
    """Whether what was to be written is at fault, so that it would fail each time."""
    if isinstance(error, StatementError) and isinstance(error.orig, Exception):
        # Also of what fails before the database is asked: the driver does not take a value.
        return cannot_be_stored(error.orig) and not (
            isinstance(error, DBAPIError) and error.connection_invalidated
        )
    if isinstance(error, psycopg.Error):
        return (error.sqlstate or "").startswith(_STATES) or (
            error.sqlstate is None and isinstance(error, psycopg.DataError)
        )
    return isinstance(error, ValueError | TypeError | OverflowError | RecursionError | UnstorableError)


@dataclass(slots=True)
class Aside:
    """What this instance has set aside: how often, by plugin."""

    counts: dict[str, int] = field(default_factory=dict)

    async def write(
        self,
        sessions: async_sessionmaker[AsyncSession],
        items: deque[T],
        write: Write[T],
        culprit: Callable[[T], Culprit],
        *,
        plugin: str,
    ) -> int:
        """Take from `items` what is written, and what is set aside because it cannot be; answers how many of those.

        Raises what the database raises when it cannot be reached: the rest is in `items` then.
        """
        most, aside = len(items), 0
        while items:
            part = list(islice(items, most))
            try:
                async with sessions.begin() as session:
                    await write(session, part)
            except Exception as error:
                if not cannot_be_stored(error):
                    raise
                if len(part) > 1:
                    most = (len(part) + 1) // 2
                    continue
                await self._put(sessions, culprit(part[0]), error, plugin=plugin)
                aside += 1
            for _ in part:
                items.popleft()
            most *= 2
        return aside

    async def _put(
        self, sessions: async_sessionmaker[AsyncSession], one: Culprit, error: Exception, *, plugin: str
    ) -> None:
        told = describe(error)
        values = {
            "plugin": plugin,
            "origin": cleaned(one.origin, CONTENT_CHARACTERS),
            "what": cleaned(one.what, CONTENT_CHARACTERS),
            "error": cleaned(told, CONTENT_CHARACTERS),
            # Escaped to ASCII, so that it can be stored whatever it is.
            "content": _written(one.content)[:CONTENT_CHARACTERS],
        }
        async with sessions.begin() as session:
            await session.execute(_PUT, values)
            await session.execute(_MAKE_ROOM, {**values, "kept": KEPT_OF_ONE_ORIGIN})
        self.counts[plugin] = self.counts.get(plugin, 0) + 1
        _log.error(
            "set aside what cannot be written", plugin=plugin, origin=one.origin, what=one.what, error=told
        )


def _written(content: object) -> str:
    try:
        return json.dumps(content, ensure_ascii=True, default=repr)
    except (ValueError, TypeError, RecursionError):
        return ascii(content)
