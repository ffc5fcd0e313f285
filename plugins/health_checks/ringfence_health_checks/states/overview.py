"""How all checks are at once: one state each over all of its places, for lists that show the worst first.

One statement answers for all of them, however many look. Threat: many open pages ask for it after each event.
Mechanism: on one instance one statement runs at a time, and whoever asks meanwhile shares the next one, which begins
after all of them have asked; so nobody is shown what was before. Not covered: many different filters at once.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ringfence import PluginContext
from ringfence_satellite.service import Satellites
from sqlalchemy import text

from ringfence_health_checks.silences.silenced import SILENCED
from ringfence_health_checks.states.current_states import DISABLED, OVERDUE, PLACES, absent_values

STATES = ("unhealthy", "unknown", "degraded", "healthy", DISABLED)
"""What a check can be, the worst first."""
NOWHERE = STATES.index("unknown")
_ALL = """
    SELECT checks.id, checks.name, checks.outline ->> 'system' AS system,
           coalesce(CAST(checks.outline ->> 'enabled' AS boolean), true) AS enabled,
           coalesce(seen.unhealthy, 0) AS unhealthy, coalesce(seen.unknown, 0) AS unknown,
           coalesce(seen.degraded, 0) AS degraded, coalesce(seen.healthy, 0) AS healthy,
           coalesce(seen.quiet, 0) AS quiet, coalesce(seen.stale, 0) AS stale, seen.since, seen.executed_at,
           EXISTS (SELECT FROM health_checks_silences AS silence
                    WHERE silence.check_id = checks.id AND silence.label IS NULL AND silence.place IS NULL
                      AND clock_timestamp() >= silence.starts_at AND clock_timestamp() < silence.ends_at) AS silenced
      FROM health_checks_checks AS checks
      {join} JOIN (
           SELECT check_id,
                  count(*) FILTER (WHERE shown = 0) AS unhealthy, count(*) FILTER (WHERE shown = 1) AS unknown,
                  count(*) FILTER (WHERE shown = 2) AS degraded, count(*) FILTER (WHERE shown = 3) AS healthy,
                  count(*) FILTER (WHERE shown < 3 AND silenced) AS quiet, count(*) FILTER (WHERE stale) AS stale,
                  min(since) FILTER (WHERE shown = worst) AS since,
                  nullif(max(executed_at), '-infinity') AS executed_at
             FROM (SELECT *, min(shown) OVER (PARTITION BY check_id) AS worst,
                          CASE WHEN shown < 3 THEN {silenced} END AS silenced
                     FROM (SELECT latest.check_id, latest.ran_on, latest.place_labels, latest.executed_at, its.stale,
                                  CAST(latest.settling ->> 'since' AS timestamptz) AS since,
                                  CASE WHEN its.stale THEN 1
                                       ELSE CASE latest.status WHEN 'unhealthy' THEN 0 WHEN 'degraded' THEN 2
                                                               WHEN 'healthy' THEN 3 ELSE 1 END END AS shown
                             FROM health_checks_latest AS latest
                            CROSS JOIN LATERAL (
                                  SELECT latest.grace_seconds IS NOT NULL
                                     AND (latest.ran_on = ANY(CAST(:absent AS text[])) OR {overdue} < clock_timestamp())
                                      AS stale) AS its
                            WHERE latest.placed_at IS NOT NULL {places}) AS latest) AS one
            GROUP BY check_id) AS seen ON seen.check_id = checks.id
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """How one check is: of its places, how many are how; since when the worst of them is so, as it has settled."""

    id: UUID
    name: str
    system: str
    enabled: bool
    unhealthy: int
    unknown: int
    degraded: int
    healthy: int
    quiet: int
    """How many of those that are not healthy are silenced."""
    stale: int
    since: dt.datetime | None
    executed_at: dt.datetime | None
    silenced: bool
    """Whether the check itself is."""

    @property
    def places(self) -> int:
        """How many places it has."""
        return self.unhealthy + self.unknown + self.degraded + self.healthy

    @property
    def counts(self) -> Sequence[tuple[str, int]]:
        """The states of its places, with how many are so, the worst first."""
        told = (self.unhealthy, self.unknown, self.degraded, self.healthy)
        return [(state, count) for state, count in zip(STATES, told, strict=False) if count]

    @property
    def rank(self) -> int:
        """Where it stands from the worst on."""
        if not self.enabled:
            return STATES.index(DISABLED)
        return STATES.index(self.counts[0][0]) if self.counts else NOWHERE

    @property
    def state(self) -> str:
        """The worst state of a place; unknown where there is none."""
        return STATES[self.rank]

    @property
    def is_quiet(self) -> bool:
        """Whether nobody wants to be told of what is wrong."""
        troubled = self.places - self.healthy
        return self.silenced or 0 < troubled <= self.quiet

    @property
    def key(self) -> tuple[int, str]:
        """Where it stands in the list."""
        return self.rank, self.name


class Overview:
    """Answers how all checks are."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        self._next: dict[tuple[str | None, str | None], asyncio.Future[Sequence[Standing]]] = {}
        self._turn = asyncio.Lock()

    async def standings(self, *, place: str | None = None, label: str | None = None) -> Sequence[Standing]:
        """Every check, the worst first, and by name; only those with such a place, and how they are there, if asked."""
        key = place, label
        waiting = self._next.get(key)
        if waiting is None:
            waiting = self._next[key] = asyncio.ensure_future(self._read(key))
            # Where everybody has given up, nobody else takes its error.
            waiting.add_done_callback(lambda done: done.cancelled() or done.exception())
        # Whoever gives up takes nothing from those who wait for the same.
        return await asyncio.shield(waiting)

    async def _read(self, key: tuple[str | None, str | None]) -> Sequence[Standing]:
        try:
            async with self._turn:
                self._next.pop(key, None)
                return await self._found(*key)
        finally:
            if self._next.get(key) is asyncio.current_task():
                del self._next[key]

    async def _found(self, place: str | None, label: str | None) -> Sequence[Standing]:
        wanted = {name: value for name, value in (("place", place), ("label", label)) if value is not None}
        statement = text(
            _ALL.format(
                join="" if wanted else "LEFT",
                silenced=SILENCED,
                overdue=OVERDUE,
                places=" ".join(PLACES[name] for name in wanted),
            )
        )
        absent = absent_values(await self._context.services.get(Satellites).presence())["absent"]
        values: dict[str, Any] = {"absent": absent, **wanted}
        async with self._context.sessions() as session:
            found = [Standing(*row) for row in await session.execute(statement, values)]
        return sorted(found, key=lambda one: one.key)
