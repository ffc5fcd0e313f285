"""Which places are expected to report on which checks, and how soon: written down beside the newest result of each.

It follows from the checks and from the satellites, and is brought up to date when either changes: at once where a
check is written, and by the leader for whatever else happens (see `stale_places`). Two that do so at once take turns,
so that the later one has seen what the earlier one saw, and none goes by a check that is no longer the newest.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from ringfence import PluginContext
from ringfence_satellite.service import KnownSatellite, Satellites
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_health_checks.definitions.checks import Check
from ringfence_health_checks.definitions.definition import CORE
from ringfence_health_checks.definitions.placed import Placed

CHECKS_AT_ONCE = 200
"""Checks in one transaction, when all are brought up to date."""
NOT_YET = "has not run yet"

SATELLITES_AT_ONCE = 100
"""Satellites after whose checks were looked up others on the event loop have their turn."""
_NEWEST = text("SELECT id, updated_at FROM health_checks_checks WHERE id = ANY(CAST(:ids AS uuid[]))")
_TAKE_TURNS = text("SELECT pg_advisory_xact_lock(hashtextextended('ringfence.health-checks.expected', 0))")
# Of the checks that are named, everywhere or on the satellites that are named: what is not wanted any more goes, or is
# no longer expected. From when on a result is awaited begins anew when that changes.
_WRITE = text("""
    WITH wanted AS MATERIALIZED (
        SELECT * FROM ROWS FROM (unnest(CAST(:checks_of AS uuid[]), CAST(:places AS text[]), CAST(:graces AS float8[]),
                                        CAST(:names AS text[])),
                                 jsonb_array_elements(CAST(:labels AS jsonb)))
               AS wanted (check_id, ran_on, grace_seconds, place_name, labels)
    ), unwanted AS MATERIALIZED (
        SELECT check_id, ran_on, executed_at FROM health_checks_latest AS latest
         WHERE check_id = ANY(CAST(:checks AS uuid[]))
           AND (CAST(:satellites AS text[]) IS NULL OR ran_on = ANY(CAST(:satellites AS text[])))
           AND placed_at IS NOT NULL
           AND NOT EXISTS (SELECT FROM wanted
                            WHERE wanted.check_id = latest.check_id AND wanted.ran_on = latest.ran_on)
    ), gone AS (
        DELETE FROM health_checks_latest AS latest USING unwanted
         WHERE latest.check_id = unwanted.check_id AND latest.ran_on = unwanted.ran_on
           AND latest.executed_at = '-infinity'
    ), kept AS (
        UPDATE health_checks_latest AS latest SET placed_at = NULL, grace_seconds = NULL FROM unwanted
         WHERE latest.check_id = unwanted.check_id AND latest.ran_on = unwanted.ran_on
           AND latest.executed_at <> '-infinity'
    )
    INSERT INTO health_checks_latest AS latest
           (check_id, ran_on, status, message, executed_at, placed_at, grace_seconds, place_name, place_labels)
    SELECT wanted.check_id, wanted.ran_on, 'unknown', :not_yet, '-infinity', clock_timestamp(), wanted.grace_seconds,
           wanted.place_name, ARRAY(SELECT jsonb_array_elements_text(wanted.labels))
      FROM wanted JOIN health_checks_checks AS checks ON checks.id = wanted.check_id
     ORDER BY wanted.check_id, wanted.ran_on
    ON CONFLICT (check_id, ran_on) DO UPDATE
       SET placed_at = CASE WHEN latest.grace_seconds IS DISTINCT FROM excluded.grace_seconds
                            THEN excluded.placed_at ELSE coalesce(latest.placed_at, excluded.placed_at) END,
           grace_seconds = excluded.grace_seconds, place_name = excluded.place_name,
           place_labels = excluded.place_labels
     WHERE latest.placed_at IS NULL
        OR (latest.grace_seconds, latest.place_name, latest.place_labels)
           IS DISTINCT FROM (excluded.grace_seconds, excluded.place_name, excluded.place_labels)
""")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a check runs: `CORE`, or a satellite by its id; with what silences and people know it by."""

    id: str
    name: str
    labels: Sequence[str] = ()


HERE = Place(CORE, CORE)


