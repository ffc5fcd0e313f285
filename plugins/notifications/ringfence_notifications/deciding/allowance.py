"""How many messages a channel may still have: never more than so many within any hour."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, replace

_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left at `at` of `per_hour` messages.

    Half of them may be sent at once; the other half comes back evenly over an hour. So any hour has at most all of
    them, and after a flood there is room for a summary soon. A quarter of the first half is for what is critical.
    """

    per_hour: int
    left: float
    at: dt.datetime

    @classmethod
    def full(cls, per_hour: int, at: dt.datetime) -> Allowance:
        """One of which nothing was used. `per_hour` is 2 or more."""
        return cls(per_hour, float(_burst(per_hour)), at)

    @property
    def reserve(self) -> int:
        """How many of them only what is critical may use."""
        return _burst(self.per_hour) // 4

    def now(self, now: dt.datetime) -> Allowance:
        """The same allowance at a later time. A clock that was set back gives nothing back."""
        passed = max(0.0, (now - self.at).total_seconds())
        return replace(
            self,
            left=min(float(_burst(self.per_hour)), self.left + passed * self._per_second),
            at=max(now, self.at),
        )

    def limited_to(self, per_hour: int) -> Allowance:
        """The same with another limit."""
        return replace(self, per_hour=per_hour, left=min(self.left, float(_burst(per_hour))))

    @property
    def messages(self) -> int:
        """How many messages may be sent now."""
        return math.floor(self.left)

    def used(self, messages: int) -> Allowance:
        """What is left after so many were sent."""
        return replace(self, left=self.left - messages)

    def when(self, messages: int) -> dt.datetime:
        """When so many may be sent, if none is sent until then."""
        missing = max(0.0, messages - self.left)
        # A little later, so that what is back by then is not found to lack the last digit of a fraction.
        return self.at + dt.timedelta(seconds=missing / self._per_second + (0.01 if missing else 0.0))

    @property
    def _per_second(self) -> float:
        return (self.per_hour - _burst(self.per_hour)) / _HOUR


def _burst(per_hour: int) -> int:
    return per_hour // 2
