"""The table of steps: a row for each attempt, written under the lock of its run's row. All times are the database's."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_automations.runs.deciding.records import Ending, Record, Status

_SECONDS = ("begun", "started", "ended", "due", "ending")
_RECORD = f"""
    path, kind, attempt, status, hook, heard_after, failures, interruptions, state, error, ending, job,
    {", ".join(f"extract(epoch FROM {name}_at)::float8 AS {name}_seconds" for name in _SECONDS)}
"""
_NEWEST = text(f"""
    SELECT DISTINCT ON (path) {_RECORD}, CASE WHEN :artifacts THEN artifact END AS artifact
      FROM automations_steps WHERE run_id = :run ORDER BY path, attempt DESC
""")  # noqa: S608
_ONE = text(f"""
    SELECT {_RECORD}, artifact FROM automations_steps WHERE run_id = :run AND path = :path AND attempt = :attempt
""")  # noqa: S608
_WRITE = text("""
    INSERT INTO automations_steps (run_id, path, attempt, kind, status, begun_at, started_at, ended_at, due_at, hook,
                                   heard_after, failures, interruptions, state, artifact, error, ending, ending_at,
                                   job)
    VALUES (:run, :path, :attempt, :kind, :status, to_timestamp(:begun), to_timestamp(:started), to_timestamp(:ended),
            to_timestamp(:due), :hook, :heard_after, :failures, :interruptions, :state, :artifact, :error, :ending,
            to_timestamp(:ending_at), :job)
    ON CONFLICT (run_id, path, attempt) DO UPDATE
       SET status = excluded.status, started_at = excluded.started_at, ended_at = excluded.ended_at,
           due_at = excluded.due_at, state = excluded.state, error = excluded.error, ending = excluded.ending,
           ending_at = excluded.ending_at, artifact = coalesce(excluded.artifact, automations_steps.artifact)
""")
_JOB = text("""
    UPDATE automations_steps SET job = :job WHERE run_id = :run AND path = :path AND attempt = :attempt
""")
_STARTED = text("""
    UPDATE automations_steps SET started_at = clock_timestamp(), instance = :instance, job = :job
     WHERE run_id = :run AND path = :path AND attempt = :attempt
""")
_LATE = text("""
    UPDATE automations_steps SET late = :late
     WHERE run_id = :run AND path = :path AND attempt = :attempt AND artifact IS NULL
""")
_WAITS = text("""
    SELECT run_id, path FROM automations_steps AS step JOIN automations_runs AS run ON run.id = step.run_id
     WHERE step.hook = :hook AND step.status = 'waiting' AND step.heard_after < :position
     ORDER BY run.number, step.path
""")
_HOOKS = text("SELECT DISTINCT hook FROM automations_steps WHERE status = 'waiting' AND hook IS NOT NULL")
_SHOWN = text("""
    SELECT path, attempt, kind, status, begun_at, started_at, ended_at, due_at, instance, artifact, error,
           late IS NOT NULL AS has_late, ending, number
      FROM automations_steps WHERE run_id = :run AND number > :after ORDER BY number LIMIT :limit
""")
_SHOWN_IN_SHORT = text("""
    SELECT path, attempt, kind, status, begun_at, started_at, ended_at, due_at, instance,
           CASE WHEN length(artifact) <= :most THEN artifact END AS artifact, error,
           late IS NOT NULL AS has_late, ending, number, length(artifact) AS artifact_length
      FROM automations_steps WHERE run_id = :run AND number > :after ORDER BY number LIMIT :limit
""")
# Its job may have been cancelled by hand, or have failed for good; of a job that waits, there is no second.
_NOT_STARTED = text("""
    SELECT run_id, path, attempt FROM automations_steps
     WHERE status = 'running' AND started_at IS NULL AND job IS NOT NULL
       AND begun_at < clock_timestamp() - make_interval(secs => :seconds)
       AND EXISTS (SELECT FROM automations_runs AS run WHERE run.id = run_id AND run.status = 'running')
     LIMIT :limit
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownStep:
    """One attempt at a step, as it is shown."""

    path: str
    attempt: int
    kind: str
    status: str
    begun_at: dt.datetime
    started_at: dt.datetime | None
    ended_at: dt.datetime | None
    due_at: dt.datetime | None
    instance: UUID | None
    artifact: Any
    error: str | None
    has_late: bool
    ending: str | None
    number: int
    artifact_length: int | None = None

    def to_wire(self) -> dict[str, Any]:
        """The attempt as JSON. `ending` says why it was told to end; `hasLate`, that its end was told too late."""
        return {
            "path": self.path,
            "attempt": self.attempt,
            "kind": self.kind,
            "status": self.status,
            "begunAt": _time(self.begun_at),
            "startedAt": _time(self.started_at),
            "endedAt": _time(self.ended_at),
            "dueAt": _time(self.due_at),
            "instance": None if self.instance is None else str(self.instance),
            "artifact": self.artifact,
            "error": self.error,
            "hasLate": self.has_late,
            "ending": self.ending,
        }


