"""How many results a place may report of a check, as follows from the check's schedule. Pure.

Threat: a satellite that was taken over sends results of an hourly check as fast as it can, and fills everybody's disk.
Mechanism: each place has, for each check, twice as many results as its schedule makes, and beside them those of a week
in which it could not report. What is beyond that is refused, as what a satellite has no business with. Not covered:
false results within the schedule.
"""

from __future__ import annotations

from collections import OrderedDict
from uuid import UUID

from ringfence.token_bucket import TokenBucket

BACKLOG_SECONDS = 7 * 24 * 3600.0
SPARE = 50.0
"""Results that somebody asked for by hand, and first ones after a change."""
MOST_REMEMBERED = 100_000
"""Places and checks of which an instance remembers what they have used; the longest silent are forgotten."""


class Quotas:
    """What is left for each check in each place, as this instance has seen it. Times are of a steady clock."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[tuple[UUID, UUID], tuple[float, TokenBucket]] = OrderedDict()

    def allows(self, check: UUID, place: UUID, interval_seconds: float, now: float) -> bool:
        """Note a result; whether it is within the quota."""
        key = check, place
        known = self._buckets.get(key)
        if known is None or known[0] != interval_seconds:
            burst = SPARE + BACKLOG_SECONDS / interval_seconds
            known = self._buckets[key] = (interval_seconds, TokenBucket(burst, 2 / interval_seconds, now))
        self._buckets.move_to_end(key)
        while len(self._buckets) > MOST_REMEMBERED:
            self._buckets.popitem(last=False)
        return known[1].take(now)
