"""How each check is in each place *now*: what its newest result says, unless that is too old to be believed.

Worked out whenever it is read, by the database's clock. Threat: a satellite dies, or a check runs no more, and it is
shown as healthy for ever. Mechanism: a place whose newest result is older than three intervals and the timeout, or
whose satellite is offline, is unknown, with that result beside it; so is one that has not run yet. Not covered: a
satellite whose clock is wrong, or that lies about when it ran.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from ringfence import PluginContext
from ringfence.scripts import Health
from ringfence.scripts.reading import worst
from ringfence_satellite.service import Absence, Satellites
from sqlalchemy import text

from ringfence_health_checks.silences.silenced import SILENCED

DISABLED = "disabled"
"""What a check is that does not run, instead of a state."""
NO_PLACE = "it runs nowhere: no satellite is what it is placed on"

OVERDUE = "greatest(latest.executed_at, latest.placed_at) + make_interval(secs => latest.grace_seconds)"
"""The SQL expression for when a place becomes stale; null where no result is expected."""
IS_ABSENT = "IN (SELECT unnest(string_to_array(CAST(:absent AS text), ',')))"
"""What follows a place in SQL, to ask whether its satellite is offline: looked up, however many are."""
_SEEN = f"""
    SELECT latest.check_id, latest.ran_on, latest.status, latest.latency_ms, latest.message, latest.settling,
           latest.place_labels, nullif(latest.executed_at, '-infinity') AS executed_at, its.reason,
           CASE WHEN its.reason IS NULL THEN latest.status ELSE 'unknown' END AS shown, {OVERDUE} AS overdue_at
      FROM health_checks_latest AS latest
     CROSS JOIN LATERAL (
           SELECT CASE WHEN latest.grace_seconds IS NULL THEN NULL
                       WHEN latest.ran_on {IS_ABSENT} THEN 'offline'
                       WHEN {OVERDUE} < clock_timestamp() THEN 'overdue' END AS reason) AS its
     WHERE latest.placed_at IS NOT NULL
"""  # noqa: S608
_COLUMNS = f"""
    latest.ran_on, shown, status, latency_ms, message,
    CASE WHEN executed_at IS NOT NULL THEN greatest(executed_at, timestamptz '2000-01-01 00:00:00Z') END AS executed_at,
    CAST(extract(epoch FROM clock_timestamp() - executed_at) AS float8) AS age_seconds, reason,
    CASE reason WHEN 'offline' THEN absent.since WHEN 'overdue' THEN overdue_at END AS stale_since,
    settling ->> 'status' AS settled, CAST(settling ->> 'since' AS timestamptz) AS settled_since,
    coalesce(CAST(settling ->> 'flapping' AS boolean), false) AS flapping, {SILENCED} AS silenced
"""
_ABSENT = """
    LEFT JOIN unnest(string_to_array(CAST(:absent AS text), ','),
                     CAST(string_to_array(CAST(:absent_since AS text), ',') AS timestamptz[])) AS absent (ran_on, since)
           ON absent.ran_on = latest.ran_on
"""
_SEVERITY = "CASE shown WHEN 'unhealthy' THEN 0 WHEN 'degraded' THEN 2 WHEN 'healthy' THEN 3 ELSE 1 END"
_COUNTS = ", ".join(f"count(*) FILTER (WHERE shown = '{one}') OVER () AS {one}" for one in Health)
# Check by check, so that each costs what its own places cost. The places are counted before the worst are chosen.
_WORST = text(f"""
    SELECT latest.check_id, {", ".join(Health)}, {_COLUMNS}
      FROM unnest(CAST(:ids AS uuid[])) AS one (id), LATERAL (
           SELECT *, {_COUNTS} FROM ({_SEEN} AND latest.check_id = one.id) AS seen
            ORDER BY {_SEVERITY}, ran_on LIMIT :most) AS latest
           {_ABSENT}
     ORDER BY latest.check_id, {_SEVERITY}, latest.ran_on
""")  # noqa: S608
_LATEST = text(f"""
    SELECT {_COLUMNS}
      FROM ({_SEEN} AND latest.check_id = :check_id AND latest.ran_on > :after
            ORDER BY latest.ran_on LIMIT :limit) AS latest
           {_ABSENT}
     ORDER BY latest.ran_on
""")  # noqa: S608
_ON_PLACE = text(f"""
    SELECT latest.check_id, {_COLUMNS}, checks.name
      FROM ({_SEEN} AND latest.ran_on = :place) AS latest
      JOIN health_checks_checks AS checks ON checks.id = latest.check_id
           {_ABSENT}
     ORDER BY {_SEVERITY}, checks.name LIMIT :limit
