"""What a worker asks of the database: to give it jobs, to note how they ended, and whose worker is lost.

Whatever is written about a running job names the instance and the attempt that it belongs to. So an instance that was
frozen, or cut off, and whose job another has taken over, writes nothing about it any more, and a row that a restored
database has of another history is not taken for a job that runs here.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from ringfence.jobs.presence import LOCK
from ringfence.jobs.queue import CHANNEL

_BY_ITSELF = {"isolation_level": "AUTOCOMMIT"}
_OURS = "id = :id AND status = 'running' AND instance = :instance AND attempts = :attempt"
_CLAIM = text("""
    SELECT id, kind, payload::text AS payload, attempts, failures, enqueued_at, first_due_at, key, actor, traceparent
      FROM ringfence_claim_jobs(:instance, CAST(:kinds AS text[]), CAST(:room AS integer[]),
                                CAST(:at_once AS integer[]))
""")
_NEXT = text("""
    SELECT extract(epoch FROM least(
        (SELECT min(due_at) FROM jobs
          WHERE kind = ANY(:kinds) AND status = 'waiting' AND key IS NULL AND due_at > statement_timestamp()),
        (SELECT min(due_at) FROM jobs
          WHERE kind = ANY(:kinds) AND status = 'waiting' AND NOT held AND key IS NOT NULL
            AND due_at > statement_timestamp())) - clock_timestamp())::float
""")
SUCCEED = text(f"""
    UPDATE jobs SET status = 'succeeded', ended_at = clock_timestamp(), error = NULL WHERE {_OURS}
""")  # noqa: S608
# Where another one of its name waits already, that one does for both, as soon as this one would have been tried again.
_OTHER = f"""
    WITH mine AS (SELECT kind, single FROM jobs WHERE {_OURS}),
    other AS (
        UPDATE jobs SET due_at = least(jobs.due_at, clock_timestamp() + make_interval(secs => :pause))
          FROM mine WHERE jobs.kind = mine.kind AND jobs.single = mine.single AND jobs.status = 'waiting'
        RETURNING jobs.id)
"""  # noqa: S608
_FAIL = text(f"""
    {_OTHER},
    ending AS (SELECT :final OR EXISTS (SELECT FROM other) AS ends)
    UPDATE jobs
       SET status = CASE WHEN ends OR failures + 1 >= :most THEN 'failed' WHEN cancel THEN 'cancelled'
                         ELSE 'waiting' END,
           ended_at = CASE WHEN ends OR failures + 1 >= :most OR cancel THEN clock_timestamp() END,
           failures = failures + 1, error = :error,
           due_at = clock_timestamp() + make_interval(secs => :pause)
      FROM ending WHERE {_OURS}
    RETURNING status
""")  # noqa: S608
_CANCELLED = text(f"""
    UPDATE jobs SET status = 'cancelled', ended_at = clock_timestamp() WHERE {_OURS}
""")  # noqa: S608
_GIVE_BACK = text(f"""
    {_OTHER},
    ending AS (SELECT EXISTS (SELECT FROM other) AS ends)
    UPDATE jobs
       SET status = CASE WHEN cancel OR ends THEN 'cancelled' ELSE 'waiting' END,
           ended_at = CASE WHEN cancel OR ends THEN clock_timestamp() END,
           due_at = clock_timestamp() + make_interval(secs => :pause),
           error = CASE WHEN ends THEN :error || '; another one of its name waits, and does for both' ELSE :error END
      FROM ending WHERE {_OURS}
    RETURNING pg_notify('{CHANNEL}', '')
""")  # noqa: S608
_PROGRESS = text(f"""
    UPDATE jobs SET progress = CAST(:progress AS jsonb) WHERE {_OURS}
""")  # noqa: S608
_BEAT = text("""
    INSERT INTO job_workers (instance, kinds, marked, seen_at)
    VALUES (:instance, :kinds, :marked, clock_timestamp())
    ON CONFLICT (instance) DO UPDATE
       SET seen_at = excluded.seen_at, kinds = excluded.kinds, marked = excluded.marked
""")
_MINE = text("""
    SELECT id, attempts, cancel FROM jobs WHERE status = 'running' AND instance = :instance
""")
# By its name another one may wait by now, or be taken back with it: it has none any more.
# One that is said to run here and does not was never begun, or is of another history: no instance was lost by it.
# While the database itself is down nobody can be heard of, so a silence counts only from its start, and a mark that was
# held before says nothing.
_HEARD = f"""
    greatest(seen_at, pg_postmaster_start_time()) >= clock_timestamp() - make_interval(secs => :gone)
    AND NOT CASE WHEN marked AND seen_at > pg_postmaster_start_time()
                      AND seen_at < clock_timestamp() - make_interval(secs => :unmarked)
                 THEN pg_try_advisory_xact_lock_shared({LOCK.format("instance")}) ELSE false END
"""
_TAKE_BACK = text(f"""
    WITH heard AS MATERIALIZED (SELECT instance FROM job_workers WHERE {_HEARD}),
    offers AS (SELECT * FROM unnest(CAST(:kinds AS text[]), CAST(:most AS integer[])) AS offer (kind, most)),
    lost AS (
        SELECT id, losses + CASE WHEN instance = :instance THEN 0 ELSE 1 END AS losses_now,
               (SELECT most FROM offers WHERE offers.kind = jobs.kind) AS most FROM jobs
         WHERE status = 'running' AND (
            instance NOT IN (SELECT instance FROM heard)
            OR instance = :instance AND (id, attempts) IN (
                SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:attempts AS integer[]))))
           FOR UPDATE SKIP LOCKED)
    UPDATE jobs
       SET losses = losses_now, single = NULL,
           status = CASE WHEN cancel THEN 'cancelled' WHEN losses_now >= lost.most THEN 'failed' ELSE 'waiting' END,
           ended_at = CASE WHEN cancel OR losses_now >= lost.most THEN clock_timestamp() END,
           due_at = clock_timestamp(),
           error = 'instance ' || instance || ' was lost in the middle of attempt ' || attempts
                   || ': it was killed, crashed, or was cut off; its own log may say which'
      FROM lost WHERE jobs.id = lost.id
    RETURNING jobs.id, jobs.kind, jobs.status, jobs.error, pg_notify('{CHANNEL}', '')
