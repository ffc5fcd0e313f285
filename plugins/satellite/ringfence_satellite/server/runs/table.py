"""The table of runs: what is kept of each, and every statement on it.

The script is kept until the satellite's agent has said that it has it, and no longer. All times are the database's.

Whoever locks rows of more than one table takes satellites before runs, and the event log last.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_satellite.protocol import NEEDS_WITHIN, JsonObject, RunScript, needs_of
from ringfence_satellite.server.runs.states import (
    Adopt,
    Course,
    End,
    HandOver,
    Move,
    State,
    TellToStop,
)
from ringfence_satellite.service import RunOutcome

MAX_UNFINISHED = 64
"""How many runs of one satellite may be under way, or wait for it."""
GRACE_SECONDS = 15.0
"""How long an answer may take beyond the script's own time: to be queued there, prepared, and sent back."""
AWAY_SECONDS = 3600.0
"""How long after that a satellite that is away may take to come back with the result."""
MAX_KEPT_BYTES = 256 * 1024 * 1024
"""How much of the results of one satellite's runs is kept, beside the newest."""
MAX_KEPT_RUNS = 10_000
"""How many of one satellite's runs that have ended are kept."""
STEP = 50
"""How many runs one transaction decides about: it has their scripts in memory, and holds the event log's lock."""
BATCH = 1000
"""How many old runs one transaction drops."""

