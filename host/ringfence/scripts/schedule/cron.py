"""Times of the clock at which something is due, as cron has them, in a time zone. Pure.

What an expression means, also when clocks are put forward or back, is the library's business (`cronsim`, which does as
Debian's cron does): a time that a day does not have comes as soon as the clock is past it, and a fixed time that a day
has twice comes once. An expression has five fields; one with seconds is refused.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

FIELDS = 5
MAX_LENGTH = 200
UTC = "UTC"
_YEAR = dt.timedelta(days=366)
_LEAP_YEARS = dt.timedelta(days=366 * 9)
"""A 29th of February comes within this time twice."""
_CLOCKS_CHANGE = 3600.0


@dataclass(frozen=True)
class Cron:
    """An expression and the name of a time zone. Raises `ValueError` for what is none, or never comes."""

    expression: str
    timezone: str = UTC

    def __post_init__(self) -> None:
        if len(self.expression) > MAX_LENGTH or len(self.expression.split()) != FIELDS:
            raise ValueError(
                f"{self.expression[:MAX_LENGTH]!r} is no schedule: write minute, hour, day of month, month and day of "
                "week, such as '*/5 8-18 * * MON-FRI'"
            )
        try:
            zone = self._zone
        except (ValueError, OSError, KeyError) as error:  # `ZoneInfoNotFoundError` is a `KeyError`
            raise ValueError(self._no_zone) from error
        try:
            next(CronSim(self.expression, dt.datetime(2026, 1, 1, tzinfo=zone)))
        except (CronSimError, ValueError, OverflowError) as error:
            raise ValueError(f"{self.expression!r} is no schedule: {error}") from error
        except StopIteration:
            raise ValueError(f"{self.expression!r} never comes") from None

    def next_after(self, moment: float) -> float:
        """The first time after a moment. Both are seconds since 1970."""
        begin = dt.datetime.fromtimestamp(moment, self._zone)
        found = next(CronSim(self.expression, begin)).timestamp()
        while (
            found <= moment
        ):  # where a time that there is twice comes in its first hour, as seen from its second
            begin += dt.timedelta(hours=1)
            found = next(CronSim(self.expression, begin)).timestamp()
        return found

    @property
    def longest_gap_seconds(self) -> float:
        """The longest time from one time to the next; with a spare hour where clocks may change."""
        return _gaps(self.expression)[1] + (0.0 if self.timezone == UTC else _CLOCKS_CHANGE)

    @property
    def shortest_gap_seconds(self) -> float:
        """The shortest time from one time to the next, but for where clocks change."""
        return _gaps(self.expression)[0]

    @cached_property
    def _zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @property
    def _no_zone(self) -> str:
        return (
            f"there is no time zone {self.timezone[:MAX_LENGTH]!r}: write one such as Europe/Berlin, or UTC"
        )


@lru_cache(maxsize=4096)
def _gaps(expression: str) -> tuple[float, float]:
    """The shortest and the longest gap, by the days on which it comes, whose times are all alike."""
    cron = CronSim(expression, dt.datetime(2026, 1, 1))
    minutes = sorted(60 * hour + minute for hour in cron.hours for minute in cron.minutes)
    gaps = {later - earlier for earlier, later in pairwise(minutes)}
    first = day = dt.date(2026, 1, 1)
    before: dt.date | None = None
    count = 0
    while day - first < _YEAR or (count < 2 and day - first < _LEAP_YEARS):
        if day.month in cron.months and cron.match_day(day):
            if before is not None:
                gaps.add((day - before).days * 1440 - minutes[-1] + minutes[0])
            before, count = day, count + 1
        day += dt.timedelta(days=1)
    if count < 2:
        gaps.add(_LEAP_YEARS // dt.timedelta(minutes=1))
    return min(gaps) * 60.0, max(gaps) * 60.0