""")  # noqa: S608
_FORGET_WORKERS = text(f"DELETE FROM job_workers WHERE NOT ({_HEARD})")  # noqa: S608
_LEAVE = text("DELETE FROM job_workers WHERE instance = :instance")


@dataclass(frozen=True, slots=True)
class Claimed:
    """An attempt at a job that is this instance's to make."""

    id: UUID
    kind: str
    payload: str
    attempt: int
    failures: int
    enqueued_at: dt.datetime
    first_due_at: dt.datetime
    key: str | None
    actor: str | None
    traceparent: str | None = None
    """Of the span in which it was enqueued, if there was one (`ringfence.tracing`)."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A job whose instance was lost, and what becomes of it."""

    id: UUID
    kind: str
    status: str
    error: str


class Store:
    """The jobs in the database, as one instance works on them. Raises what the database raises."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession], *, instance: UUID) -> None:
        self._sessions = sessions
        self._instance = instance

    def ours(self, one: Claimed) -> dict[str, Any]:
        """The parameters that say that an attempt is still ours."""
        return {"id": one.id, "instance": self._instance, "attempt": one.attempt}

    async def claim(self, room: Mapping[str, tuple[int, int | None]]) -> list[Claimed]:
        """Jobs of some kinds to begin with now: at most so many, and so many that run at once in the fleet."""
        values = {
            "instance": self._instance,
            "kinds": list(room),
            "room": [here for here, _ in room.values()],
            "at_once": [at_once for _, at_once in room.values()],
        }
        rows = await self._run(_CLAIM, values)
        return [Claimed(*row) for row in rows]

    async def next_due(self, kinds: Sequence[str]) -> float | None:
        """In how many seconds the next job of these kinds is due; None if none is."""
        rows = await self._run(_NEXT, {"kinds": list(kinds)})
        return None if rows[0][0] is None else float(rows[0][0])

    async def fail(self, one: Claimed, error: str, *, most: int, pause: float, final: bool) -> str | None:
        """Note that an attempt has failed; what the job is now, or None if it was ours no more."""
        values = {"error": error, "most": most, "pause": pause, "final": final}
        rows = await self._run(_FAIL, self.ours(one) | values)
        return rows[0].status if rows else None

    async def cancelled(self, one: Claimed) -> None:
        """Note that an attempt was cancelled, and the job with it."""
        await self._run(_CANCELLED, self.ours(one), answers=False)

    async def give_back(self, one: Claimed, error: str, *, pause: float) -> None:
        """Leave a job to whoever takes it next."""
        await self._run(_GIVE_BACK, self.ours(one) | {"error": error, "pause": pause})

    async def note_progress(self, one: Claimed, progress: Mapping[str, Any]) -> None:
        """Note how far an attempt is."""
        await self._run(_PROGRESS, self.ours(one) | {"progress": json.dumps(progress)}, answers=False)

    async def beat(self, kinds: Sequence[str], *, marked: bool) -> dict[tuple[UUID, int], bool]:
        """Say that this instance does such jobs; which attempts it is said to make, and whether each is cancelled.

        `marked`: it holds its mark (see `presence`).
        """
        values = {"instance": self._instance, "kinds": list(kinds), "marked": marked}
        await self._run(_BEAT, values, answers=False)
        rows = await self._run(_MINE, {"instance": self._instance})
        return {(row.id, row.attempts): row.cancel for row in rows}

    async def take_back(
        self,
        not_here: Sequence[tuple[UUID, int]],
        *,
        gone_seconds: float,
        unmarked_seconds: float,
        most: Mapping[str, int | None],
    ) -> list[Lost]:
        """Take jobs from instances that are lost, and attempts that are said to be made here and are not.

        An instance is lost after a silence of `gone_seconds`, or of `unmarked_seconds` if its mark is gone, too.
        `most`, by kind: how many instances may be lost in the middle of a job before it has failed.
        """
        values = {
            "instance": self._instance,
            "ids": [id for id, _ in not_here],
            "attempts": [attempt for _, attempt in not_here],
            "gone": gone_seconds,
            "unmarked": unmarked_seconds,
            "kinds": list(most),
            "most": list(most.values()),
        }
        rows = await self._run(_TAKE_BACK, values)
        silent = {"gone": gone_seconds, "unmarked": unmarked_seconds}
        await self._run(_FORGET_WORKERS, silent, answers=False)
        return [Lost(row.id, row.kind, row.status, row.error) for row in rows]

    async def leave(self) -> None:
        """Say that this instance does no more jobs."""
        await self._run(_LEAVE, {"instance": self._instance}, answers=False)

    async def _run(self, statement: Any, values: Mapping[str, Any], *, answers: bool = True) -> Sequence[Any]:
        async with self._sessions.begin() as session:
            # A statement by itself: BEGIN and COMMIT would be exchanges of their own.
            await session.connection(execution_options=_BY_ITSELF)
            result = await session.execute(statement, values)
            return result.all() if answers else ()
