"""When something is due again and again: every so often ("5m"), or as cron has it ("0 3 * * *", in a zone). Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ringfence.jobs.job import JobError
from ringfence.scripts.schedule.cron import UTC, Cron
from ringfence.spans import WHAT, seconds_of

SHORTEST_SECONDS = 1.0
LONGEST_SECONDS = 366 * 24 * 3600.0


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
    try:
        seconds = seconds_of(schedule)
    except ValueError:
        pass
    else:
        if not SHORTEST_SECONDS <= seconds <= LONGEST_SECONDS:
            raise JobError(f"{schedule!r} is no interval from a second to a year")
        return Interval(seconds)
    try:
        return Clock(Cron(schedule.strip(), zone))
    except ValueError as error:
        raise JobError(f"{error}; or {WHAT}") from error