_COLUMNS = """
    run.id, run.number, run.satellite_id, satellite.name AS satellite, satellite.carried, run.state, run.outcome,
    run.reason, run.kind, run.timeout_ms, run.asked_by, run.asked_at, run.deliver_until, run.delivered_at,
    run.started_at, run.cancelled_by, run.cancelled_at, run.ended_at
"""
_COURSE = f"""
    run.id, run.satellite_id, run.state, run.connection, run.process, run.cancelled_at IS NOT NULL AS cancelled,
    run.deliver_until <= now() AS too_late, satellite.connection AS held_by, run.timeout_ms,
    left(run.request, {NEEDS_WITHIN}) AS beginning
"""
_LOCK_SATELLITE = text("SELECT id FROM satellite_satellites WHERE id = :satellite FOR NO KEY UPDATE")
_HOLD = text("SELECT id FROM satellite_satellites WHERE id = ANY(:satellites) ORDER BY id FOR NO KEY UPDATE")
_UNFINISHED = text("SELECT count(*) FROM satellite_runs WHERE satellite_id = :satellite AND state <> 'ended'")
_ASK = text("""
    INSERT INTO satellite_runs (id, satellite_id, kind, timeout_ms, request, asked_by, deliver_until)
    VALUES (:id, :satellite, :kind, :timeout_ms, :request, :by, now() + make_interval(secs => :deliver_within))
""")
_IS_WANTED = text("""
    SELECT EXISTS (SELECT FROM satellite_runs
                    WHERE id = :id AND satellite_id = :satellite AND state <> 'ended' AND cancelled_at IS NULL)
""")
_ONE = text(f"""
    SELECT {_COLUMNS}, run.result FROM satellite_runs AS run JOIN satellite_satellites AS satellite
           ON satellite.id = run.satellite_id
     WHERE run.id = :id AND (CAST(:satellite AS uuid) IS NULL OR run.satellite_id = :satellite)
""")  # noqa: S608
_NEWS = text("""
    SELECT state = 'ended' OR EXISTS (
               SELECT FROM satellite_run_output WHERE run_id = run.id AND sequence > CAST(:after AS bigint))
      FROM satellite_runs AS run WHERE id = :id
""")
_OUTPUT = text("""
    SELECT sequence, stream, text FROM satellite_run_output WHERE run_id = :id AND sequence > :after ORDER BY sequence
""")
_FORGET_OUTPUT = text("DELETE FROM satellite_run_output WHERE run_id = :id")
_LIST = text(f"""
    SELECT {_COLUMNS}, NULL AS result FROM satellite_runs AS run JOIN satellite_satellites AS satellite
           ON satellite.id = run.satellite_id
     WHERE (CAST(:satellite AS uuid) IS NULL OR run.satellite_id = :satellite)
       AND (CAST(:state AS text) IS NULL OR run.state = :state)
       AND (CAST(:before AS bigint) IS NULL OR run.number < :before)
       AND (CAST(:reach AS jsonb) IS NULL OR run.asked_by = :reader OR EXISTS (
               SELECT FROM jsonb_array_elements(CAST(:reach AS jsonb)) AS one
                WHERE satellite.carried @> ARRAY(SELECT jsonb_array_elements_text(one))))
     ORDER BY run.number DESC LIMIT :limit
""")  # noqa: S608
_LOCK = text(f"""
    SELECT {_COURSE}
      FROM satellite_runs AS run JOIN satellite_satellites AS satellite ON satellite.id = run.satellite_id
     WHERE run.id = :id AND run.state <> 'ended' FOR UPDATE OF run
""")  # noqa: S608
# Only by the connection that the fleet takes for the satellite's newest: an instance that was paused may hold an older.
_DUE = text(f"""
    SELECT {_COURSE}
      FROM satellite_satellites AS satellite JOIN satellite_runs AS run ON run.satellite_id = satellite.id
     WHERE run.state <> 'ended' AND satellite.connection = ANY(CAST(:connections AS uuid[]))
       AND (run.connection IS DISTINCT FROM satellite.connection
            OR (run.cancelled_at IS NOT NULL AND run.told_to_stop IS DISTINCT FROM satellite.connection))
     ORDER BY satellite.id, run.number LIMIT :limit FOR SHARE OF satellite FOR UPDATE OF run SKIP LOCKED
""")  # noqa: S608
_ANY_UNFINISHED = text("SELECT EXISTS (SELECT FROM satellite_runs WHERE state <> 'ended')")
_BY_ITSELF = {"isolation_level": "AUTOCOMMIT"}
"""The statement is a transaction by itself, without the exchanges of BEGIN and COMMIT."""
_OVERDUE = text(f"""
    SELECT {_COURSE}, run.answer_until <= now() - make_interval(secs => :away) AS away
      FROM satellite_runs AS run JOIN satellite_satellites AS satellite ON satellite.id = run.satellite_id
     WHERE run.state <> 'ended'
       AND ((run.state = 'queued' AND run.deliver_until <= now())
            OR (run.state <> 'queued' AND run.answer_until <= now()
                AND (run.process IS NULL OR run.answer_until <= now() - make_interval(secs => :away)
                     OR (satellite.connection = run.connection
                         AND satellite.last_heartbeat_at > run.answer_until))))
     ORDER BY run.number LIMIT :limit FOR UPDATE OF run SKIP LOCKED
""")  # noqa: S608
_CUT_OFF = text(f"""
    SELECT {_COURSE}
      FROM satellite_runs AS run JOIN satellite_satellites AS satellite ON satellite.id = run.satellite_id
     WHERE run.connection = :connection AND run.state <> 'ended' FOR UPDATE OF run
""")  # noqa: S608
_HAND_OVER = text("""
    UPDATE satellite_runs
       SET state = 'delivered', connection = :connection, process = :process, delivered_at = now(),
           answer_until = now() + make_interval(secs => timeout_ms / 1000.0 + :grace)
     WHERE id = :id RETURNING request
""")
_TAKE_BACK = text("""
    UPDATE satellite_runs
       SET state = 'queued', connection = NULL, process = NULL, delivered_at = NULL, answer_until = NULL
     WHERE id = :id AND state = 'delivered' AND connection = :connection
""")
_RUNNING = text("""
    UPDATE satellite_runs
       SET state = 'running', connection = :connection, process = :process, request = NULL,
           started_at = coalesce(started_at, now()),
           answer_until = now() + make_interval(secs => timeout_ms / 1000.0 + :grace)
     WHERE id = :id AND (state <> 'running' OR connection IS DISTINCT FROM :connection)
""")
"""A satellite that says it again puts nothing off: its run would never end."""
_FORGET_SCRIPT = text("UPDATE satellite_runs SET request = NULL WHERE id = :id")
_CANCEL = text("""
    UPDATE satellite_runs SET cancelled_at = now(), cancelled_by = :by WHERE id = :id AND cancelled_at IS NULL
""")
_TOLD_TO_STOP = text("UPDATE satellite_runs SET told_to_stop = :connection WHERE id = :id")
_END = text("""
    UPDATE satellite_runs
       SET state = 'ended', outcome = :outcome, reason = :reason, result = :result, request = NULL, ended_at = now()
     WHERE id = :id
""")
_FORGET = text("""
    DELETE FROM satellite_runs WHERE id IN (
        SELECT id FROM satellite_runs
         WHERE state = 'ended' AND ended_at < now() - make_interval(secs => :keep) LIMIT :batch)
""")
_FORGET_MANY = text("""
    WITH crowded AS (
        SELECT satellite_id FROM satellite_runs WHERE state = 'ended'
         GROUP BY satellite_id HAVING count(*) > :runs OR sum(coalesce(octet_length(result), output_bytes)) > :bytes),
    kept AS (
        SELECT id, sum(coalesce(octet_length(result), output_bytes)) OVER newest AS bytes,
               row_number() OVER newest AS place
          FROM satellite_runs WHERE state = 'ended' AND satellite_id IN (SELECT satellite_id FROM crowded)
        WINDOW newest AS (PARTITION BY satellite_id ORDER BY number DESC))
    DELETE FROM satellite_runs
     WHERE id IN (SELECT id FROM kept WHERE place > :runs OR (bytes > :bytes AND place > 1))
""")
_ONE_AT_A_TIME = text("SELECT pg_try_advisory_xact_lock(hashtextextended('satellite.runs.forget', 0))")


