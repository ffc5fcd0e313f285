"""The table of runs: what is kept of each, and every statement on it. All times are the database's.

Whoever locks more than one thing takes them in this order: the event log, a key of an automation, rows of runs by their
number, rows of steps, jobs. So a step may emit events in the transaction that records its end, and a run's own events
are emitted by a job.
"""

from __future__ import annotations

import datetime as dt
import enum
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_automations.definitions.definition import Mode
from ringfence_automations.runs.deciding.admission import Waiting
from ringfence_automations.runs.deciding.moves import Closing, Outcome
from ringfence_automations.runs.deciding.records import Ending

_COLUMNS = """
    id, number, automation, revision, mode, key, depth, status, message, started_by, created_at, started_at, ended_at,
    cancelled_by, cancelled_at, trigger, once_key
"""
_FACTS = """
    id, automation, revision, key, status, trigger, event, inputs, created_at, started_at, closing, artifact_bytes,
    extract(epoch FROM clock_timestamp())::float8 AS now
"""
_ONCE = text(
    "SELECT id, status, message FROM automations_runs WHERE automation = :automation AND once_key = :once_key"
)
# The lock is of the automation and the key together; two that share a number only wait for each other.
_LOCK_KEY = text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 17))")
_TRY_KEY = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:key, 17))")
_UNDER_WAY = text("""
    SELECT count(*) FILTER (WHERE key = :key AND status = 'running') AS running,
           count(*) FILTER (WHERE key = :key AND status = 'queued' AND closing IS NULL) AS waiting,
           count(*) FILTER (WHERE status = 'queued' AND closing IS NULL) AS waiting_in_all,
           extract(epoch FROM clock_timestamp())::float8 AS now
      FROM automations_runs WHERE automation = :automation AND status IN ('queued', 'running')
""")
_INSERT = text("""
    INSERT INTO automations_runs (id, automation, revision, mode, most, key, once_key, depth, status, message, trigger,
                                  event, inputs, started_by, closing, created_at, started_at, ended_at, wake_at)
    VALUES (:id, :automation, :revision, :mode, :most, :key, :once_key, :depth, :status, :message, :trigger,
            :event, :inputs, :started_by, :closing, to_timestamp(:now), to_timestamp(:started), to_timestamp(:ended),
            to_timestamp(:wake))
    ON CONFLICT (automation, once_key) WHERE once_key IS NOT NULL DO NOTHING
    RETURNING id
""")
_LOCK = text(f"SELECT {_FACTS} FROM automations_runs WHERE id = :id FOR UPDATE")  # noqa: S608
_OTHERS = text("""
    SELECT id FROM automations_runs
     WHERE automation = :automation AND key = :key AND status IN ('queued', 'running') AND closing IS NULL
     ORDER BY number FOR UPDATE
""")
_OF_AUTOMATION = text("""
    SELECT id FROM automations_runs WHERE automation = :automation AND status IN ('queued', 'running') ORDER BY number
""")
_CLOSE = text("""
    UPDATE automations_runs SET closing = :closing, cancelled_by = :by, cancelled_at = clock_timestamp()
     WHERE id = :id AND closing IS NULL AND status IN ('queued', 'running')
""")
_GO_ON = text("""
    UPDATE automations_runs
       SET closing = :closing, wake_at = to_timestamp(:wake), artifact_bytes = artifact_bytes + :grown
     WHERE id = :id
""")
_END = text("""
    UPDATE automations_runs
       SET status = :status, message = :message, closing = NULL, wake_at = NULL, ended_at = clock_timestamp(),
           artifact_bytes = artifact_bytes + :grown
     WHERE id = :id
""")
_GREW = text("UPDATE automations_runs SET artifact_bytes = artifact_bytes + :bytes WHERE id = :id")
_WAITING = text("""
    SELECT id, mode, most FROM automations_runs
     WHERE automation = :automation AND key = :key AND status = 'queued' AND closing IS NULL
     ORDER BY number LIMIT :limit FOR UPDATE
""")
_BEGIN = text("""
    UPDATE automations_runs SET status = 'running', started_at = clock_timestamp(), wake_at = clock_timestamp()
     WHERE id = :id
""")
_ONE = text(f"SELECT {_COLUMNS}, event, inputs FROM automations_runs WHERE id = :id")  # noqa: S608
_WANTED = {"automation": "automation = :automation", "key": "key = :key", "before": "number < :before"}
_DEPTH = text("SELECT depth FROM automations_runs WHERE id = :id")


