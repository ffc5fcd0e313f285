"""The list of satellites as people look through it: searched, filtered, sorted, and read page by page.

Each order has an index that leads to any place in it, so that a page late in the list costs as much as the first. A
search by a part of a name looks at every satellite that the page before has not shown.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ringfence.web import cursor, not_a_cursor, parts_of
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_satellite.server.rollout import HAS_IT
from ringfence_satellite.server.satellites import COLUMNS, STATUS, WITHIN_REACH, Satellite, reach_wire


class Sort(enum.StrEnum):
    """What the list is sorted by."""

    NAME = "name"
    STATE = "state"
    SEEN = "seen"
    REVISION = "revision"


class Only(enum.StrEnum):
    """Which satellites are listed: those in a state, or those that need somebody's attention."""

    ONLINE = "online"
    OFFLINE = "offline"
    NEVER = "never"
    BEHIND = "behind"
    LACKING = "lacking"
    REFUSED = "refused"


REFUSED_WITHIN = "refused_at > now() - interval '1 hour'"
"""The SQL expression for whether an agent was refused as this satellite lately, and none has been let in since."""
_IS = {
    Only.ONLINE: f"{STATUS} = 'online'",
    Only.OFFLINE: f"{STATUS} = 'offline'",
    Only.NEVER: "last_heartbeat_at IS NULL",
    # Where none is online, none lags: it has the policy as soon as it comes back.
    Only.BEHIND: f"{STATUS} = 'online' AND NOT {HAS_IT}",
    Only.LACKING: f"{STATUS} = 'online' AND downgrades <> '[]'",
    Only.REFUSED: f"{REFUSED_WITHIN} AND refused_at > coalesce(connected_at, '-infinity')",
}
# The keys are what the indexes of the migration 0009 have, to the letter.
_KEYS = {
    Sort.NAME: ("name", "text"),
    Sort.STATE: ("silent_at", "double precision"),
    Sort.SEEN: ("coalesce(last_heartbeat_at, '-infinity'::timestamptz)", "timestamptz"),
    Sort.REVISION: ("coalesce(applied_revision, -1)", "bigint"),
}
_SEARCH = """
    (strpos(lower(name), :q) > 0 OR strpos(lower(region), :q) > 0
     OR EXISTS (SELECT FROM unnest(carried) AS label WHERE strpos(lower(label), :q) > 0))
"""


@dataclass(frozen=True, slots=True)
class Listed:
    """A satellite in the list, with the cursor that leads to what comes after it, and when an agent was refused."""

    satellite: Satellite
    cursor: str
    refused: bool


def statement(
    sort: Sort, *, descending: bool, searches: bool, only: Only | None, within: bool, goes_on: bool
) -> str:
    """The query, made of the parts that are asked for alone, so that each is served by its index."""
    key, type = _KEYS[sort]
    keys = [key] if sort is Sort.NAME else [key, "name"]
    way = "DESC" if descending else "ASC"
    conditions = ["true"]
    if goes_on:
        given = [f"CAST(CAST(:key AS text) AS {type})", "CAST(:name AS text)"][: len(keys)]
        conditions.append(f"({', '.join(keys)}) {'<' if descending else '>'} ({', '.join(given)})")
    if searches:
        conditions.append(_SEARCH)
    if only is not None:
        conditions.append(_IS[only])
    if within:
        conditions.append(WITHIN_REACH)
    return f"""
        SELECT {COLUMNS}, CAST({key} AS text) AS key, coalesce({_IS[Only.REFUSED]}, false) AS refused
          FROM satellite_satellites WHERE {" AND ".join(conditions)}
         ORDER BY {", ".join(f"{one} {way}" for one in keys)} LIMIT :limit
    """  # noqa: S608


async def look_through(
    session: AsyncSession,
    *,
    sort: Sort = Sort.NAME,
    descending: bool = False,
    search: str = "",
    only: Only | None = None,
    revision: int,
    reach: Collection[Collection[str]] | None,
    after: str | None,
    limit: int,
) -> list[Listed]:
    """The satellites that match, at most `limit`, from after a cursor. `revision` is the policy's.

    Raises `Problem` for a cursor that is none of this order.
    """
    key, name = (None, None) if after is None else place(sort, after)
    query = statement(
        sort,
        descending=descending,
        searches=bool(search),
        only=only,
        within=reach is not None,
        goes_on=after is not None,
    )
    values = {"q": search.lower(), "revision": revision, "reach": reach_wire(reach), "key": key, "name": name}
    rows = await session.execute(
        text(query), {**{one: value for one, value in values.items() if f":{one}" in query}, "limit": limit}
    )
    return [_listed(sort, row) for row in rows]


