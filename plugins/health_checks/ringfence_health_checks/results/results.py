"""Results: what a run of a check has shown, stored once, read back, and thinned when it is old."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from ringfence import Culprit, PluginContext
from ringfence.bounded import cleaned, cleaned_json
from ringfence.metrics import Counts
from ringfence.scripts import Carried, Health, Verdict
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_health_checks.destinations.table import COUNTED, counted, forget_old, forget_place
from ringfence_health_checks.destinations.tried import tried
from ringfence_health_checks.hooks import health_check_stopped, stream_of
from ringfence_health_checks.results.stops import noted, stop_of
from ringfence_health_checks.states.settled_states import News, Row, settle

MAX_REPORT_BYTES = 64 * 1024
SET_ASIDE = "set-aside"
THIN_BATCH = 5000

# All tables in one statement, and so at once or not at all; a result that is there already changes none. The check is
# locked first, as by whoever deletes it, or each could wait for what the other holds. Answers the row of the place,
# which is locked by then, if this is its newest result.
_STORE = """
    WITH stored AS (
        INSERT INTO health_checks_results
            (ran_on, id, check_id, system, status, latency_ms, message, metrics, detail, executed_at)
        SELECT :ran_on, :id, checks.id, :system, :status, :latency_ms, :message,
               CAST(:metrics AS jsonb), CAST(:detail AS jsonb), :executed_at
          FROM health_checks_checks AS checks WHERE checks.id = :check_id FOR KEY SHARE
        ON CONFLICT (ran_on, id) DO NOTHING
        RETURNING check_id, ran_on, status, latency_ms, message, executed_at
    ){counted}
    INSERT INTO health_checks_latest AS latest (check_id, ran_on, status, latency_ms, message, executed_at)
    SELECT * FROM stored
    ON CONFLICT (check_id, ran_on) DO UPDATE
       SET status = excluded.status, latency_ms = excluded.latency_ms, message = excluded.message,
           executed_at = excluded.executed_at
     WHERE latest.executed_at <= excluded.executed_at
    RETURNING latest.check_id, latest.ran_on, latest.place_name, latest.place_labels, latest.settling,
              latest.stopped
"""
_STORE_PLAIN = text(_STORE.format(counted=""))
_STORE_COUNTED = text(_STORE.format(counted=f", {COUNTED}"))
"""For the few results that tell of destinations: the others need not pay for it."""
# An older release took times that no reader can hold.
_EXECUTED_AT = "greatest(executed_at, timestamptz '2000-01-01 00:00:00Z')"
_LIST = f"""
    SELECT ran_on, id, check_id, system, status, latency_ms, message, metrics, detail, {_EXECUTED_AT}, received_at
      FROM health_checks_results
     WHERE check_id = :check_id {{conditions}}
     ORDER BY executed_at DESC, ran_on, id LIMIT :limit
"""  # noqa: S608
# One that fits any choice of conditions would be planned for none of them.
_CONDITIONS = {
    "ran_on": "AND ran_on = :ran_on",
    "status": "AND status = :status",
    "before": "AND executed_at < :before",
    "after": """AND executed_at <= :after_at
       AND (executed_at < :after_at OR (ran_on, id) > (:after_ran_on, :after_id))""",
}
_FORGET = text("DELETE FROM health_checks_latest WHERE ran_on = :ran_on")
_THIN = text("""
    DELETE FROM health_checks_results WHERE (ran_on, id) IN (
        SELECT ran_on, id FROM health_checks_results
         WHERE received_at < now() - make_interval(secs => :seconds) ORDER BY received_at LIMIT :batch)
""")


@dataclass(frozen=True, slots=True)
class Result:
    """One run of a check. `ran_on` is `CORE` or a satellite's id; `detail` is what is kept of the run."""

    check_id: UUID
    ran_on: str
    system: str
    verdict: Verdict
    latency_ms: float | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    executed_at: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @classmethod
    def of(cls, check_id: UUID, ran_on: str, system: str, carried: Carried) -> Result:
        """The result of what was carried out here, or is told of with all that came of it."""
        return cls(
            check_id,
            ran_on,
            system,
            carried.verdict,
            carried.latency_ms,
            carried.detail(),
            carried.executed_at,
        )