class RunStatus(enum.StrEnum):
    """How far a run is."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run that is to be recorded, as far as it has come already. Times are in seconds since 1970."""

    id: UUID
    automation: str
    revision: int
    mode: Mode
    most: int
    key: str
    once_key: str | None
    depth: int
    status: str
    message: str | None
    trigger: dict[str, Any]
    event: Any
    inputs: dict[str, Any]
    started_by: str | None
    closing: Closing | None = None
    now: float
    started: float | None = None
    ended: float | None = None
    wake: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the engine knows of a run whose row it has locked. `now` is in seconds since 1970."""

    id: UUID
    automation: str
    revision: int
    key: str
    status: str
    trigger: dict[str, Any]
    event: Any
    inputs: dict[str, Any]
    created_at: dt.datetime
    started_at: dt.datetime | None
    closing: Closing | None
    artifact_bytes: int
    now: float

    @property
    def values(self) -> dict[str, Any]:
        """What expressions see of the run, beside artifacts."""
        run = {
            "id": str(self.id),
            "automation": self.automation,
            "revision": self.revision,
            "startedAt": self.created_at.isoformat(),
        }
        return {"event": self.event, "trigger": self.trigger, "inputs": self.inputs, "run": run}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as it is shown."""

    id: UUID
    number: int
    automation: str
    revision: int
    mode: str
    key: str
    depth: int
    status: str
    message: str | None
    started_by: str | None
    created_at: dt.datetime
    started_at: dt.datetime | None
    ended_at: dt.datetime | None
    cancelled_by: str | None
    cancelled_at: dt.datetime | None
    trigger: dict[str, Any]
    once_key: str | None = None
    event: Any = None
    inputs: dict[str, Any] | None = None

    @property
    def position(self) -> int | None:
        """Where the event that has started it stands in the event log, if one has."""
        kind, _, position = (self.once_key or "").partition("/")
        return int(position) if kind == "hook" and position.isdecimal() else None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.ended_at is not None

    def to_wire(self) -> dict[str, Any]:
        """The run as JSON; what has started it is there where it was read."""
        return {
            "id": str(self.id),
            "automation": self.automation,
            "revision": self.revision,
            "mode": self.mode,
            "key": self.key,
            "depth": self.depth,
            "status": self.status,
            "message": self.message,
            "trigger": self.trigger,
            "startedBy": self.started_by,
            "createdAt": _time(self.created_at),
            "startedAt": _time(self.started_at),
            "endedAt": _time(self.ended_at),
            "cancelledBy": self.cancelled_by,
            "cancelledAt": _time(self.cancelled_at),
            **({} if self.inputs is None else {"event": self.event, "inputs": self.inputs}),
        }


@dataclass(frozen=True, slots=True)
class UnderWay:
    """How many runs of a key are under way and wait, and how many of the whole automation wait; at which time."""

    running: int
    waiting: int
    waiting_in_all: int
    now: float


async def known(session: AsyncSession, automation: str, once_key: str) -> tuple[UUID, str, str | None] | None:
    """The run that was started for this already: its id, status and message."""
    row = (await session.execute(_ONCE, {"automation": automation, "once_key": once_key})).one_or_none()
    return None if row is None else (row.id, row.status, row.message)


async def lock_key(session: AsyncSession, automation: str, key: str) -> None:
    """Have nobody else decide who of a key begins, until the transaction ends."""
    await session.execute(_LOCK_KEY, {"key": _name(automation, key)})


async def try_key(session: AsyncSession, automation: str, key: str) -> bool:
    """The same, if nobody else has it now: for whoever has locked a run already."""
    return bool((await session.execute(_TRY_KEY, {"key": _name(automation, key)})).scalar_one())


async def under_way(session: AsyncSession, automation: str, key: str) -> UnderWay:
    """How many run and wait."""
    row = (await session.execute(_UNDER_WAY, {"automation": automation, "key": key})).one()
    return UnderWay(row.running, row.waiting, row.waiting_in_all, row.now)


async def insert(session: AsyncSession, run: NewRun) -> bool:
    """Record a run; False if another one was started for the same meanwhile."""
    values = {
        **{name: getattr(run, name) for name in NewRun.__slots__},
        "mode": run.mode.value,
        "trigger": _json(run.trigger),
        "event": _json(run.event),
        "inputs": _json(run.inputs),
        "closing": _closing_json(run.closing),
    }
    return (await session.execute(_INSERT, values)).one_or_none() is not None


