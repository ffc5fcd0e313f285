"""What satellites report, written to the database in batches.

These are arrivals, heartbeats, applied policies and departures.

A satellite's newest report replaces its older ones that still wait, so that what waits is bounded by the
number of satellites, however slow the database is. A batch is tried again after an outage; one that cannot be stored is
written in parts, and the report at fault is set aside.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, TypeVar
from uuid import UUID

import structlog
from ringfence import Culprit
from ringfence.backoff import Pauses
from ringfence.redaction import describe
from sqlalchemy import TextClause, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_satellite.hooks import (
    SatelliteConnected,
    SatelliteDisconnected,
    SatellitePolicyApplied,
    SatelliteRefused,
)
from ringfence_satellite.protocol import JsonObject, SandboxPolicyApplied

URGENT_SECONDS = 0.05
"""How long an arrival, an applied policy or a departure waits for company."""
HEARTBEAT_SECONDS = 1.0
"""How long a heartbeat waits for company."""
RETRY_SECONDS = (1.0, 2.0)
"""The first and the longest pause after the database could not be reached."""
WRITE_SECONDS = 15.0
"""How long the database may take over what waits. One that is gone without a word would be waited for, for ever."""
REFUSED_SECONDS = 60.0
"""How often at most it is told that agents are refused as one satellite."""
MAX_WAITING = 32
"""How many of one satellite's arrivals and departures are kept while the database is away; the newest are."""
BATCH = 200
"""How many satellites one transaction writes about: it holds their rows, and the event log's lock, for
so long.
"""

# When something happened is told as how long ago, by this process's own steady clock: all times in the
# table are the database's, and instances whose clocks differ do not make satellites look lost. Rows are
# always locked in the order of their ids, so that instances that write about the same satellites wait for
# one another instead of deadlocking. Satellites that were deleted in the meantime are simply not there.
_LOCK = text("SELECT id FROM satellite_satellites WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE")
_ARRIVED = text("""
    UPDATE satellite_satellites AS s
       SET connection = r.connection, instance = :instance, connected_at = r.happened_at, last_heartbeat_at
       = r.happened_at,
           goodbye_at = NULL, version = r.version, capabilities = coalesce(r.capabilities, s.capabilities)
      FROM (SELECT *, now() - make_interval(secs => ago) AS happened_at
              FROM jsonb_to_recordset(CAST(:rows AS jsonb))
                   AS r(id uuid, connection uuid, ago double precision, version text, capabilities jsonb))
                   AS r
     WHERE s.id = r.id AND (s.connected_at IS NULL OR s.connected_at <= r.happened_at)
""")
_HEARTBEAT = text("""
    UPDATE satellite_satellites AS s
       SET last_heartbeat_at = greatest(s.last_heartbeat_at, r.happened_at), version = coalesce(r.version,
       s.version),
           capabilities = coalesce(r.capabilities, s.capabilities)
      FROM (SELECT *, now() - make_interval(secs => ago) AS happened_at
              FROM jsonb_to_recordset(CAST(:rows AS jsonb))
                   AS r(id uuid, connection uuid, ago double precision, version text, capabilities jsonb))
                   AS r
     WHERE s.id = r.id AND s.connection = r.connection
""")
_APPLIED = text("""
    UPDATE satellite_satellites AS s
       SET applied_revision = r.revision, enforced = r.enforced, downgrades = r.downgrades,
           applied_at = CASE WHEN s.applied_revision = r.revision THEN s.applied_at ELSE r.happened_at END,
           applied_unknown = coalesce(r.unknown, s.applied_unknown AND s.applied_revision = r.revision, false)
      FROM (SELECT *, now() - make_interval(secs => ago) AS happened_at
              FROM jsonb_to_recordset(CAST(:rows AS jsonb))
                   AS r(id uuid, connection uuid, ago double precision, revision bigint, enforced jsonb,
                        downgrades jsonb, unknown boolean)) AS r
      JOIN satellite_satellites AS old ON old.id = r.id
     WHERE s.id = r.id AND s.connection = r.connection
    RETURNING s.id, s.applied_revision AS revision, s.applied_unknown AS unknown, s.downgrades,
              (old.applied_revision, old.applied_unknown, old.enforced, old.downgrades) IS DISTINCT FROM
              (s.applied_revision, s.applied_unknown, s.enforced, s.downgrades) AS is_new
""")
_DEPARTED = text("""
    UPDATE satellite_satellites AS s
       SET connection = NULL, instance = NULL, goodbye_at = CASE WHEN r.clean THEN r.happened_at END
      FROM (SELECT *, now() - make_interval(secs => ago) AS happened_at
              FROM jsonb_to_recordset(CAST(:rows AS jsonb))
                   AS r(id uuid, connection uuid, ago double precision, clean boolean)) AS r
     WHERE s.id = r.id AND s.connection = r.connection
""")
# Whoever knows a satellite's id, and not its token, costs a row and an event a minute.
_REFUSED = text("""
    UPDATE satellite_satellites AS s SET refused_at = now()
      FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(id uuid)
     WHERE s.id = r.id AND (s.refused_at IS NULL OR s.refused_at < now() - make_interval(secs => :pause))
    RETURNING s.id
""")

