"""One step of a worker group: claim its next event, work, and advance its cursor, all in one transaction.

The row of the cursor is locked for as long as the handler works. That lock alone is what makes a group's events be
handled one at a time and in order: whoever holds it reads the position afresh, so an instance that was frozen, or that
another has meanwhile replaced, can neither repeat nor skip an event. Who *tries* is settled elsewhere (`membership`).

Threat: a frozen instance keeps the lock, and the group stands still. Mechanism: the server ends the transaction of a
handler that has been silent for `SILENT_SECONDS`. Not covered: what a handler does outside its transaction (a mail, a
request) is done at least once, not exactly once. A handler that ignores its cancellation has failed, and is left
behind. An event that kills the whole process is what `attempts` is about.
"""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from pydantic import ValidationError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from ringfence import redaction, tracing
from ringfence.backoff import pause
from ringfence.bounded import cleaned
from ringfence.eventlog.groups import presence
from ringfence.eventlog.groups.attempts import Begun, Count, Died, Try, next_move
from ringfence.eventlog.groups.next_event import OneHook, Reading
from ringfence.eventlog.record import COLUMNS, EventRecord
from ringfence.hooks import AnyGroup, HookError, WorkGroup
from ringfence.tasks import run_within

WORK_SECONDS = 30.0
"""How long a handler may take over one event before it is cancelled; that counts as a failure."""
SILENT_SECONDS = 45.0
"""After so long without a word from the handler's instance the server gives the group up. More than `WORK_SECONDS`."""
SKIP_EVENTS = 500
"""How many events of other hooks a cursor may lag behind before it is moved past them."""
FORGIVEN_DEATHS = 1
"""After so many deaths at an event it is tried again even by a group that retries nothing: a process may be killed."""
ERROR_CHARACTERS = 4000
_LOST_STATES = ("08", "57P", "25P03")
"""SQLSTATEs with which the server ends a connection: broken, shut down or terminated, silent in a transaction."""

_log = structlog.get_logger("ringfence.eventlog")

