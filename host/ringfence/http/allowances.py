"""How often each of many may ask: for routes that anybody can reach who knows an address."""

from __future__ import annotations

import math
from collections import OrderedDict

from ringfence.http.problems import Problem
from ringfence.token_bucket import TokenBucket

MOST_REMEMBERED = 10_000


class Allowances:
    """How fast each may go: `burst` at once, and then so many a second. Each instance counts for itself.

    Those that were not heard of for longest are forgotten.
    """

    def __init__(self, burst: float, per_second: float) -> None:
        self._burst, self._per_second = burst, per_second
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def check(self, who: str, now: float) -> None:
        """Raise `Problem` (429) while they have to wait. `now` is of any one steady clock, in seconds."""
        bucket = self._buckets.get(who)
        if bucket is not None and (seconds := bucket.wait_seconds(now)) > 0:
            again = {"Retry-After": str(math.ceil(seconds))}
            raise Problem(429, detail="too many requests: try again later", headers=again)

    def take(self, who: str, now: float) -> None:
        """Note that somebody has gone on."""
        bucket = self._buckets.setdefault(who, TokenBucket(self._burst, self._per_second, now))
        self._buckets.move_to_end(who)
        while len(self._buckets) > MOST_REMEMBERED:
            self._buckets.popitem(last=False)
        bucket.take(now)