@dataclass(frozen=True, slots=True)
class Run:
    """One run, as it is shown. `number` is its place in the order of asking; `result` is there once it has finished."""

    id: UUID
    number: int
    satellite_id: UUID
    satellite: str
    carried: list[str]
    state: State
    outcome: RunOutcome | None
    reason: str | None
    kind: str
    timeout_ms: int
    asked_by: str | None
    asked_at: dt.datetime
    deliver_until: dt.datetime
    delivered_at: dt.datetime | None
    started_at: dt.datetime | None
    cancelled_by: str | None
    cancelled_at: dt.datetime | None
    ended_at: dt.datetime | None
    result: JsonObject | None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state is State.ENDED

    def to_wire(self) -> dict[str, Any]:
        """The run as JSON for the API, without its result."""
        return {
            "id": str(self.id),
            "satelliteId": str(self.satellite_id),
            "satellite": self.satellite,
            "state": self.state,
            "outcome": self.outcome,
            "reason": self.reason,
            "kind": self.kind,
            "timeoutMs": self.timeout_ms,
            "askedBy": self.asked_by,
            "askedAt": self.asked_at,
            "deliverUntil": self.deliver_until,
            "deliveredAt": self.delivered_at,
            "startedAt": self.started_at,
            "cancelledBy": self.cancelled_by,
            "cancelledAt": self.cancelled_at,
            "endedAt": self.ended_at,
        }


@dataclass(frozen=True, slots=True)
class Standing:
    """A run that has not ended, locked until the transaction does. `held_by`: its satellite's newest connection."""

    id: UUID
    satellite_id: UUID
    course: Course
    held_by: UUID | None
    away: bool = False


async def hold(session: AsyncSession, satellites: Collection[UUID]) -> None:
    """Lock these satellites, as `room` does with one, in the order in which the journal does."""
    await session.execute(_HOLD, {"satellites": list(satellites)})


