"""One step of a worker group: claim its next event, work, and advance its cursor, all in one transaction.

The row of the cursor is locked for as long as the handler works. That lock alone is what makes a group's events be
handled one at a time and in order: whoever holds it reads the position afresh, so an instance that was frozen, or that
another has meanwhile replaced, can neither repeat nor skip an event. Who *tries* is settled elsewhere (`fleet`).

Threat: a frozen instance keeps the lock, and the group stands still. Mechanism: the server ends the transaction of a
handler that has been silent for `SILENT_SECONDS`. Not covered: what a handler does outside its transaction (a mail, a
request) is done at least once, not exactly once; and an event that kills the whole process is tried for ever.
"""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass
from typing import Any

import structlog
from pydantic import ValidationError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from ringfence.eventlog.backoff import pause
from ringfence.eventlog.record import COLUMNS, EventRecord
from ringfence.hooks import HookError, WorkGroup

WORK_SECONDS = 30.0
"""How long a handler may take over one event before it is cancelled; that counts as a failure."""
SILENT_SECONDS = 45.0
"""After so long without a word from the handler's instance the server gives the group up. More than `WORK_SECONDS`."""
SKIP_EVENTS = 500
"""How many events of other hooks a cursor may lag behind before it is moved past them."""
ERROR_CHARACTERS = 4000
_LOST_STATES = ("08", "57P", "25P03")
"""SQLSTATEs with which the server ends a connection: broken, shut down or terminated, silent in a transaction."""

_log = structlog.get_logger("ringfence.eventlog")

# The lock is skipped, not waited for, so that no connection is tied up while another instance works.
_CLAIM = text("""
    WITH claimed AS (
        SELECT position, attempts, retry_at FROM event_cursors
         WHERE plugin = :plugin AND worker_group = :name FOR UPDATE SKIP LOCKED)
    SELECT set_config('idle_in_transaction_session_timeout', :silent, true) AS timeout,
           claimed.position, claimed.attempts,
           greatest(0, extract(epoch FROM claimed.retry_at - clock_timestamp()))::float AS wait
      FROM claimed
""")
# A statement of its own, after the lock: its snapshot shows all that the last holder of the lock has done.
_NEXT = text(f"""
    SELECT {COLUMNS}, (SELECT max(position) FROM events) AS last,
           (SELECT min(failed.position) FROM failed_events AS failed
             WHERE failed.replay AND failed.plugin = :group_plugin AND failed.worker_group = :name) AS replay
      FROM (SELECT 1) AS one LEFT JOIN (
        SELECT {COLUMNS} FROM events WHERE hook = :hook AND position > :position ORDER BY position LIMIT 1
    ) AS next ON true
""")  # noqa: S608
_AT = text(f"SELECT {COLUMNS} FROM events WHERE position = :position")  # noqa: S608
_ADVANCE = text("""
    UPDATE event_cursors SET position = :position, attempts = 0, retry_at = NULL, served_at = clock_timestamp()
     WHERE plugin = :plugin AND worker_group = :name
""")
_LOCK = text("""
    SELECT position, attempts FROM event_cursors WHERE plugin = :plugin AND worker_group = :name FOR UPDATE
""")
_RETRY = text("""
    UPDATE event_cursors SET attempts = :attempts, served_at = clock_timestamp(),
           retry_at = clock_timestamp() + make_interval(secs => :pause)
     WHERE plugin = :plugin AND worker_group = :name
""")
_SET_ASIDE = text("""
    INSERT INTO failed_events (plugin, worker_group, position, attempts, error, failed_at)
    VALUES (:plugin, :name, :position, :attempts, :error, clock_timestamp())
    ON CONFLICT (plugin, worker_group, position) DO UPDATE
       SET attempts = excluded.attempts, error = excluded.error, failed_at = excluded.failed_at
""")
_REPLAYED = text("""
    DELETE FROM failed_events WHERE plugin = :plugin AND worker_group = :name AND position = :position
""")
_FAILED_AGAIN = text("""
    UPDATE failed_events SET replay = false, attempts = attempts + 1, error = :error, failed_at = clock_timestamp()
     WHERE plugin = :plugin AND worker_group = :name AND position = :position
""")