# The lock is skipped, not waited for, so that no connection is tied up while another instance works.
_CLAIM = text(f"""
    WITH claimed AS (
        SELECT position, attempts, retry_at, served_by, begun_by FROM event_cursors
         WHERE plugin = :plugin AND worker_group = :name FOR UPDATE SKIP LOCKED)
    SELECT set_config('idle_in_transaction_session_timeout', :silent, true) AS timeout,
           claimed.position, claimed.attempts, claimed.begun_by,
           {presence.IS_GONE.format("claimed.begun_by")} AS vanished,
           claimed.served_by IS NOT DISTINCT FROM CAST(:instance AS uuid) AS trusted,
           greatest(0, extract(epoch FROM claimed.retry_at - clock_timestamp()))::float AS wait
      FROM claimed
""")  # noqa: S608
_REPLAY = text(f"""
    SELECT {COLUMNS}, failed_attempts, begun_by, vanished
      FROM events, LATERAL (
        SELECT failed.attempts AS failed_attempts, failed.begun_by,
               {presence.IS_GONE.format("failed.begun_by")} AS vanished
          FROM failed_events AS failed
         WHERE failed.plugin = :group_plugin AND failed.worker_group = :name AND failed.position = events.position
      ) AS failure
     WHERE position = :position
""")  # noqa: S608
_COUNT = text("""
    UPDATE event_cursors SET attempts = :attempts, begun_by = :instance
     WHERE plugin = :plugin AND worker_group = :name
""")
_COUNT_REPLAY = text("""
    UPDATE failed_events SET attempts = :attempts, begun_by = :instance
     WHERE plugin = :plugin AND worker_group = :name AND position = :position
""")
_ADVANCE = text("""
    UPDATE event_cursors SET position = :position, attempts = 0, retry_at = NULL, begun_by = NULL,
           served_by = :instance, served_at = clock_timestamp()
     WHERE plugin = :plugin AND worker_group = :name
""")
_PASS_OVER = text("""
    UPDATE event_cursors SET position = :position, attempts = 0, retry_at = NULL, begun_by = NULL,
           served_at = clock_timestamp()
     WHERE plugin = :plugin AND worker_group = :name
""")
_LOCK = text("""
    SELECT position, attempts FROM event_cursors WHERE plugin = :plugin AND worker_group = :name FOR UPDATE
""")
_RETRY = text("""
    UPDATE event_cursors SET attempts = :attempts, begun_by = NULL, served_at = clock_timestamp(),
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
    UPDATE failed_events SET replay = false, attempts = :attempts, begun_by = NULL, error = :error,
           failed_at = clock_timestamp()
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
    """The cursor, locked, and the event that comes next, with what is to be done about it.

    A replay leaves the cursor where it is. `attempts` is what the cursor says.
    """

    position: int
    attempts: int
    record: EventRecord
    replay: bool
    move: Count | Try | Died
    begun_by: UUID | None


class Consumer:
    """Handles the events of one worker group on one instance, one `step` at a time."""

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        group: AnyGroup,
        *,
        instance: UUID,
        reading: Reading | None = None,
    ) -> None:
        """`reading` is how the group reads the log; by default as a group of one hook does."""
        self._sessions = sessions
        self._group = group
        if reading is None:
            assert isinstance(group, WorkGroup)
            reading = OneHook(group)
        self._reading = reading
        self._instance = instance
        self._names: dict[str, Any] = {"plugin": group.plugin, "name": group.name}
        self._here: dict[str, Any] = self._names | {"instance": instance}

    async def step(self) -> Outcome | Waiting:
        """Handle at most one event. A handler's failure is recorded, not raised.

        Raises what the database raises when it cannot be reached; nothing has happened then, and nothing is counted.
        """
        while (outcome := await self._step()) is None:
            pass
        return outcome

    async def _step(self) -> Outcome | Waiting | None:
        """One transaction: handles an event, or counts the attempt, after which it answers None."""
        claim: _Claim | None = None
        try:
            async with self._sessions.begin() as session:
                claimed = await self._claim(session)
                if not isinstance(claimed, _Claim):
                    return claimed
                if isinstance(claimed.move, Count):
                    count = _COUNT_REPLAY if claimed.replay else _COUNT
                    values = {"attempts": claimed.move.number, "position": claimed.record.position}
                    await session.execute(count, self._here | values)
                    return None
                if isinstance(claimed.move, Died):
                    await self._note_failure(session, claimed, _death(claimed))
                else:
                    claim = claimed
                    with tracing.span(
                        f"handle {claim.record.hook}",
                        claim.record.traceparent,
                        kind=tracing.Kind.CONSUMER,
                        plugin=self._group.plugin,
                        group=self._group.name,
                        position=claim.record.position,
                    ):
                        await self._work(claim.record, session)
                    done = _REPLAYED if claim.replay else _ADVANCE
                    await session.execute(done, self._here | {"position": claim.record.position})
        except Exception as error:
            if claim is None or _is_out_of_reach(error):
                raise
            await self._record_failure(claim, error)
        else:
            if isinstance(claimed.move, Died):
                self._log_failure(claimed, _death(claimed))
        return Outcome.WORKED

    async def _claim(self, session: AsyncSession) -> _Claim | Outcome | Waiting:
        limits = {"silent": f"{SILENT_SECONDS * 1000:.0f}", "gone": presence.GONE_SECONDS}
        cursor = (await session.execute(_CLAIM, self._here | limits)).one_or_none()
        if cursor is None:
            return Outcome.BUSY
        next = await self._reading.next(session, cursor.position)
        if next.replay is not None:
            values = {"position": next.replay, "gone": presence.GONE_SECONDS}
            *columns, attempts, begun_by, vanished = (
                await session.execute(_REPLAY, self._names | {"group_plugin": self._group.plugin} | values)
            ).one()
            move = next_move(attempts, self._begun(begun_by, vanished=vanished), trusted=False)
            record = EventRecord(*columns)
            return _Claim(cursor.position, cursor.attempts, record, True, move, begun_by)
        if cursor.wait:
            return Waiting(cursor.wait)
        if next.record is not None:
            begun = self._begun(cursor.begun_by, vanished=cursor.vanished)
            move = next_move(cursor.attempts, begun, trusted=cursor.trusted)
            return _Claim(cursor.position, cursor.attempts, next.record, False, move, cursor.begun_by)
        if next.last is not None and next.last >= cursor.position + SKIP_EVENTS:
            # Both were read in one statement, so nothing for this group lies between.
            await session.execute(_PASS_OVER, self._names | {"position": next.last})
        return Outcome.IDLE

    def _begun(self, by: UUID | None, *, vanished: bool) -> Begun:
        if by is None:
            return Begun.NOT
        if by == self._instance:
            return Begun.HERE
        return Begun.VANISHED if vanished else Begun.LEFT

    async def _work(self, record: EventRecord, session: AsyncSession) -> None:
        transaction = session.get_transaction()
        name = f"the handler of worker group {self._group.name}"

        async def handle() -> None:
            await self._reading.handle(record, session)

        await run_within(WORK_SECONDS, handle(), name=name)
        if session.get_transaction() is not transaction:
            raise HookError(
                f"{name} ended the transaction that it was given: "
                "leave commit and rollback to the host, and raise to undo"
            )
        async with asyncio.timeout(WORK_SECONDS):
            await session.flush()
            # What is only checked at the commit must fail here, where it counts as the handler's failure.
            await session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))

    async def _record_failure(self, claim: _Claim, error: Exception) -> None:
        """Note the failure, unless another instance has meanwhile got on with the group."""
        async with self._sessions.begin() as session:
            cursor = (await session.execute(_LOCK, self._names)).one()
            if not claim.replay and (cursor.position, cursor.attempts) != (claim.position, claim.attempts):
                return
            await self._note_failure(session, claim, describe(error))
        self._log_failure(claim, describe(error), cause=error)

    async def _note_failure(self, session: AsyncSession, claim: _Claim, error: str) -> None:
        """Have the event tried again later, or set it aside after the last attempt. The cursor is locked."""
        number = claim.move.number
        facts = {"position": claim.record.position, "attempts": number, "error": error}
        if claim.replay:
            await session.execute(_FAILED_AGAIN, self._names | facts)
        elif self._was_last(claim.move):
            await session.execute(_SET_ASIDE, self._names | facts)
            await session.execute(_PASS_OVER, self._names | {"position": claim.record.position})
        else:
            await session.execute(_RETRY, self._names | {"attempts": number, "pause": pause(number)})

    def _was_last(self, attempt: Count | Try | Died) -> bool:
        forgiven = FORGIVEN_DEATHS if isinstance(attempt, Died) else 0
        return attempt.number > max(self._group.max_retries, forgiven)

    def _log_failure(self, claim: _Claim, error: str, *, cause: Exception | None = None) -> None:
        _log.error(
            "worker group failed at an event",
            plugin=self._group.plugin,
            worker_group=self._group.name,
            hook=claim.record.hook,
            position=claim.record.position,
            failures=claim.move.number,
            set_aside=claim.replay or self._was_last(claim.move),
            error=error,
            exc_info=cause,
        )


def _death(claim: _Claim) -> str:
    return (
        f"the process died, or stopped working, in the middle of attempt {claim.move.number} "
        f"(instance {claim.begun_by}): a crash, an exit or a lack of memory; its own log may say which"
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
        message = f"the event does not fit {error.title}: {redaction.problems(error)}"
    else:
        message = redaction.describe(error)
    return cleaned(message.replace("\0", ""), ERROR_CHARACTERS)
