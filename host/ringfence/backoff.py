"""How long to wait before something is tried again: exponential, with full jitter. Pure.

Full jitter (anything from 0 to the bound), so that what failed together does not come back together.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

FIRST_SECONDS = 0.5
LONGEST_SECONDS = 300.0
_DOUBLINGS = 30

Jitter = Callable[[float, float], float]
"""Draws from an interval; `random.uniform` outside of tests."""


def bound(failures: int, *, first: float | None = None, longest: float | None = None) -> float:
    """The longest pause in seconds after the `failures`-th failure in a row (1, 2, …)."""
    first = FIRST_SECONDS if first is None else first
    return min(first * 2.0 ** min(failures - 1, _DOUBLINGS), LONGEST_SECONDS if longest is None else longest)


def pause(
    failures: int,
    *,
    first: float | None = None,
    longest: float | None = None,
    jitter: Jitter = random.uniform,
) -> float:
    """Seconds to wait after the `failures`-th failure in a row (1, 2, …)."""
    return jitter(0.0, bound(failures, first=first, longest=longest))


@dataclass(slots=True)
class Pauses:
    """The pauses of one who tries again and again, and starts over after a success."""

    first: float | None = None
    longest: float | None = None
    jitter: Jitter = random.uniform
    _failures: int = 0

    def after_failure(self) -> float:
        """Seconds to wait after one more failure."""
        self._failures += 1
        return pause(self._failures, first=self.first, longest=self.longest, jitter=self.jitter)

    def succeeded(self) -> None:
        """Have the next pause be a first one again."""
        self._failures = 0
