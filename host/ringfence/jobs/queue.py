"""Enqueueing and cancelling, in the caller's own transaction: what is not committed never was."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import text

from ringfence import tracing
from ringfence.bounded import storable, storable_document
from ringfence.jobs.board import Timetable, kind_of
from ringfence.jobs.job import LONGEST_KEY, Job, JobError
from ringfence.jobs.schedule import parse

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

CHANNEL = "ringfence_jobs"
"""Notified when there may be a job to begin with."""
CANCEL_CHANNEL = "ringfence_job_cancels"
"""Notified when one that runs may be cancelled."""
MAX_PAYLOAD_BYTES = 1_000_000

# One that waits already is locked by this until the transaction ends, so that nobody begins it before what the caller
# writes can be seen: "there is one waiting" always means one that comes after.
_ENQUEUE = text(f"""
    INSERT INTO jobs (id, plugin, kind, payload, key, single, timetable, actor, first_due_at, due_at)
    SELECT :id, :plugin, :kind, CAST(:payload AS jsonb), :key, :single, :timetable, :actor, due.at, due.at
      FROM (SELECT coalesce(CAST(:at AS timestamptz), clock_timestamp() + make_interval(secs => :after)) AS at) AS due
    ON CONFLICT (kind, single) WHERE status = 'waiting' DO UPDATE
       SET due_at = CASE jobs.failures WHEN 0 THEN least(jobs.due_at, excluded.due_at) ELSE jobs.due_at END,
           first_due_at = least(jobs.first_due_at, excluded.first_due_at), held = false
    RETURNING id, pg_notify('{CHANNEL}', '')
""")  # noqa: S608
# See the default of `jobs.traceparent`.
_TRACE = text("SELECT set_config('ringfence.traceparent', :traceparent, true)")
_CANCEL = text(f"""
    UPDATE jobs
       SET cancel = true,
           status = CASE status WHEN 'waiting' THEN 'cancelled' ELSE status END,
           ended_at = CASE status WHEN 'waiting' THEN clock_timestamp() END
     WHERE id = :id AND status IN ('waiting', 'running') AND (CAST(:plugin AS text) IS NULL OR plugin = :plugin)
    RETURNING status, pg_notify('{CANCEL_CHANNEL}', '')
""")  # noqa: S608
_CANCEL_WAITING = text("""
    UPDATE jobs SET cancel = true, status = 'cancelled', ended_at = clock_timestamp()
     WHERE kind = :kind AND single = :single AND status = 'waiting' RETURNING id
""")
_SET_TIMETABLE = text("""
    INSERT INTO timetables AS known (plugin, name, kind, payload, schedule, zone, declared, next_at)
    VALUES (:plugin, :name, :kind, CAST(:payload AS jsonb), :schedule, :zone, :declared, to_timestamp(:next))
    ON CONFLICT (plugin, name) DO UPDATE
       SET kind = excluded.kind, payload = excluded.payload, schedule = excluded.schedule, zone = excluded.zone,
           declared = excluded.declared,
           next_at = CASE WHEN (known.schedule, known.zone) = (excluded.schedule, excluded.zone)
                          THEN known.next_at ELSE excluded.next_at END
