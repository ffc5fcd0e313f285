"""What became of all runs of this process, counted for whoever watches it."""

from __future__ import annotations

import asyncio

from ringfence.counting import OTHER, Counts, Distribution, Distributions, Level
from ringfence.scripts.result import RunResult

SUCCEEDED, FAILED, CANCELLED, FAULT = "succeeded", "failed", "cancelled", "fault"
UNKNOWN_KIND = "none"
"""The kind of a run of which no script was started."""
MOST_LAYERS = 50
"""Layers are named by the code; those of a policy that is newer than it are not."""


class Tally:
    """How runs have ended, how long they took and waited, and what they were refused."""

    def __init__(self) -> None:
        self.ended = Counts()
        """By kind and end."""
        self.durations = Distributions()
        """In seconds, from the script's start until its tree was gone; by kind."""
        self.queued = Distribution()
        """In seconds, until there was a free place."""
        self.refused = Counts(most=MOST_LAYERS)
        """By the layers that could not be had."""
        self.egress_refused = 0
        """Names and destinations on the network."""
        self.warm_used = 0
        self.warm_missed = 0
        self.waiting = Level()
        """Runs that wait for a free place."""
        self.running = Level()
        """Runs that have one."""

    def launched(self, *, queued_s: float, warm: bool) -> None:
        """A script was started, in a sandbox that was waiting or in one that was made for it."""
        self.queued.observe(queued_s)
        if warm:
            self.warm_used += 1
        else:
            self.warm_missed += 1

    def end(self, result: RunResult) -> None:
        """A run has a result."""
        kind = UNKNOWN_KIND if result.kind is None else result.kind.value
        self.ended.add(kind, _end(result))
        if result.refused:
            for layer in {one.layer for one in result.sandbox.downgrades} or {OTHER}:
                self.refused.add(layer)
        else:
            self.durations.observe(result.timing.run_ms / 1000, kind)
        if result.egress is not None:
            self.egress_refused += sum(one.count for one in result.egress.refused)
            self.egress_refused += sum(one.count for one in result.egress.names if one.answered == "refused")

    def raised(self, error: BaseException) -> None:
        """A run has no result: whoever asked for it does not want it any more, or we have failed at it."""
        self.ended.add(UNKNOWN_KIND, CANCELLED if isinstance(error, asyncio.CancelledError) else FAULT)


def _end(result: RunResult) -> str:
    if result.stopped is not None:
        return result.stopped.value
    return SUCCEEDED if result.exit_code == 0 else FAILED
