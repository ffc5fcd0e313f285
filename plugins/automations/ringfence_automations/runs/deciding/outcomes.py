"""What looking at a step, or at several, comes to while a run's plan is walked. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias


class UnderWay:
    """Something is not over."""


class Done:
    """It is over, and what comes after it may begin."""


@dataclass(frozen=True, slots=True)
class Failed:
    """It is over, and what comes after it must not begin."""

    message: str


Came: TypeAlias = UnderWay | Done | Failed
UNDER_WAY = UnderWay()
DONE = Done()


def together(outcomes: Sequence[Came]) -> Came:
    """What several things come to that are done at the same time: one that has failed is enough."""
    failed = next((one for one in outcomes if isinstance(one, Failed)), None)
    if failed is not None:
        return failed
    return UNDER_WAY if any(one is UNDER_WAY for one in outcomes) else DONE