""")
_REMOVE_TIMETABLE = text("DELETE FROM timetables WHERE plugin = :plugin AND name = :name RETURNING name")
_NOW = text("SELECT extract(epoch FROM clock_timestamp())::float")


@dataclass(frozen=True, slots=True)
class Order:
    """A job to be enqueued, as it is stored. Raises `JobError` for what cannot be."""

    plugin: str
    job: Job[Any]
    payload: BaseModel
    at: dt.datetime | None = None
    after_seconds: float = 0.0
    key: str | None = None
    unique: str | None = None
    timetable: str | None = None
    actor: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.payload, self.job.payload):
            raise JobError(
                f"job {self.job.name} carries {self.job.payload.__name__}, not {type(self.payload).__name__}"
            )
        if self.at is not None and (self.at.tzinfo is None or self.after_seconds):
            raise JobError(f"job {self.job.name}: `at` has a time zone, and stands without `after_seconds`")
        for what, value in (("key", self.key), ("unique", self.unique)):
            if value is not None and len(value) > LONGEST_KEY:
                raise JobError(f"job {self.job.name}: {what} has at most {LONGEST_KEY} characters")

    @property
    def kind(self) -> str:
        """What the kind is called in the database."""
        return kind_of(self.plugin, self.job.name)


class Queue(Protocol):
    """Where jobs are enqueued: the database, or a recorder's list."""

    async def enqueue(self, session: AsyncSession, order: Order) -> UUID:
        """Enqueue a job in `session`'s transaction; the id of the one that will do it."""

    async def cancel(self, session: AsyncSession, id: UUID, *, plugin: str | None) -> str | None:
        """Cancel a job; what it was, "waiting" or "running", or None if there is no such one that has not ended."""

    async def cancel_waiting(self, session: AsyncSession, kind: str, unique: str) -> bool:
        """Cancel the job of this kind and name that waits; False if none does."""

    async def set_timetable(
        self, session: AsyncSession, order: Order, schedule: str, zone: str, *, name: str
    ) -> None:
        """Have a job enqueued again and again."""

    async def remove_timetable(self, session: AsyncSession, plugin: str, name: str) -> bool:
        """Have no more jobs enqueued by a timetable; whether there was one."""


class JobQueue:
    """The queue in the database."""

    async def enqueue(self, session: AsyncSession, order: Order) -> UUID:
        values = {
            "id": uuid.uuid4(),
            "plugin": order.plugin,
            "kind": order.kind,
            "payload": stored(order),
            "key": _text(order.key),
            "single": _text(order.unique),
            "timetable": order.timetable,
            "actor": _text(order.actor),
            "at": order.at,
            "after": order.after_seconds,
        }
        if (traceparent := tracing.current()) is not None:
            await session.execute(_TRACE, {"traceparent": traceparent})
        found: UUID = (await session.execute(_ENQUEUE, values)).one().id
        return found

    async def cancel(self, session: AsyncSession, id: UUID, *, plugin: str | None) -> str | None:
        row = (await session.execute(_CANCEL, {"id": id, "plugin": plugin})).one_or_none()
        if row is None:
            return None
        return "running" if row.status == "running" else "waiting"

    async def cancel_waiting(self, session: AsyncSession, kind: str, unique: str) -> bool:
        values = {"kind": kind, "single": _text(unique)}
        return (await session.execute(_CANCEL_WAITING, values)).one_or_none() is not None

    async def set_timetable(
        self, session: AsyncSession, order: Order, schedule: str, zone: str, *, name: str
    ) -> None:
        one = Timetable(order.plugin, name, order.job, order.payload, schedule, zone)
        await self.set_timetables(session, [one], declared=False)

    async def set_timetables(
        self, session: AsyncSession, ones: Sequence[Timetable], *, declared: bool
    ) -> None:
        """Set all of these at once: a host has dozens when it starts."""
        if not ones:
            return
        now: float = (await session.execute(_NOW)).scalar_one()
        values = [
            {
                "plugin": one.plugin,
                "name": one.name,
                "kind": one.kind,
                "payload": stored(Order(one.plugin, one.job, one.payload)),
                "schedule": one.schedule,
                "zone": one.zone,
                "declared": declared,
                "next": parse(one.schedule, one.zone).next_after(now),
            }
            for one in ones
        ]
        await session.execute(_SET_TIMETABLE, values)

    async def remove_timetable(self, session: AsyncSession, plugin: str, name: str) -> bool:
        row = await session.execute(_REMOVE_TIMETABLE, {"plugin": plugin, "name": name})
        return row.one_or_none() is not None


def stored(order: Order) -> str:
    """A payload as JSON. Raises `JobError` for one that cannot be stored."""
    try:
        document = storable_document(order.payload.model_dump_json(by_alias=True))
    except ValueError as error:
        raise JobError(f"job {order.job.name}: its payload cannot be stored: {error}") from error
    if len(document) > MAX_PAYLOAD_BYTES:
        raise JobError(f"job {order.job.name}: a payload has at most {MAX_PAYLOAD_BYTES} bytes as JSON")
    return document


def _text(value: str | None) -> str | None:
    try:
        return None if value is None else storable(value)
    except ValueError as error:
        raise JobError(f"cannot be stored: {error}") from error
