"""What results say over time: the states, the latency and the metrics of a span, each as so many points at most.

Threat: a span holds more results than anybody should read at once. Mechanism: a span is cut into `POINTS` parts, of
each of which at most `MOST` results are read, the newest; of a check that runs once a minute, that is all of them. The
states of a check over all places are looked up by the index of states, one look for each part and state.
"""

from __future__ import annotations

import datetime as dt
import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from ringfence import PluginContext
from sqlalchemy import text

POINTS = 288
MOST = 150
NAMES = 8
"""How many metrics are told of."""

_PARTS = """
    FROM (SELECT number, CAST(:begin AS timestamptz) + number * make_interval(secs => :step) AS at
            FROM generate_series(0, :points - 1) AS number) AS part
"""
_OF_PLACE = """
   CROSS JOIN LATERAL (
         SELECT status, latency_ms, metrics FROM health_checks_results
          WHERE check_id = :check_id AND ran_on = :place
            AND executed_at >= part.at AND executed_at < part.at + make_interval(secs => :step)
          ORDER BY executed_at DESC LIMIT :most) AS result
"""
_SEVERITY = (
    "CASE result.status WHEN 'unhealthy' THEN 0 WHEN 'degraded' THEN 2 WHEN 'healthy' THEN 3 ELSE 1 END"
)
_LATENCY = text(f"""
    SELECT part.number, avg(result.latency_ms) AS typical, max(result.latency_ms) AS worst {_PARTS} {_OF_PLACE}
     GROUP BY part.number ORDER BY part.number
""")
_METRIC = text(f"""
    SELECT part.number, avg(one.value) AS typical, NULL AS worst {_PARTS} {_OF_PLACE}
   CROSS JOIN LATERAL (
         SELECT CASE jsonb_typeof(result.metrics -> CAST(:metric AS text))
                WHEN 'number' THEN CAST(result.metrics ->> CAST(:metric AS text) AS float8)
                WHEN 'object' THEN CAST(result.metrics -> CAST(:metric AS text) ->> 'value' AS float8)
                END AS value) AS one
     GROUP BY part.number ORDER BY part.number
""")
_STATES = text(f"""
    SELECT part.number, min({_SEVERITY}) AS worst {_PARTS} {_OF_PLACE} GROUP BY part.number ORDER BY part.number
""")
_SEEN = """
    EXISTS (SELECT FROM health_checks_results WHERE check_id = :check_id AND status = '{}'
               AND executed_at >= part.at AND executed_at < part.at + make_interval(secs => :step))
"""
_STATES_ANYWHERE = text(f"""
    SELECT part.number, CASE WHEN {_SEEN.format("unhealthy")} THEN 0 WHEN {_SEEN.format("unknown")} THEN 1
           WHEN {_SEEN.format("degraded")} THEN 2 WHEN {_SEEN.format("healthy")} THEN 3 END AS worst {_PARTS}
     ORDER BY part.number
""")
_LATEST_METRICS = text("""
    SELECT metrics FROM health_checks_results WHERE check_id = :check_id AND ran_on = :place
     ORDER BY executed_at DESC LIMIT 1
""")
_NEWEST = text("""
    SELECT coalesce(CAST(extract(epoch FROM nullif(max(executed_at), '-infinity')) * 1000 AS bigint), 0)
      FROM health_checks_latest WHERE check_id = :check_id
""")
_RECEIVED = text("""
    SELECT number, (SELECT count(*) FROM (
               SELECT FROM health_checks_results
                WHERE received_at >= CAST(:begin AS timestamptz) + number * make_interval(secs => :step)
                  AND received_at < CAST(:begin AS timestamptz) + (number + 1) * make_interval(secs => :step)
                LIMIT :most) AS counted) AS received
      FROM generate_series(0, :points - 1) AS number ORDER BY number
""")
HOUR_PARTS = 12
MOST_COUNTED = 2000
"""So many results are counted in five minutes; of more it is only known that there are more."""
_BY_SEVERITY = ("unhealthy", "unknown", "degraded", "healthy")


class Span(enum.StrEnum):
    """How far back somebody looks."""

    DAY, WEEK, MONTH = "24h", "7d", "30d"

    @property
    def seconds(self) -> int:
        """The same in seconds."""
        return {"24h": 1, "7d": 7, "30d": 30}[self] * 86_400


@dataclass(frozen=True, slots=True)
class Point:
    """One part of a span: what was typical, and what was the most; None where there is nothing."""

    at: dt.datetime
    typical: float | None = None
    worst: float | None = None


@dataclass(frozen=True, slots=True)
class Stretch:
    """For how long the worst that was seen was the same; the state is None where nothing was."""

    begin: dt.datetime
    end: dt.datetime
    state: str | None


@dataclass(frozen=True, slots=True)
class Lasting:
    """For how long a result says how things are: until the next run, and if none comes, for so many seconds."""

    gap_seconds: float
    grace_seconds: float


