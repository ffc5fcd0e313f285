"""The table of where checks connect to: counted in the statement that stores a result, read by its sums.

Threat: a script that tries another destination in each run fills the table. Mechanism: a place has so many rows of each
check, and no more; a destination that nobody has tried for as long as results are kept is forgotten. Not covered: while
a check's rows are all taken, what it tries anew is not counted; its results still tell of it.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from ringfence import PluginContext
from ringfence.bounded import cleaned
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_health_checks.destinations.tried import Count, Destination, Tried

MOST_OF_PLACE = 200
"""How many rows of a check one place may have; a run that brings new ones may go beyond it, once."""
MOST_READ = 20_000
"""How many destinations are read at once, those that were tried last."""

# A part of the statement that stores a result, after `stored`: a result that is there already is not counted again.
COUNTED = f"""
    counted AS (
        INSERT INTO health_checks_destinations AS known
            (check_id, ran_on, outcome, protocol, host, port, tries, runs, first_at, last_at)
        SELECT stored.check_id, stored.ran_on, told.outcome, told.protocol, told.host, told.port, told.tries, 1,
               stored.executed_at, stored.executed_at
          FROM stored, jsonb_to_recordset(CAST(:destinations AS jsonb))
               AS told(outcome text, protocol text, host text, port integer, tries bigint)
         WHERE (SELECT count(*) FROM health_checks_destinations AS had
                 WHERE had.check_id = stored.check_id AND had.ran_on = stored.ran_on) < {MOST_OF_PLACE}
            OR EXISTS (SELECT FROM health_checks_destinations AS same
                        WHERE (same.check_id, same.ran_on, same.outcome, same.protocol, same.host, same.port)
                            = (stored.check_id, stored.ran_on, told.outcome, told.protocol, told.host, told.port))
        ON CONFLICT (check_id, ran_on, outcome, protocol, host, port) DO UPDATE
           SET tries = least(known.tries + excluded.tries, 9007199254740991), runs = known.runs + 1,
               first_at = least(known.first_at, excluded.first_at),
               last_at = greatest(known.last_at, excluded.last_at)
    )
"""  # noqa: S608
_FORGET_PLACE = text("DELETE FROM health_checks_destinations WHERE ran_on = :ran_on")
_FORGET_OLD = text(
    "DELETE FROM health_checks_destinations WHERE last_at < now() - make_interval(secs => :seconds)"
)
_READ = text("""
    SELECT checks.id, checks.name, counted.outcome, counted.protocol, counted.host, counted.port,
           least(sum(counted.tries), 9007199254740991)::bigint, least(sum(counted.runs), 9007199254740991)::bigint,
           count(*), max(counted.last_at) AS newest
      FROM health_checks_destinations AS counted JOIN health_checks_checks AS checks ON checks.id = counted.check_id
     WHERE counted.last_at >= :since AND (CAST(:check_id AS uuid) IS NULL OR counted.check_id = :check_id)
       AND (CAST(:outcome AS text) IS NULL OR counted.outcome = :outcome)
     GROUP BY checks.id, counted.outcome, counted.protocol, counted.host, counted.port
     ORDER BY newest DESC LIMIT :most
""")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a check has tried in all of its places: how often, in how many runs and places, and when last."""

    check_id: UUID
    check: str
    destination: Destination
    tries: int
    runs: int
    places: int
    last_at: dt.datetime


def counted(told: Sequence[Count]) -> str:
    """What a run tried, as the statement that stores its result takes it."""
    return json.dumps(
        [
            {
                "outcome": one.destination.outcome.value,
                "protocol": one.destination.protocol,
                "host": cleaned(one.destination.host),
                "port": one.destination.port,
                "tries": one.times,
            }
            for one in told
        ]
    )


class Destinations:
    """The table, for those who read it."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context

    async def tried(
        self, *, since: dt.datetime, check_id: UUID | None = None, outcome: Tried | None = None
    ) -> list[Wish]:
        """What was tried since then, the last first; of all checks unless one is named."""
        values = {
            "since": since,
            "check_id": check_id,
            "outcome": None if outcome is None else outcome.value,
            "most": MOST_READ,
        }
        async with self._context.sessions() as session:
            rows = await session.execute(_READ, values)
            return [
                Wish(row[0], row[1], Destination(Tried(row[2]), row[3], row[4], row[5]), *row[6:])
                for row in rows
            ]


async def forget_place(session: AsyncSession, ran_on: str) -> None:
    """A satellite is gone."""
    await session.execute(_FORGET_PLACE, {"ran_on": ran_on})


async def forget_old(session: AsyncSession, *, keep_seconds: float) -> None:
    """Forget what nobody has tried for so long."""
    await session.execute(_FORGET_OLD, {"seconds": keep_seconds})
