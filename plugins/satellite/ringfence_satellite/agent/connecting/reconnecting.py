"""How long to wait before connecting again, by how the last connection went."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from ringfence.backoff import bound

FIRST_SECONDS = 0.5
LONGEST_SECONDS = 30.0
STABLE_SECONDS = 30.0
"""A connection that lasted this long was a good one: the next pause is a first one again."""
REFUSED_SECONDS = 15.0
"""The shortest "longest pause" after the host has refused who we are: only a human can change that."""


@dataclass(slots=True)
class Backoff:
    """The pauses of one agent. `draw(low, high)` is the dice, by default a uniform one."""

    draw: Callable[[float, float], float] = random.uniform
    _failures: int = 0

    def pause(self, *, lasted_seconds: float, refused: bool = False) -> float:
        """Seconds to wait after a connection (or an attempt at one) that lasted `lasted_seconds`."""
        self._failures = 0 if lasted_seconds >= STABLE_SECONDS else self._failures + 1
        longest = bound(self._failures + 1, first=FIRST_SECONDS, longest=LONGEST_SECONDS)
        if refused:
            return self.draw(FIRST_SECONDS, max(longest, REFUSED_SECONDS))
        return self.draw(0.0, longest)