Fact = SatelliteConnected | SatelliteDisconnected | SatellitePolicyApplied | SatelliteRefused
Emit = Callable[[AsyncSession, type[Fact], Sequence[Fact]], Awaitable[None]]
Record = dict[str, Any]
T = TypeVar("T")
_log = structlog.get_logger("ringfence.satellite.journal")


@dataclass(slots=True)
class _Pending:
    """What waits to be written, by satellite.

    Departures and events are kept one by one: each of them happened.
    """

    arrived: dict[UUID, Record] = field(default_factory=dict)
    heartbeats: dict[UUID, Record] = field(default_factory=dict)
    applied: dict[UUID, Record] = field(default_factory=dict)
    departed: dict[UUID, list[Record]] = field(default_factory=dict)
    refused: dict[UUID, Record] = field(default_factory=dict)
    events: dict[UUID, list[Fact]] = field(default_factory=dict)

    def satellites(self) -> set[UUID]:
        """Whom something waits for."""
        return {
            *self.arrived,
            *self.heartbeats,
            *self.applied,
            *self.departed,
            *self.refused,
            *self.events,
        }

    def take(self, satellites: Sequence[UUID]) -> _Pending:
        """Split off what waits for these satellites."""
        return _Pending(
            _taken(self.arrived, satellites),
            _taken(self.heartbeats, satellites),
            _taken(self.applied, satellites),
            _taken(self.departed, satellites),
            _taken(self.refused, satellites),
            _taken(self.events, satellites),
        )

    def pieces(self) -> Iterator[_Piece]:
        """Report by report, by satellite, in the order in which they are written."""
        for id in sorted(self.satellites()):
            if (row := self.arrived.get(id)) is not None:
                yield _Piece(id, "arrival", row, _Pending(arrived={id: row}))
            if (row := self.heartbeats.get(id)) is not None:
                yield _Piece(id, "heartbeat", row, _Pending(heartbeats={id: row}))
            if (row := self.applied.get(id)) is not None:
                yield _Piece(id, "applied policy", row, _Pending(applied={id: row}))
            for row in self.departed.get(id, ()):
                yield _Piece(id, "departure", row, _Pending(departed={id: [row]}))
            if (row := self.refused.get(id)) is not None:
                yield _Piece(id, "refusal", row, _Pending(refused={id: row}))
            for fact in self.events.get(id, ()):
                yield _Piece(id, "event", fact.model_dump(mode="json"), _Pending(events={id: [fact]}))

    @classmethod
    def of(cls, pieces: Iterable[_Piece]) -> _Pending:
        """What these pieces are together."""
        whole = cls()
        for piece in pieces:
            whole.arrived |= piece.pending.arrived
            whole.heartbeats |= piece.pending.heartbeats
            whole.applied |= piece.pending.applied
            whole.refused |= piece.pending.refused
            for id, rows in piece.pending.departed.items():
                whole.departed.setdefault(id, []).extend(rows)
            for id, facts in piece.pending.events.items():
                whole.events.setdefault(id, []).extend(facts)
        return whole

    def put_back(self, batch: _Pending) -> None:
        """Have a batch that could not be written wait again, unless something newer has come."""
        self.arrived = batch.arrived | self.arrived
        self.heartbeats = batch.heartbeats | self.heartbeats
        self.applied = batch.applied | self.applied
        self.refused = batch.refused | self.refused
        for satellite, rows in batch.departed.items():
            self.departed[satellite] = (rows + self.departed.get(satellite, []))[-MAX_WAITING:]
        for satellite, events in batch.events.items():
            self.events[satellite] = (events + self.events.get(satellite, []))[-MAX_WAITING:]


