"""How long to wait before an event is tried again: exponential, with full jitter."""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST_SECONDS = 0.5
LONGEST_SECONDS = 300.0
_DOUBLINGS = 30

Jitter = Callable[[float, float], float]
"""Draws from an interval; `random.uniform` outside of tests."""


def pause(failures: int, *, jitter: Jitter = random.uniform) -> float:
    """Seconds to wait after the `failures`-th failure in a row (1, 2, …).

    Full jitter (anything from 0 to the bound), so that what failed together does not come back together.
    """
    bound = FIRST_SECONDS * 2 ** min(failures - 1, _DOUBLINGS)
    return jitter(0.0, min(bound, LONGEST_SECONDS))