async def room(session: AsyncSession, satellite: UUID) -> int | None:
    """How many more runs a satellite may have; None if there is no such satellite.

    Nobody else can change that until the transaction ends.
    """
    if (await session.execute(_LOCK_SATELLITE, {"satellite": satellite})).scalar_one_or_none() is None:
        return None
    # A statement of its own, which sees what others have done while this one waited for the lock.
    unfinished = (await session.execute(_UNFINISHED, {"satellite": satellite})).scalar_one()
    return max(0, MAX_UNFINISHED - int(unfinished))


async def ask(
    session: AsyncSession,
    satellite: UUID,
    id: UUID,
    frame: RunScript,
    *,
    by: str | None,
    deliver_within: float,
) -> None:
    """Have a run wait for its satellite."""
    values = {
        "id": id,
        "satellite": satellite,
        "kind": frame.kind.value,
        "timeout_ms": frame.timeout_ms,
        "by": by,
    }
    await session.execute(_ASK, {**values, "request": frame.encode(), "deliver_within": deliver_within})


async def one(session: AsyncSession, id: UUID, *, satellite: UUID | None = None) -> Run | None:
    """The run with this id, if it is one of the satellite's, where that is given."""
    row = (await session.execute(_ONE, {"id": id, "satellite": satellite})).one_or_none()
    return None if row is None else _run(row)


async def is_wanted(session: AsyncSession, id: UUID, *, satellite: UUID) -> bool:
    """Whether this is a run of the satellite's that has not ended, and that nobody has cancelled."""
    return bool((await session.execute(_IS_WANTED, {"id": id, "satellite": satellite})).scalar_one())


async def has_news(session: AsyncSession, id: UUID, *, output_after: int | None) -> bool:
    """Whether the run has ended, is not there at all, or has written more than the piece of that number.

    With None, what it writes is no news.
    """
    row = (await session.execute(_NEWS, {"id": id, "after": output_after})).one_or_none()
    return row is None or bool(row[0])


async def output(session: AsyncSession, id: UUID, *, after: int) -> list[dict[str, Any]]:
    """The pieces of what the run has written so far, after the one of that number. None of one that has a result."""
    return [row._asdict() for row in await session.execute(_OUTPUT, {"id": id, "after": after})]


async def listed(
    session: AsyncSession,
    *,
    satellite: UUID | None,
    state: State | None,
    before: int | None,
    limit: int,
    reader: str,
    reach: Collection[Collection[str]] | None,
) -> list[Run]:
    """The runs, newest first, that were asked for before the run of that number.

    With a `reach`, only those on satellites that have all tags of one of its members, and those that `reader` has
    asked for.
    """
    values = {
        "satellite": satellite,
        "state": state,
        "before": before,
        "limit": limit,
        "reader": reader,
        "reach": None if reach is None else json.dumps([sorted(one) for one in reach]),
    }
    return [_run(row) for row in await session.execute(_LIST, values)]


async def lock(session: AsyncSession, id: UUID) -> Standing | None:
    """The run with this id, unless it has ended."""
    row = (await session.execute(_LOCK, {"id": id})).one_or_none()
    return None if row is None else _standing(row)


async def any_unfinished(session: AsyncSession) -> bool:
    """Whether any run has not ended. The session is for this alone."""
    await session.connection(execution_options=_BY_ITSELF)
    return bool((await session.execute(_ANY_UNFINISHED)).scalar_one())


async def due(session: AsyncSession, connections: Collection[UUID]) -> list[Standing]:
    """Runs about which something may have to be done by those who hold these connections."""
    values = {"connections": list(connections), "limit": STEP}
    return [_standing(row) for row in await session.execute(_DUE, values)]


async def overdue(session: AsyncSession, *, away_seconds: float) -> list[Standing]:
    """Runs whose time to be delivered, or to be answered, is over."""
    return [
        _standing(row, away=bool(row.away))
        for row in await session.execute(_OVERDUE, {"away": away_seconds, "limit": STEP})
    ]


