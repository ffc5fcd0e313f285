"""The leader's look at what has not come: places that have gone stale, or are heard of again, once for the fleet.

Threat: what is silent is not the satellite or the check. The database was away, the fleet was down, or another instance
has just taken over the core's checks; an alarm for everything would be false. Mechanism: a place is told to be stale
only once this instance has led, and the fleet could hear satellites without a break, for as long as a result may take
to come, or for `HEARING_SECONDS`; or once the satellite plugin has concluded that its satellite is offline. All by the
database's clock. Not covered: a check whose results take longer than that to come after an outage.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Mapping
from uuid import UUID

import structlog
from ringfence import PluginContext
from ringfence.redaction import describe
from ringfence_satellite.service import Satellites
from sqlalchemy import TextClause, text
from sqlalchemy.exc import SQLAlchemyError

from ringfence_health_checks.definitions.checks_copy import ChecksCopy
from ringfence_health_checks.silences.silences import Silences
from ringfence_health_checks.states.current_states import IS_ABSENT, OVERDUE, absent_values, why
from ringfence_health_checks.states.expected_places import Expectations
from ringfence_health_checks.states.settled_states import News, Row, settle

LOOK_SECONDS = 2.0
SHARE = 20
"""A look that takes long is followed by a pause of so many times as long."""
HEARING_SECONDS = 600.0
WHOLE_SECONDS = 600.0
"""How often all that is expected is brought up to date, whatever was heard of."""
BATCH = 200

_NOW = text("SELECT clock_timestamp()")
_IS_GONE = IS_ABSENT.replace(":absent", ":gone")
_ROW = f"""
    SELECT latest.check_id, latest.ran_on, latest.place_name, latest.place_labels, latest.settling, latest.message,
           latest.executed_at <> '-infinity' AS has_run, clock_timestamp() AS now,
           latest.ran_on {_IS_GONE} AS is_away
      FROM health_checks_latest AS latest
     WHERE latest.grace_seconds IS NOT NULL
"""  # noqa: S608
_STALE = text(f"""{_ROW}
       AND NOT coalesce(CAST(latest.settling ->> 'stale' AS boolean), false)
       AND (latest.ran_on {_IS_GONE}
            OR ({OVERDUE} < least(:heard_until, clock_timestamp())
                AND :steady_since + make_interval(secs => least(latest.grace_seconds, :hearing))
                    < least(:heard_until, clock_timestamp())))
     LIMIT :limit FOR NO KEY UPDATE OF latest SKIP LOCKED
""")
_BACK = text(f"""{_ROW}
       AND CAST(latest.settling ->> 'stale' AS boolean)
       AND latest.ran_on NOT {IS_ABSENT}
       AND latest.executed_at + make_interval(secs => latest.grace_seconds) > clock_timestamp()
     LIMIT :limit FOR NO KEY UPDATE OF latest SKIP LOCKED
""")
_log = structlog.get_logger("ringfence.health_checks")


class Watch:
    """What the leader does for it, and what it has heard of that concerns what is expected."""

    def __init__(
        self,
        context: PluginContext,
        checks_copy: ChecksCopy,
        expectations: Expectations,
        silences: Silences,
        *,
        keep_seconds: float,
    ) -> None:
        """`keep_seconds`: for how long silences are kept after their end."""
        self._context = context
        self._checks_copy = checks_copy
        self._expectations = expectations
        self._silences = silences
        self._keep_seconds = keep_seconds
        self._checks: set[UUID] = set()
        self._satellites: set[UUID] = set()
        self._heard = asyncio.Event()

    def check_changed(self, id: UUID) -> None:
        """A check is another, or new. What is expected of it is brought up to date, if this instance leads."""
        self._checks.add(id)
        self._heard.set()

    def satellite_changed(self, id: UUID) -> None:
        """A satellite is another, or new. What is expected of it is brought up to date, if this instance leads."""
        self._satellites.add(id)
        self._heard.set()

    async def lead(self) -> None:
        """Look again and again, until cancelled. A database that fails is waited for, and noted as a break."""
        led_since: dt.datetime | None = None
        whole_at = float("-inf")
        while True:
            began = time.monotonic()
            try:
                if led_since is None:
                    led_since = await self._now()
                if began - whole_at > WHOLE_SECONDS:
                    self._checks.clear()
                    self._satellites.clear()
                    await self._expectations.of_all(await self._checks_copy.current())
                    await self._silences.thin(keep_seconds=self._keep_seconds)
                    whole_at = began
                await self._follow()
                await self.look(led_since)
            except (SQLAlchemyError, OSError) as error:
                _log.warning("cannot look for checks that are overdue", error=describe(error))
                led_since, whole_at = None, float("-inf")
            took = time.monotonic() - began
            self._heard.clear()
            if not (self._checks or self._satellites):
                await self._wait(max(LOOK_SECONDS, SHARE * took))

    async def look(self, led_since: dt.datetime) -> None:
        """Tell of every place that has gone stale or is heard of again. Raises what the database raises."""
        presence = await self._context.services.get(Satellites).presence()
        values = {
            "absent": absent_values(presence.absent)["absent"],
            "gone": absent_values([one for one in presence.absent if one.concluded])["absent"],
            "heard_until": presence.heard_until,
            "steady_since": max(presence.steady_since, led_since),
            "hearing": HEARING_SECONDS,
            "limit": BATCH,
        }
        for statement in (_STALE, _BACK):
            while await self._move(statement, values):
                pass

    async def _move(self, statement: TextClause, values: Mapping[str, object]) -> bool:
        """Move some; whether there may be more."""
        async with self._context.sessions.begin() as session:
            rows = (await session.execute(statement, values)).all()
            news = [
                News(
                    Row(row.check_id, row.ran_on, row.place_name, row.place_labels, row.settling),
                    row.now,
                    why("offline" if row.is_away else "overdue", row.has_run)
                    if statement is _STALE
                    else row.message,
                    is_gone=statement is _STALE,
                )
                for row in rows
            ]
            moved = await settle(self._context, session, news)
        return moved > 0 and len(rows) == BATCH

    async def _follow(self) -> None:
        checks, self._checks = self._checks, set()
        satellites, self._satellites = self._satellites, set()
        if not (checks or satellites):
            return
        try:
            current = await self._checks_copy.current()
            for id in checks & current.keys():
                await self._expectations.of_check(current[id])
            if satellites:
                await self._expectations.of_satellites(satellites, current)
        except BaseException:
            self._checks |= checks
            self._satellites |= satellites
            raise

    async def _now(self) -> dt.datetime:
        async with self._context.sessions() as session:
            now: dt.datetime = (await session.execute(_NOW)).scalar_one()
        return now

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._heard.wait()
        except TimeoutError:
            return