@dataclass(frozen=True, slots=True)
class Reading:
    """A metric as the newest result tells it."""

    name: str
    value: float
    unit: str = ""
    warn: str | None = None
    crit: str | None = None


class History:
    """Reads what was."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context

    async def numbers(
        self, check_id: UUID, place: str, span: Span, now: dt.datetime, *, metric: str | None = None
    ) -> Sequence[Point]:
        """The latency in a place, or one of the metrics there."""
        begin, step = _cut(span, now)
        values = {"check_id": check_id, "place": place, "metric": metric, **_parts(begin, step)}
        async with self._context.sessions() as session:
            rows = await session.execute(_LATENCY if metric is None else _METRIC, values)
            found = {row.number: (row.typical, row.worst) for row in rows}
        return [Point(begin + number * step, *found.get(number, (None, None))) for number in range(POINTS)]

    async def states(
        self, check_id: UUID, place: str | None, span: Span, now: dt.datetime, *, lasting: Lasting
    ) -> Sequence[Stretch]:
        """The worst state that was seen, in a place or in any of them."""
        begin, step = _cut(span, now)
        values = {"check_id": check_id, "place": place, **_parts(begin, step)}
        async with self._context.sessions() as session:
            rows = await session.execute(_STATES_ANYWHERE if place is None else _STATES, values)
            found = {row.number: row.worst for row in rows}
        return stretches(
            begin, step, [found.get(number) for number in range(POINTS)], lasting=lasting, now=now
        )

    async def metrics(self, check_id: UUID, place: str) -> Sequence[Reading]:
        """The metrics of the newest result in a place: the first `NAMES` of them."""
        async with self._context.sessions() as session:
            values = {"check_id": check_id, "place": place}
            found = (await session.execute(_LATEST_METRICS, values)).scalar_one_or_none()
        return [_reading(name, told) for name, told in list((found or {}).items())[:NAMES]]

    async def received(self, now: dt.datetime) -> Sequence[int]:
        """How many results have come in each five minutes of the last hour, the oldest first."""
        step = 3600 // HOUR_PARTS
        values = {"begin": now - dt.timedelta(hours=1), "step": float(step), "points": HOUR_PARTS}
        async with self._context.sessions() as session:
            rows = await session.execute(_RECEIVED, {**values, "most": MOST_COUNTED})
            return [int(row.received) for row in rows]

    async def newest(self, check_id: UUID) -> int:
        """When the newest result of a check was made, in milliseconds; 0 for none: another number, another result."""
        async with self._context.sessions() as session:
            return int((await session.execute(_NEWEST, {"check_id": check_id})).scalar_one())


def stretches(
    begin: dt.datetime,
    step: dt.timedelta,
    worst: Sequence[int | None],
    *,
    lasting: Lasting,
    now: dt.datetime,
) -> Sequence[Stretch]:
    """What follows each other and is the same, as one, until now. Pure."""
    found: list[Stretch] = []
    # Places do not report at once: between two runs, the worst of them is how the check is.
    before = max(1, math.ceil(lasting.gap_seconds / step.total_seconds()))
    seen: tuple[int, str] | None = None
    for number in range(len(worst)):
        recent = [one for one in worst[max(0, number + 1 - before) : number + 1] if one is not None]
        if worst[number] is not None or recent:
            seen = number if worst[number] is not None or seen is None else seen[0], _BY_SEVERITY[min(recent)]
        is_over = seen is None or (number - seen[0]) * step.total_seconds() > lasting.grace_seconds
        state = None if seen is None or is_over else seen[1]
        end = min(begin + (number + 1) * step, now)
        if found and found[-1].state == state:
            found[-1] = Stretch(found[-1].begin, end, state)
        else:
            found.append(Stretch(begin + number * step, end, state))
    return found


def _cut(span: Span, now: dt.datetime) -> tuple[dt.datetime, dt.timedelta]:
    """Where a span begins, and how long a part of it is: parts begin at round times, so that they stay as they are."""
    step = span.seconds // POINTS
    end = (int(now.timestamp()) // step + 1) * step
    return dt.datetime.fromtimestamp(end - span.seconds, dt.UTC), dt.timedelta(seconds=step)


def _parts(begin: dt.datetime, step: dt.timedelta) -> dict[str, object]:
    return {"begin": begin, "step": step.total_seconds(), "points": POINTS, "most": MOST}


def _reading(name: str, told: object) -> Reading:
    if isinstance(told, dict):
        value, unit = told.get("value"), str(told.get("unit") or "")
        warn, crit = told.get("warn"), told.get("crit")
        return Reading(name, _number(value), unit, _word(warn), _word(crit))
    return Reading(name, _number(told))


def _number(told: object) -> float:
    return float(told) if isinstance(told, int | float) else 0.0


def _word(told: object) -> str | None:
    return None if told is None else str(told)
