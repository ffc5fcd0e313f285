"""How fast somebody may go: a token bucket. Pure: whoever asks says what time it is."""

from __future__ import annotations


class TokenBucket:
    """Holds at most `burst` tokens, and gets `per_second` of them back. Times are seconds of any one steady clock."""

    __slots__ = ("_at", "_burst", "_left", "_per_second")

    def __init__(self, burst: float, per_second: float, now: float) -> None:
        """A full one."""
        self._burst, self._per_second = burst, per_second
        self._left, self._at = burst, now

    def take(self, now: float, tokens: float = 1.0) -> bool:
        """Take tokens; whether they were there. They are owed if not: who goes on regardless waits the longer."""
        self._refill(now)
        self._left -= tokens
        return self._left >= 0

    def wait_seconds(self, now: float) -> float:
        """How long it takes until there is a token; 0 if there is one."""
        self._refill(now)
        return max(0.0, (1.0 - self._left) / self._per_second)

    def owed_seconds(self, now: float) -> float:
        """How long it takes until what was taken without being there is back; 0 if nothing is owed."""
        self._refill(now)
        return max(0.0, -self._left / self._per_second)

    def pace(self, per_second: float, now: float) -> None:
        """From now on, get so many tokens back."""
        self._refill(now)
        self._per_second = per_second

    def _refill(self, now: float) -> None:
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now