@dataclass(frozen=True, slots=True)
class _Piece:
    """One report of one satellite: what it is, its content, and itself as what waits."""

    satellite: UUID
    what: str
    content: object
    pending: _Pending

    def culprit(self) -> Culprit:
        """What is told of it when it cannot be written."""
        return Culprit(f"satellite {self.satellite}", self.what, self.content)


WriteApart = Callable[
    [
        deque[_Piece],
        Callable[[AsyncSession, Sequence[_Piece]], Awaitable[None]],
        Callable[[_Piece], Culprit],
    ],
    Awaitable[int],
]
"""See `ringfence.PluginContext.write_apart`."""


class Journal:
    """Takes reports at once and writes them soon; `write_until_cancelled` is the task that does."""

    def __init__(self, write_apart: WriteApart, instance: UUID, emit: Emit) -> None:
        self._write_apart = write_apart
        self._instance = instance
        self._emit = emit
        self._pending = _Pending()
        self._refused: dict[UUID, float] = {}
        self._writing = asyncio.Lock()
        self._urgent = asyncio.Event()
        self._wanted = asyncio.Event()

    def arrived(
        self, satellite: UUID, connection: UUID, *, version: str | None, capabilities: JsonObject | None
    ) -> None:
        """A satellite has been let in."""
        row = {"connection": str(connection), "version": version, "capabilities": capabilities}
        self._pending.arrived[satellite] = _row(satellite, row)
        self._note(
            SatelliteConnected(
                satellite_id=satellite, connection=connection, instance=self._instance, version=version
            )
        )

    def heartbeat(
        self, satellite: UUID, connection: UUID, *, version: str | None, capabilities: JsonObject | None
    ) -> None:
        """A satellite has said that it is there."""
        row = {"connection": str(connection), "version": version, "capabilities": capabilities}
        self._pending.heartbeats[satellite] = _row(satellite, row)
        self._wanted.set()

    def present(self, satellite: UUID, connection: UUID) -> None:
        """A satellite has said something that is still being acted on; what it said since is not read yet."""
        if satellite not in self._pending.heartbeats:
            self.heartbeat(satellite, connection, version=None, capabilities=None)

    def applied(
        self, satellite: UUID, connection: UUID, frame: SandboxPolicyApplied, *, unknown: bool | None
    ) -> None:
        """Note that a satellite has said which revision governs its next run.

        It says so over the connection that it has now; of one that it had before it says so anew. `unknown`: whether
        the database does not have that revision; None leaves that as it was, while the revision is the same.
        """
        row = frame.model_dump(mode="json", include={"revision", "enforced", "downgrades"})
        row |= {"connection": str(connection), "unknown": unknown}
        self._pending.applied[satellite] = _row(satellite, row)
        self._hurry()

    def refused(self, satellite: UUID) -> None:
        """Note that an agent has said it is this satellite, which is one, with a token that is not its own."""
        now = time.monotonic()
        if now - self._refused.get(satellite, -REFUSED_SECONDS) < REFUSED_SECONDS:
            return
        self._refused[satellite] = now
        self._pending.refused[satellite] = _row(satellite, {})
        self._hurry()

    def departed(self, satellite: UUID, connection: UUID, *, clean: bool, code: int, reason: str) -> None:
        """A connection has ended."""
        rows = self._pending.departed.setdefault(satellite, [])
        rows.append(_row(satellite, {"connection": str(connection), "clean": clean}))
        del rows[:-MAX_WAITING]
        self._note(
            SatelliteDisconnected(
                satellite_id=satellite,
                connection=connection,
                instance=self._instance,
                clean=clean,
                code=code,
                reason=reason,
            )
        )

    async def write_until_cancelled(self) -> None:
        """Write what comes, for ever. A database that fails is waited for."""
        pauses = Pauses(*RETRY_SECONDS)
        while True:
            await self._wanted.wait()
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await self._urgent.wait()
                await asyncio.sleep(URGENT_SECONDS)
            except TimeoutError:
                pass
            try:
                await self.write()
            except (SQLAlchemyError, OSError, TimeoutError) as error:
                _log.warning(
                    "cannot write what satellites report; trying again",
                    error=describe(error),
                    satellites=len(self._pending.satellites()),
                )
                await asyncio.sleep(pauses.after_failure())
            else:
                pauses.succeeded()

    async def write(self) -> None:
        """Write all that waits, and wait for what another call is writing.

        Raises what the database raises; what was not written then waits on.
        """
        async with asyncio.timeout(WRITE_SECONDS), self._writing:
            await self._write_all()

    async def _write_all(self) -> None:
        self._wanted.clear()
        self._urgent.clear()
        try:
            satellites = sorted(self._pending.satellites())
            for start in range(0, len(satellites), BATCH):
                waiting = deque(self._pending.take(satellites[start : start + BATCH]).pieces())
                try:
                    await self._write_apart(waiting, self._write, _Piece.culprit)
                finally:
                    self._pending.put_back(_Pending.of(waiting))
        except BaseException:
            self._hurry()
            raise

    async def _write(self, session: AsyncSession, pieces: Sequence[_Piece]) -> None:
        batch = _Pending.of(pieces)
        ids = sorted(batch.satellites())
        there = set((await session.execute(_LOCK, {"ids": ids})).scalars())
        await _execute(session, _ARRIVED, batch.arrived.values(), instance=self._instance)
        await _execute(session, _HEARTBEAT, batch.heartbeats.values())
        applied = await _execute(session, _APPLIED, batch.applied.values())
        await _execute(session, _DEPARTED, [row for rows in batch.departed.values() for row in rows])
        told: list[Fact] = [
            one for satellite in ids if satellite in there for one in batch.events.get(satellite, ())
        ]
        refused = await _execute(session, _REFUSED, batch.refused.values(), pause=REFUSED_SECONDS)
        told += [SatelliteRefused(satellite_id=row.id) for row in sorted(refused, key=lambda row: row.id)]
        told += [_applied(row) for row in sorted(applied, key=lambda row: row.id) if row.is_new]
        for kind, facts in groupby(told, key=type):
            await self._emit(session, kind, list(facts))

    def _note(self, event: Fact) -> None:
        events = self._pending.events.setdefault(event.satellite_id, [])
        events.append(event)
        del events[:-MAX_WAITING]
        self._hurry()

    def _hurry(self) -> None:
        self._urgent.set()
        self._wanted.set()


def _row(satellite: UUID, values: Mapping[str, Any]) -> Record:
    return {"id": str(satellite), "happened": time.monotonic(), **values}


def _taken(of: dict[UUID, T], satellites: Sequence[UUID]) -> dict[UUID, T]:
    return {satellite: of.pop(satellite) for satellite in satellites if satellite in of}


def _applied(row: Any) -> SatellitePolicyApplied:
    lacking = tuple(dict.fromkeys(one["layer"] for one in row.downgrades))
    return SatellitePolicyApplied(
        satellite_id=row.id, revision=row.revision, unknown=row.unknown, lacking=lacking
    )


async def _execute(
    session: AsyncSession, statement: TextClause, rows: Collection[Record], **values: object
) -> Sequence[Any]:
    """What the statement returns, if it returns rows."""
    if not rows:
        return ()
    now = time.monotonic()
    told = [{**row, "ago": max(0.0, now - row["happened"])} for row in rows]
    done = await session.execute(statement, {"rows": json.dumps(told), **values})
    return done.all() if done.returns_rows else ()  # type: ignore[attr-defined]
