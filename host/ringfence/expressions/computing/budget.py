"""What evaluating an expression may cost: steps are counted, and each look at a long text is many steps.

Threat: somebody writes an expression that holds up the host, or fills its memory: lists within lists within lists, a
text that is added to itself. Mechanism: every node that is evaluated, every element that is looked at and every few
characters that are read or made cost a step, before that is done; when they are used up, evaluation ends. A second
bound is this thread's own time on the processor. Not covered: the size of the values that are given, which whoever
gives them bounds.
"""

from __future__ import annotations

import time

from ringfence.expressions.errors import LimitError

MAX_STEPS = 100_000
MAX_SECONDS = 1.0
"""Of this thread's time on the processor: what a hundred thousand steps never take, even on a slow machine."""
TEXT_PER_STEP = 64
"""How many characters are a step."""
_LOOK_AFTER = 1000


class Budget:
    """What is left of it."""

    __slots__ = ("_left", "_look_at", "_until")

    def __init__(self, steps: int = MAX_STEPS, seconds: float = MAX_SECONDS) -> None:
        self._left = steps
        self._look_at = steps - _LOOK_AFTER
        self._until = time.thread_time() + seconds

    def spend(self, steps: int) -> None:
        """Take so many steps. Raises `LimitError` when there are not as many left."""
        self._left -= steps
        if self._left < self._look_at:
            self._look()

    def spend_text(self, characters: int) -> None:
        """Take the steps of so many characters, and one. Raises `LimitError`."""
        self.spend(1 + characters // TEXT_PER_STEP)

    def _look(self) -> None:
        if self._left < 0:
            raise LimitError("the expression takes too many steps")
        if time.thread_time() > self._until:
            raise LimitError("the expression takes too long")
        self._look_at = self._left - _LOOK_AFTER
