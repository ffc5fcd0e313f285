"""When something is due again and again: every so often ("5m"), or as cron has it ("0 3 * * *", in a zone). Pure."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from ringfence.jobs.job import JobError
from ringfence.scripts.schedule.cron import UTC, Cron

SHORTEST_SECONDS = 1.0
LONGEST_SECONDS = 366 * 24 * 3600.0
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*(ms|[smhdw])")
_INTERVAL = re.compile(rf"(?:{_PART.pattern})+")


@dataclass(frozen=True, slots=True)
class Interval:
    """Every so many seconds, on a grid that begins when the timetable does."""

    seconds: float

    def next_after(self, now: float, due: float | None = None) -> float:
        """The first time after `now` on the grid that `due` is on. Seconds since 1970."""
        if due is None or due > now + self.seconds:
            return now + self.seconds
        following = due + max(1, math.floor((now - due) / self.seconds) + 1) * self.seconds
        return following if following > now else following + self.seconds


@dataclass(frozen=True, slots=True)
class Clock:
    """Times of the clock on the wall of a zone."""

    cron: Cron

    def next_after(self, now: float, due: float | None = None) -> float:
        """The first time after `now`. Seconds since 1970."""
        del due
        return self.cron.next_after(now)


Schedule = Interval | Clock


def parse(schedule: str, zone: str = UTC) -> Schedule:
    """What is meant by "5m" or "1h30m", or by "0 3 * * *" in a zone. Raises `JobError`."""
    if _INTERVAL.fullmatch(schedule.strip()) is not None:
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(schedule))
        if not SHORTEST_SECONDS <= seconds <= LONGEST_SECONDS:
            raise JobError(f"{schedule!r} is no interval from a second to a year")
        return Interval(seconds)
    try:
        return Clock(Cron(schedule.strip(), zone))
    except ValueError as error:
        raise JobError(f"{error}; or an interval such as 30s, 5m, 1h or 1d") from error
