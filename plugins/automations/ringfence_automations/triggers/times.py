"""The times of a timetable: as a job's schedule, and those that have passed meanwhile. Pure."""

from __future__ import annotations

import math
from typing import NamedTuple

from ringfence.spans import span_of

from ringfence_automations.definitions.trigger import UTC, Trigger

MOST_COUNTED = 1000
"""So many times that were missed are counted at most."""


class Schedule(NamedTuple):
    """When a timetable's job is due: an interval, or times of the clock in a zone."""

    when: str
    zone: str


def schedule_of(trigger: Trigger) -> Schedule | None:
    """When the trigger starts its automation; None if it does not go by the clock."""
    if trigger.every is not None:
        return Schedule(span_of(trigger.every), UTC)
    if trigger.cron is not None:
        return Schedule(trigger.cron, trigger.zone or UTC)
    return None


def missed(trigger: Trigger, due: float, now: float) -> int:
    """How many more times there were after `due`, up to `now`, for which nothing is started. Seconds since 1970."""
    if trigger.every is not None:
        return max(0, min(MOST_COUNTED, math.floor((now - due) / trigger.every)))
    times, count = trigger.times, 0
    while times is not None and count < MOST_COUNTED and (due := times.next_after(due)) <= now:
        count += 1
    return count
