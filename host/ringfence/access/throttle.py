"""Who tries to sign in: those who fail too often are made to wait, and what is worth a record is found. Pure.

Threat: tokens cannot be guessed, but whoever tries costs a look into the database each time, and nobody would notice.
Mechanism: an address may fail `BURST` times and then once in `SECONDS_PER_FAILURE`; beyond that it is refused without a
look, but for tokens that have held from there lately: who shares an address with a guesser works on. Not covered: many
addresses.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

from ringfence.token_bucket import TokenBucket

BURST = 20
"""How often an address may fail at once: a whole team behind one address, each with an old token."""
SECONDS_PER_FAILURE = 2.0
MOST_ADDRESSES = 10_000
"""How many addresses are remembered; the ones that were not heard of for longest are forgotten."""
TELL_SECONDS = 60.0
"""How often at most it is told that an address fails."""
FRESH_SECONDS = 24 * 3600.0
"""After how long it is told again that a token is used from an address."""


@dataclass(slots=True)
class _Failures:
    allowance: TokenBucket
    untold: int = 0
    told_at: float = -math.inf


class Doorkeeper:
    """Remembers who failed, and from where tokens were used. `now` is seconds of a steady clock."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, _Failures] = OrderedDict()
        self._seen: OrderedDict[tuple[bytes, str], float] = OrderedDict()

    def wait_seconds(self, peer: str, now: float) -> float:
        """How long this address has to wait before it may try again; 0 if it may now."""
        failures = self._failures.get(peer)
        if failures is None:
            return 0.0
        return failures.allowance.wait_seconds(now)

    def failed(self, peer: str, now: float) -> int:
        """Note a failure; how many are to be told of now, 0 if it is too early to tell again."""
        failures = self._failures.get(peer)
        if failures is None:
            failures = self._failures[peer] = _Failures(TokenBucket(BURST, 1 / SECONDS_PER_FAILURE, now))
        self._failures.move_to_end(peer)
        while len(self._failures) > MOST_ADDRESSES:
            self._failures.popitem(last=False)
        failures.allowance.take(now)
        failures.untold += 1
        if now - failures.told_at < TELL_SECONDS:
            return 0
        told, failures.untold, failures.told_at = failures.untold, 0, now
        return told

    def knows(self, token: bytes, peer: str, now: float) -> bool:
        """Whether this token (by its digest) has held from this address lately."""
        seen = self._seen.get((token, peer))
        return seen is not None and now - seen < FRESH_SECONDS

    def held(self, token: bytes, peer: str, now: float) -> bool:
        """Note that a token has held; whether that is to be told, since it has not from this address lately."""
        if self.knows(token, peer, now):
            return False
        self._seen[token, peer] = now
        self._seen.move_to_end((token, peer))
        while len(self._seen) > MOST_ADDRESSES:
            self._seen.popitem(last=False)
        return True