class Expectations:
    """Writes down what is expected."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        # One at a time holds a connection while it waits for its turn: what it reads needs another one.
        self._turn = asyncio.Lock()

    async def of_check(self, check: Check) -> None:
        """Bring up to date what is expected of one check. Raises what the database raises."""
        async with self._turn, self._context.sessions.begin() as session:
            await session.execute(_TAKE_TURNS)
            if not await _unchanged(session, [check]):
                return
            wanted = check.definition.runs_on
            satellites = await self._satellites().find(
                ids=wanted.satellites, tags=wanted.tags, selector=wanted.selector
            )
            places = [_place(one) for one in satellites if wanted.includes(one)]
            pairs = [(check, place) for place in [HERE] * wanted.core + places]
            await session.execute(_WRITE, _values(pairs, checks=[check.id]))

    async def of_satellites(self, ids: Collection[UUID], checks: Mapping[UUID, Check]) -> None:
        """Bring up to date what is expected of some satellites. Raises what the database raises."""
        async with self._turn, self._context.sessions.begin() as session:
            await session.execute(_TAKE_TURNS)
            unchanged = await _unchanged(session, checks.values())
            pairs = _pairs(await self._satellites().find(ids=ids, tags=()), unchanged)
            known, places = [check.id for check in unchanged], [str(id) for id in ids]
            await session.execute(_WRITE, _values(pairs, checks=known, satellites=places))

    async def of_all(self, checks: Mapping[UUID, Check]) -> None:
        """Bring all of it up to date. Raises what the database raises.

        Satellites are read once, before all turns: of one that changes meanwhile, whoever calls this hears afterwards.
        """
        places = await self._places(checks.values())
        every = list(checks.values())
        for some in (every[at : at + CHECKS_AT_ONCE] for at in range(0, len(every), CHECKS_AT_ONCE)):
            async with self._turn, self._context.sessions.begin() as session:
                await session.execute(_TAKE_TURNS)
                unchanged = await _unchanged(session, some)
                pairs = [
                    (check, place)
                    for check in unchanged
                    for place in [HERE] * check.definition.runs_on.core + places[check.id]
                ]
                await session.execute(_WRITE, _values(pairs, checks=[check.id for check in unchanged]))

    async def _places(self, checks: Iterable[Check]) -> Mapping[UUID, list[Place]]:
        """The satellites of each check, which of thousands are looked up in many steps."""
        placed = Placed(checks, also_disabled=True)
        found: defaultdict[UUID, list[Place]] = defaultdict(list)
        for number, satellite in enumerate(await self._satellites().find()):
            place = _place(satellite)
            for check in placed.on(satellite):
                found[check.id].append(place)
            if number % SATELLITES_AT_ONCE == 0:
                await asyncio.sleep(0)
        return found

    def _satellites(self) -> Satellites:
        return self._context.services.get(Satellites)


async def _unchanged(session: AsyncSession, checks: Collection[Check]) -> list[Check]:
    """Those of an instance's checks that are the newest; whoever hears of a newer one writes what is expected of it."""
    rows = await session.execute(_NEWEST, {"ids": [check.id for check in checks]})
    newest = {row.id: row.updated_at for row in rows}
    return [check for check in checks if newest.get(check.id) == check.updated_at]


def _pairs(satellites: Sequence[KnownSatellite], checks: Iterable[Check]) -> list[tuple[Check, Place]]:
    placed = Placed(checks, also_disabled=True)
    return [(check, _place(one)) for one in satellites for check in placed.on(one)]


def _place(satellite: KnownSatellite) -> Place:
    return Place(str(satellite.id), satellite.name, sorted(satellite.tags))


def _values(
    pairs: Sequence[tuple[Check, Place]],
    *,
    checks: Sequence[UUID],
    satellites: Sequence[str] | None = None,
) -> dict[str, object]:
    return {
        "checks": list(checks),
        "satellites": None if satellites is None else list(satellites),
        "checks_of": [check.id for check, _ in pairs],
        "places": [place.id for _, place in pairs],
        "graces": [check.definition.grace_seconds for check, _ in pairs],
        "names": [place.name for _, place in pairs],
        "labels": json.dumps([list(place.labels) for _, place in pairs]),
        "not_yet": NOT_YET,
    }