async def newest(session: AsyncSession, run: UUID, *, artifacts: bool = True) -> dict[str, Record]:
    """The newest attempts at the steps of a run, by path; without artifacts, if nobody is to see those."""
    return {
        path: record for path, (record, _) in (await with_jobs(session, run, artifacts=artifacts)).items()
    }


async def with_jobs(
    session: AsyncSession, run: UUID, *, artifacts: bool = True
) -> dict[str, tuple[Record, UUID | None]]:
    """The same, each with the job that carries it out."""
    rows = await session.execute(_NEWEST, {"run": run, "artifacts": artifacts})
    return {row.path: (_record(row), row.job) for row in rows}


async def one(session: AsyncSession, run: UUID, path: str, attempt: int) -> tuple[Record, UUID | None] | None:
    """One attempt, and the job that carries it out."""
    row = (await session.execute(_ONE, {"run": run, "path": path, "attempt": attempt})).one_or_none()
    return None if row is None else (_record(row), row.job)


async def write(
    session: AsyncSession, run: UUID, records: Iterable[Record], jobs: Mapping[str, UUID] | None = None
) -> None:
    """Record what these have become, and which jobs carry out the new ones, by path."""
    values = [
        {
            "run": run,
            "path": one.path,
            "attempt": one.attempt,
            "kind": one.kind,
            "status": one.status.value,
            "begun": one.begun,
            "started": one.started,
            "ended": one.ended,
            "due": one.due,
            "hook": one.hook,
            "heard_after": one.heard_after,
            "failures": one.failures,
            "interruptions": one.interruptions,
            "state": _json(one.state),
            "artifact": None if one.artifact is None else _json(one.artifact),
            "error": one.error,
            "ending": None if one.ending is None else one.ending.value,
            "ending_at": one.ending_at,
            "job": None if jobs is None else jobs.get(one.path),
        }
        for one in records
    ]
    if values:
        await session.execute(_WRITE, values)


async def has_job(session: AsyncSession, run: UUID, path: str, attempt: int, job: UUID) -> None:
    """Note which job carries out an attempt."""
    await session.execute(_JOB, {"run": run, "path": path, "attempt": attempt, "job": job})


async def started(
    session: AsyncSession, run: UUID, path: str, attempt: int, *, instance: UUID, job: UUID
) -> None:
    """Note that an attempt is carried out from now on, where, and by which job."""
    values = {"run": run, "path": path, "attempt": attempt, "instance": instance, "job": job}
    await session.execute(_STARTED, values)


async def late(session: AsyncSession, run: UUID, path: str, attempt: int, result: Any) -> None:
    """Keep what was told of an attempt that had been given up."""
    await session.execute(_LATE, {"run": run, "path": path, "attempt": attempt, "late": _json(result)})


async def waits(session: AsyncSession, hook: str, position: int) -> Sequence[tuple[UUID, str]]:
    """The runs, by their number, and paths that wait for an event of this hook, and began to before this position."""
    rows = await session.execute(_WAITS, {"hook": hook, "position": position})
    return [(row.run_id, row.path) for row in rows]


async def awaited_hooks(session: AsyncSession) -> frozenset[str]:
    """The hooks for whose events somebody waits."""
    return frozenset((await session.execute(_HOOKS)).scalars())


async def shown(session: AsyncSession, run: UUID, *, after: int, limit: int) -> list[ShownStep]:
    """The attempts at steps of a run, in the order in which they began."""
    rows = await session.execute(_SHOWN, {"run": run, "after": after, "limit": limit})
    return [_shown(row) for row in rows]


async def shown_in_short(
    session: AsyncSession, run: UUID, *, after: int, limit: int, most: int
) -> list[ShownStep]:
    """The same, with those artifacts alone that have no more than so many characters."""
    values = {"run": run, "after": after, "limit": limit, "most": most}
    return [_shown(row) for row in await session.execute(_SHOWN_IN_SHORT, values)]


async def not_started(
    session: AsyncSession, *, seconds: float, limit: int
) -> Sequence[tuple[UUID, str, int]]:
    """Attempts whose work has not started for so long."""
    rows = await session.execute(_NOT_STARTED, {"seconds": seconds, "limit": limit})
    return [(row.run_id, row.path, row.attempt) for row in rows]


def _shown(row: Any) -> ShownStep:
    return ShownStep(
        **{**row._asdict(), "artifact": None if row.artifact is None else json.loads(row.artifact)}
    )


def _record(row: Any) -> Record:
    return Record(
        path=row.path,
        kind=row.kind,
        attempt=row.attempt,
        status=Status(row.status),
        begun=row.begun_seconds,
        started=row.started_seconds,
        ended=row.ended_seconds,
        due=row.due_seconds,
        hook=row.hook,
        heard_after=row.heard_after,
        failures=row.failures,
        interruptions=row.interruptions,
        state=json.loads(row.state),
        artifact=None if row.artifact is None else json.loads(row.artifact),
        error=row.error,
        ending=None if row.ending is None else Ending(row.ending),
        ending_at=row.ending_seconds,
    )


def _time(moment: dt.datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
