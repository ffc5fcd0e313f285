"""How long to wait before connecting again: exponential, with full jitter, so that a fleet does not return
in step.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

FIRST_SECONDS = 0.5
LONGEST_SECONDS = 30.0
STABLE_SECONDS = 30.0
"""A connection that lasted this long was a good one: the next pause is a first one again."""
REFUSED_SECONDS = 15.0
"""The shortest "longest pause" after the core has refused who we are: only a human can change that."""


@dataclass(slots=True)
class Backoff:
    """The pauses of one agent. `draw(low, high)` is the dice, by default a uniform one."""

    draw: Callable[[float, float], float] = random.uniform
    _failures: int = 0

    def pause(self, *, lasted_seconds: float, refused: bool = False) -> float:
        """Seconds to wait after a connection (or an attempt at one) that lasted `lasted_seconds`."""
        self._failures = 0 if lasted_seconds >= STABLE_SECONDS else self._failures + 1
        # Past 2**16 the cap has long been reached; without a bound the power would grow for ever.
        longest = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(self._failures, 16))
        if refused:
            return self.draw(FIRST_SECONDS, max(longest, REFUSED_SECONDS))
        return self.draw(0.0, longest)