class Outcome(enum.Enum):
    """What a step came to."""

    WORKED = enum.auto()
    """An event was handled, or has failed: look again at once."""
    IDLE = enum.auto()
    """There is nothing to do."""
    BUSY = enum.auto()
    """Another instance is at work on this group just now."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The next event has failed, and will be tried again in so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class _Claim:
    """The cursor, locked, and the event to work on; a replay leaves the cursor where it is."""

    position: int
    attempts: int
    record: EventRecord
    replay: bool


class Consumer:
    """Handles the events of one worker group, one `step` at a time."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession], group: WorkGroup) -> None:
        self._sessions = sessions
        self._group = group
        self._names: dict[str, Any] = {"plugin": group.plugin, "name": group.name}

    async def step(self) -> Outcome | Waiting:
        """Handle at most one event. A handler's failure is recorded, not raised.

        Raises what the database raises when it cannot be reached; nothing has happened then, and nothing is counted.
        """
        claim: _Claim | None = None
        try:
            async with self._sessions.begin() as session:
                claimed = await self._claim(session)
                if not isinstance(claimed, _Claim):
                    return claimed
                claim = claimed
                await self._work(claim.record, session)
                if claim.replay:
                    await session.execute(_REPLAYED, self._names | {"position": claim.record.position})
                else:
                    await session.execute(_ADVANCE, self._names | {"position": claim.record.position})
        except Exception as error:
            if claim is None or _is_out_of_reach(error):
                raise
            await self._record_failure(claim, error)
        return Outcome.WORKED

    async def _claim(self, session: AsyncSession) -> _Claim | Outcome | Waiting:
        silent = {"silent": f"{SILENT_SECONDS * 1000:.0f}"}
        cursor = (await session.execute(_CLAIM, self._names | silent)).one_or_none()
        if cursor is None:
            return Outcome.BUSY
        values = {
            "hook": self._group.hook.name,
            "position": cursor.position,
            "group_plugin": self._group.plugin,
            "name": self._group.name,
        }
        *columns, last, replay = (await session.execute(_NEXT, values)).one()
        if replay is not None:
            row = (await session.execute(_AT, {"position": replay})).one()
            return _Claim(cursor.position, cursor.attempts, EventRecord(*row), replay=True)
        if cursor.wait:
            return Waiting(cursor.wait)
        if columns[0] is not None:
            return _Claim(cursor.position, cursor.attempts, EventRecord(*columns), replay=False)
        if last is not None and last >= cursor.position + SKIP_EVENTS:
            # Both were read in one statement, so nothing of this hook lies between.
            await session.execute(_ADVANCE, self._names | {"position": last})
        return Outcome.IDLE

    async def _work(self, record: EventRecord, session: AsyncSession) -> None:
        event = record.as_event(self._group.hook)
        transaction = session.get_transaction()
        async with asyncio.timeout(WORK_SECONDS):
            await self._group.handler(event, session)
            if session.get_transaction() is not transaction:
                raise HookError(
                    f"the handler of worker group {self._group.name} ended the transaction that it was given: "
                    "leave commit and rollback to the host, and raise to undo"
                )
            await session.flush()
            # What is only checked at the commit must fail here, where it counts as the handler's failure.
            await session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))

    async def _record_failure(self, claim: _Claim, error: Exception) -> None:
        """Note the failure, unless another instance has meanwhile got on with the group."""
        failures = claim.attempts + 1
        facts = {"position": claim.record.position, "error": describe(error)}
        async with self._sessions.begin() as session:
            cursor = (await session.execute(_LOCK, self._names)).one()
            if claim.replay:
                await session.execute(_FAILED_AGAIN, self._names | facts)
            elif (cursor.position, cursor.attempts) != (claim.position, claim.attempts):
                return
            elif failures > self._group.max_retries:
                await session.execute(_SET_ASIDE, self._names | facts | {"attempts": failures})
                await session.execute(_ADVANCE, self._names | {"position": claim.record.position})
            else:
                await session.execute(_RETRY, self._names | {"attempts": failures, "pause": pause(failures)})
        _log.error(
            "worker group failed at an event",
            plugin=self._group.plugin,
            worker_group=self._group.name,
            hook=claim.record.hook,
            failures=failures,
            set_aside=claim.replay or failures > self._group.max_retries,
            **facts,
            exc_info=error,
        )


def _is_out_of_reach(error: Exception) -> bool:
    """Whether the connection was lost, which is nobody's fault and says nothing about the event."""
    if not isinstance(error, DBAPIError):
        return False
    sqlstate = getattr(error.orig, "sqlstate", None) or ""
    return error.connection_invalidated or sqlstate.startswith(_LOST_STATES)


def describe(error: Exception) -> str:
    """An error for the record: its type and message, without the payload that pydantic would quote."""
    if isinstance(error, ValidationError):
        problems = error.errors(include_input=False, include_url=False, include_context=False)
        places = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in problems)
        message = f"the event does not fit {error.title}: {places}"
    else:
        message = f"{type(error).__name__}: {error}"
    return message.replace("\x00", "")[:ERROR_CHARACTERS]