async def lock(session: AsyncSession, id: UUID) -> Facts | None:
    """Lock a run, and answer what is known of it."""
    row = (await session.execute(_LOCK, {"id": id})).one_or_none()
    if row is None:
        return None
    values = row._asdict()
    read = {name: json.loads(values[name]) for name in ("trigger", "event", "inputs")}
    return Facts(**{**values, **read, "closing": _closing(row.closing)})


async def others(session: AsyncSession, automation: str, key: str) -> list[UUID]:
    """Lock all runs of a key that are under way or wait, and are not told to end yet."""
    return list((await session.execute(_OTHERS, {"automation": automation, "key": key})).scalars())


async def of_automation(session: AsyncSession, automation: str) -> list[UUID]:
    """All runs of an automation that have not ended."""
    return list((await session.execute(_OF_AUTOMATION, {"automation": automation})).scalars())


async def close(session: AsyncSession, id: UUID, closing: Closing, *, by: str | None) -> bool:
    """Note that a run is to end; False if it is told to already, or has ended."""
    values = {"id": id, "closing": _closing_json(closing), "by": by}
    return bool((await session.execute(_CLOSE, values)).rowcount)  # type: ignore[attr-defined]


async def go_on(
    session: AsyncSession, id: UUID, *, closing: Closing | None, wake: float, grown: int = 0
) -> None:
    """Note that a run has not ended, when to look at it again at the latest, and how much its artifacts have grown."""
    values = {"id": id, "closing": _closing_json(closing), "wake": wake, "grown": grown}
    await session.execute(_GO_ON, values)


async def end(
    session: AsyncSession, id: UUID, status: Outcome, message: str | None, *, grown: int = 0
) -> None:
    """Note that a run has ended, and how much its artifacts have grown before."""
    await session.execute(_END, {"id": id, "status": status.value, "message": message, "grown": grown})


async def grew(session: AsyncSession, id: UUID, size: int) -> None:
    """Note how large one more artifact is."""
    await session.execute(_GREW, {"id": id, "bytes": size})


async def waiting(
    session: AsyncSession, automation: str, key: str, *, limit: int
) -> list[tuple[UUID, Waiting]]:
    """Lock those of a key that wait, in their order."""
    values = {"automation": automation, "key": key, "limit": limit}
    rows = await session.execute(_WAITING, values)
    return [(row.id, Waiting(Mode(row.mode), row.most)) for row in rows]


async def begin(session: AsyncSession, id: UUID) -> None:
    """Have a run begin now."""
    await session.execute(_BEGIN, {"id": id})


async def one(session: AsyncSession, id: UUID) -> Run | None:
    """The run with this id."""
    row = (await session.execute(_ONE, {"id": id})).one_or_none()
    return None if row is None else _run(row)


async def depth_of(session: AsyncSession, id: UUID) -> int | None:
    """How many automations have started each other before this run; None if there is no such run."""
    return (await session.execute(_DEPTH, {"id": id})).scalar_one_or_none()


async def listed(
    session: AsyncSession,
    *,
    automation: str | None,
    status: str | None,
    key: str | None,
    before: int | None,
    limit: int,
) -> Sequence[Run]:
    """Runs, the newest first, that were started before the one of that number."""
    values = {"automation": automation, "key": key, "before": before}
    given = {name: value for name, value in values.items() if value is not None}
    wanted = [_WANTED[name] for name in given]
    if status is not None:
        # Written out, so that it is known which of the indexes serves.
        wanted.append(f"status = '{RunStatus(status).value}'")
    where = f"WHERE {' AND '.join(wanted)}" if wanted else ""
    statement = f"SELECT {_COLUMNS} FROM automations_runs {where} ORDER BY number DESC LIMIT :limit"  # noqa: S608
    return [_run(row) for row in await session.execute(text(statement), {**given, "limit": limit})]


def _run(row: Any) -> Run:
    values = row._asdict()
    for name in ("trigger", "event", "inputs"):
        if name in values:
            values[name] = json.loads(values[name])
    return Run(**values)


def _time(moment: dt.datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _name(automation: str, key: str) -> str:
    return json.dumps([automation, key])


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _closing_json(closing: Closing | None) -> str | None:
    return None if closing is None else json.dumps(asdict(closing))


def _closing(document: str | None) -> Closing | None:
    if document is None:
        return None
    read = json.loads(document)
    return Closing(Ending(read["why"]), Outcome(read["status"]), read["message"])