def _listed(sort: Sort, row: Any) -> Listed:
    *columns, key, refused = row
    satellite = Satellite(*columns)
    return Listed(satellite, cursor(sort, key, satellite.name), refused)


def place(sort: Sort, after: str) -> tuple[str, str]:
    """The key and the name in a cursor. What cannot be a key never comes to the database."""
    of, key, name = parts_of(after, 3)
    try:
        match sort:
            case Sort.STATE:
                key = repr(float(key))
            case Sort.REVISION:
                key = str(int(key))
                if not -2 < int(key) < 2**63:
                    raise not_a_cursor()
            case Sort.SEEN if key != "-infinity":
                key = dt.datetime.fromisoformat(key).isoformat()
    except ValueError as error:
        raise not_a_cursor() from error
    if of != sort:
        raise not_a_cursor()
    return key, name


_PACKAGES = text("""
    SELECT satellite_id, count(*) AS sets, count(*) FILTER (WHERE state = 'ready') AS ready,
           count(*) FILTER (WHERE state = 'error') AS failed
      FROM satellite_packages WHERE satellite_id = ANY(CAST(:ids AS uuid[])) GROUP BY satellite_id
""")
_PACKAGES_OF = text("""
    SELECT set_name, state, have, wanted, error, reported_at FROM satellite_packages
     WHERE satellite_id = :id ORDER BY set_name LIMIT 500
""")


@dataclass(frozen=True, slots=True)
class Sets:
    """How many sets of packages a satellite is to have, how many it has, and at how many it failed."""

    sets: int
    ready: int
    failed: int


async def packages(session: AsyncSession, ids: Sequence[UUID]) -> dict[UUID, Sets]:
    """How far these satellites are with their packages; those that are to have none are not there."""
    rows = await session.execute(_PACKAGES, {"ids": list(ids)})
    return {row.satellite_id: Sets(row.sets, row.ready, row.failed) for row in rows}


async def packages_of(session: AsyncSession, id: UUID) -> list[dict[str, Any]]:
    """The sets of one satellite, each with its state."""
    return [row._asdict() for row in await session.execute(_PACKAGES_OF, {"id": id})]


_STANDING = text(f"""
    SELECT count(*) FILTER (WHERE status = 'online') AS online,
           count(*) FILTER (WHERE status = 'offline') AS offline,
           count(*) FILTER (WHERE status = 'online' AND NOT {HAS_IT}) AS behind,
           count(*) FILTER (WHERE status = 'online' AND downgrades <> '[]') AS lacking,
           count(*) FILTER (WHERE refused) AS refused,
           count(*) AS every
      FROM (SELECT {STATUS} AS status, {_IS[Only.REFUSED]} AS refused, applied_revision, applied_unknown, downgrades
              FROM satellite_satellites WHERE {WITHIN_REACH}) AS fleet
""")  # noqa: S608


@dataclass(frozen=True, slots=True)
class Standing:
    """How many satellites are as they should be, and how many are not."""

    online: int
    offline: int
    behind: int
    lacking: int
    refused: int
    every: int


async def standing(
    session: AsyncSession, revision: int, *, reach: Collection[Collection[str]] | None
) -> Standing:
    """How the satellites within the reach stand, in one look at the table."""
    row = (await session.execute(_STANDING, {"revision": revision, "reach": reach_wire(reach)})).one()
    return Standing(*row)


_LOST_LATELY = text(f"""
    SELECT floor(extract(epoch FROM now() - lost_heartbeat_at) / 300)::int AS ago, count(*) AS number
      FROM satellite_satellites
     WHERE lost_heartbeat_at > now() - interval '1 hour' AND {WITHIN_REACH} GROUP BY 1
""")  # noqa: S608


async def lost_lately(session: AsyncSession, *, reach: Collection[Collection[str]] | None) -> list[int]:
    """How many fell silent in each five minutes of the last hour, the oldest first; one that did twice counts once."""
    rows = await session.execute(_LOST_LATELY, {"reach": reach_wire(reach)})
    found = {int(ago): int(number) for ago, number in rows}
    return [found.get(ago, 0) for ago in range(11, -1, -1)]