@dataclass(frozen=True, slots=True)
class ResultKey:
    """Where a result stands in the list of a check's results."""

    executed_at: dt.datetime
    ran_on: str
    id: str


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A result as it was stored."""

    ran_on: str
    id: str
    check_id: UUID
    system: str
    status: str
    latency_ms: float | None
    message: str
    metrics: Mapping[str, Any]
    detail: Mapping[str, Any]
    executed_at: dt.datetime
    received_at: dt.datetime

    @property
    def key(self) -> ResultKey:
        """Where it stands in the list."""
        return ResultKey(self.executed_at, self.ran_on, self.id)

    def to_wire(self) -> dict[str, Any]:
        """The result as JSON for the API."""
        return {
            "id": self.id,
            "checkId": str(self.check_id),
            "system": self.system,
            "ranOn": self.ran_on,
            "status": self.status,
            "latencyMs": self.latency_ms,
            "message": self.message,
            "metrics": self.metrics,
            "executedAt": self.executed_at,
            "receivedAt": self.received_at,
            **self.detail,
        }


class Results:
    """The results in the database."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        self.stored = Counts()
        """Results that this instance has taken in, by status."""

    async def store(self, result: Result) -> bool:
        """Store a result; one that is there already is not stored again.

        False for one that cannot be stored: it is set aside.
        """
        is_stored = not await self._context.write_apart(deque([result]), self._write, _culprit)
        self.stored.add(result.verdict.status.value if is_stored else SET_ASIDE)
        return is_stored

    async def listed(
        self,
        check_id: UUID,
        *,
        ran_on: str | None = None,
        status: Health | None = None,
        before: dt.datetime | None = None,
        after: ResultKey | None = None,
        limit: int,
    ) -> Sequence[StoredResult]:
        """The results of a check, newest first; only those before a time, or after one of them."""
        wanted = {"ran_on": ran_on, "status": status, "before": before, "after": after}
        conditions = [_CONDITIONS[name] for name, value in wanted.items() if value is not None]
        values = {"check_id": check_id, "ran_on": ran_on, "status": status, "before": before, "limit": limit}
        if after is not None:
            values |= {"after_at": after.executed_at, "after_ran_on": after.ran_on, "after_id": after.id}
        statement = text(_LIST.format(conditions=" ".join(conditions)))
        async with self._context.sessions() as session:
            rows = await session.execute(statement, values)
            return [StoredResult(*row) for row in rows]

    async def forget_place(self, ran_on: str) -> None:
        """A satellite is gone: it has no newest results any more."""
        async with self._context.sessions.begin() as session:
            await session.execute(_FORGET, {"ran_on": ran_on})
            await forget_place(session, ran_on)

    async def thin(self, *, keep_seconds: float) -> int:
        """Delete what was received longer ago than that, in small transactions; answers how many results."""
        async with self._context.sessions.begin() as session:
            await forget_old(session, keep_seconds=keep_seconds)
        thinned = 0
        while True:
            async with self._context.sessions.begin() as session:
                done = await session.execute(_THIN, {"seconds": keep_seconds, "batch": THIN_BATCH})
            count = int(getattr(done, "rowcount", 0))
            thinned += count
            if count < THIN_BATCH:
                return thinned

    async def _write(self, session: AsyncSession, results: Sequence[Result]) -> None:
        for result in results:
            said = result.verdict.to_wire()
            message = cleaned(said.pop("message"))
            values = {
                "ran_on": result.ran_on,
                "id": result.id,
                "check_id": result.check_id,
                "system": result.system,
                "status": result.verdict.status.value,
                "latency_ms": result.latency_ms,
                "message": message,
                "metrics": json.dumps(cleaned_json(said.pop("metrics"))),
                "detail": json.dumps(cleaned_json({**result.detail, **said})),
                "executed_at": result.executed_at,
            }
            statement = _STORE_PLAIN
            if told := tried(result.detail.get("egress")):
                statement, values["destinations"] = _STORE_COUNTED, counted(told)
            row = (await session.execute(statement, values)).one_or_none()
            if row is not None:
                *columns, was = row
                place, status = Row(*columns), result.verdict.status
                stopped = await noted(session, place, was, stop_of(result.detail), message)
                news = News(place, result.executed_at, message, status=status, result_id=result.id)
                await settle(self._context, session, [news])
                if stopped is not None:
                    stream = stream_of(result.check_id)
                    await self._context.emit_hook(
                        health_check_stopped, stopped, session=session, stream=stream
                    )


def _culprit(result: Result) -> Culprit:
    said = {**result.verdict.to_wire(), "detail": result.detail}
    return Culprit(result.ran_on, f"result of check {result.check_id}", said)