async def behind(session: AsyncSession, connection: UUID) -> list[Standing]:
    """Runs that were handed to this connection."""
    return [_standing(row) for row in await session.execute(_CUT_OFF, {"connection": connection})]


async def make(
    session: AsyncSession, run: Standing, move: Move, *, to: UUID, process: str | None, grace_seconds: float
) -> str | None:
    """Write down a move that was decided for a run; answer the frame to hand over, where that is the move.

    The run's satellite is at the connection `to`. An end is written by `end`.
    """
    match move:
        case HandOver():
            values = {"id": run.id, "connection": to, "process": process, "grace": grace_seconds}
            return str((await session.execute(_HAND_OVER, values)).scalar_one())
        case Adopt():
            await running(session, run.id, connection=to, process=process, grace_seconds=grace_seconds)
        case TellToStop():
            await session.execute(_TOLD_TO_STOP, {"id": run.id, "connection": to})
        case End():
            raise AssertionError("an end is written with its event")
    return None


async def running(
    session: AsyncSession, id: UUID, *, connection: UUID, process: str | None, grace_seconds: float
) -> None:
    """Write down that the agent behind a connection has the run."""
    values = {"id": id, "connection": connection, "process": process, "grace": grace_seconds}
    await session.execute(_RUNNING, values)


async def take_back(session: AsyncSession, id: UUID, connection: UUID) -> None:
    """Have a run wait again that could not be written to its connection."""
    await session.execute(_TAKE_BACK, {"id": id, "connection": connection})


async def not_told_to_stop(session: AsyncSession, id: UUID) -> None:
    """Have a satellite told again that it is to end a run."""
    await session.execute(_TOLD_TO_STOP, {"id": id, "connection": None})


async def forget_script(session: AsyncSession, id: UUID) -> None:
    """Drop the script of a run that will not be handed over again."""
    await session.execute(_FORGET_SCRIPT, {"id": id})


async def cancel(session: AsyncSession, id: UUID, *, by: str | None) -> bool:
    """Note that somebody wants the run's end. False if somebody has wanted that before."""
    return bool((await session.execute(_CANCEL, {"id": id, "by": by})).rowcount)  # type: ignore[attr-defined]


async def end(session: AsyncSession, id: UUID, how: End, result: JsonObject | None = None) -> None:
    """Write down how the run has ended."""
    if result is not None:
        await session.execute(_FORGET_OUTPUT, {"id": id})
    document = None if result is None else json.dumps(result, ensure_ascii=False, separators=(",", ":"))
    await session.execute(
        _END, {"id": id, "outcome": how.outcome.value, "reason": how.reason, "result": document}
    )


async def forget(session: AsyncSession, *, keep_seconds: float) -> int:
    """Drop runs that have ended so long ago, and those of satellites that have kept too much.

    Of what is left, these are the oldest of a satellite that has too many, or whose results are too large together.
    Answers how many of the first went. Does nothing while another instance is at it.
    """
    if not (await session.execute(_ONE_AT_A_TIME)).scalar_one():
        return 0
    gone = await session.execute(_FORGET, {"keep": keep_seconds, "batch": BATCH})
    await session.execute(_FORGET_MANY, {"bytes": MAX_KEPT_BYTES, "runs": MAX_KEPT_RUNS})
    return int(gone.rowcount)  # type: ignore[attr-defined]


def _run(row: Any) -> Run:
    values = row._asdict()
    state, outcome, result = State(values["state"]), values["outcome"], values["result"]
    return Run(
        **{
            **values,
            "state": state,
            "outcome": None if outcome is None else RunOutcome(outcome),
            "result": None if result is None else json.loads(result),
        }
    )


def _standing(row: Any, *, away: bool = False) -> Standing:
    needs = needs_of(row.beginning or "")
    course = Course(State(row.state), row.connection, row.process, row.cancelled, row.too_late, needs)
    return Standing(row.id, row.satellite_id, course, row.held_by, away)