""")  # noqa: S608


@dataclass(frozen=True, slots=True)
class PlaceState:
    """A check in one place: its state, and its newest result, which may be too old for that to be its state."""

    ran_on: str
    shown: str
    status: str
    latency_ms: float | None
    message: str
    executed_at: dt.datetime | None
    age_seconds: float | None
    reason: str | None
    stale_since: dt.datetime | None
    settled: str | None
    settled_since: dt.datetime | None
    flapping: bool
    silenced: bool

    def to_wire(self) -> dict[str, Any]:
        """The same as JSON for the API."""
        return {
            "ranOn": self.ran_on,
            "status": self.shown,
            "latencyMs": self.latency_ms,
            "message": self.message,
            "executedAt": self.executed_at,
            "stale": self._stale(),
            "settled": None
            if self.settled is None
            else {"status": self.settled, "since": self.settled_since},
            "flapping": self.flapping,
            "silenced": self.silenced,
        }

    def _stale(self) -> dict[str, Any] | None:
        if self.stale_since is None:
            return None
        last = None
        if self.executed_at is not None:
            last = {
                "status": self.status,
                "executedAt": self.executed_at,
                "ageSeconds": self.age_seconds,
            }
        return {"since": self.stale_since, "reason": why(self.reason, last is not None), "last": last}


@dataclass(frozen=True, slots=True)
class CheckState:
    """A check over all of its places: how many are how, and the worst of them by themselves."""

    counts: Mapping[str, int] = field(default_factory=dict)
    places: Sequence[PlaceState] = ()

    @property
    def status(self) -> Health:
        """The worst state of a place; unknown where there is no place."""
        return worst(map(Health, self.counts))

    def to_wire(self, most: int, *, enabled: bool) -> dict[str, Any]:
        """The state, the counts and so many of the places, as JSON for the API."""
        nowhere = enabled and not self.counts
        return {
            "status": self.status if enabled else DISABLED,
            "reason": NO_PLACE if nowhere else None,
            "counts": self.counts,
            "latest": [one.to_wire() for one in self.places[:most]],
            "latestTruncated": sum(self.counts.values()) > most,
        }


class States:
    """The states of checks, as they are now."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context

    async def of(self, checks: Sequence[UUID], *, most: int) -> Mapping[UUID, CheckState]:
        """The state of each check, with so many of its places, the worst first."""
        values = {**await self._absent(), "ids": list(checks), "most": most}
        counts: dict[UUID, dict[str, int]] = {}
        places: dict[UUID, list[PlaceState]] = {}
        async with self._context.sessions() as session:
            for id, healthy, degraded, unhealthy, unknown, *place in await session.execute(_WORST, values):
                if id not in counts:
                    told = zip(Health, (healthy, degraded, unhealthy, unknown), strict=True)
                    counts[id] = {health.value: count for health, count in told if count}
                places.setdefault(id, []).append(PlaceState(*place))
        return {id: CheckState(counts[id], places[id]) if id in counts else CheckState() for id in checks}

    async def on_place(self, place: str, *, limit: int) -> Sequence[tuple[UUID, str, PlaceState]]:
        """The checks of a place by id and name, and how they are there, the worst first."""
        values = {**await self._absent(), "place": place, "limit": limit}
        async with self._context.sessions() as session:
            rows = await session.execute(_ON_PLACE, values)
            return [(id, name, PlaceState(*place)) for id, *place, name in rows]

    async def latest(self, check_id: UUID, *, after: str = "", limit: int) -> Sequence[PlaceState]:
        """The state of a check in each of its places, by place."""
        values = {**await self._absent(), "check_id": check_id, "after": after, "limit": limit}
        async with self._context.sessions() as session:
            return [PlaceState(*row) for row in await session.execute(_LATEST, values)]

    async def _absent(self) -> dict[str, Any]:
        return absent_values((await self._context.services.get(Satellites).presence()).absent)


def absent_values(absent: Sequence[Absence]) -> dict[str, str]:
    """Who is offline, for statements: as texts, since a list of thousands is written one by one."""
    return {
        "absent": ",".join(str(one.id) for one in absent),
        "absent_since": ",".join(one.since.isoformat() for one in absent),
    }


def why(reason: str | None, has_run: bool) -> str:
    """Why a place is stale, in words."""
    if reason == "offline":
        return "its satellite is offline"
    if has_run:
        return "its newest result is older than three intervals and the timeout"
    return "it has not run within three intervals and the timeout"
