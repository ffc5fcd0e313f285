"""Threads for what a script or a machine can make take long, so that no event loop waits for it.

There is a set for each purpose: what one script holds up is never in the way of what must go on, as a kill must.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """At most so many threads, started when they are wanted; what they do is done before the process ends."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = f"ringfence-{name}"
        self._executor = self._new()
        # A fork has no threads but one, and would wait for these for ever.
        os.register_at_fork(after_in_child=self._renew)

    def submit(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have it done as soon as a thread is free."""
        return self._executor.submit(work, *args, **kwargs)

    def _new(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._most, thread_name_prefix=self._name)

    def _renew(self) -> None:
        self._executor = self._new()


LOOKS = Workers(32, "look")
"""Sum what runs use. A look at one run may take long, and must not keep others from being looked at."""

KILLS = Workers(64, "kill")
"""End runs. So many at once as hardly any supervisor has: each may take as long as it is allowed to."""

ENTRIES = Workers(32, "enter")
"""Put sandboxes into cgroups, and give them their relays."""

RELAYS = Workers(32, "relay")
"""Ask relays what was tried."""

PREPARATIONS = Workers(8, "prepare")
"""Make sandboxes where that waits for a process to start."""

REMOVALS = Workers(64, "remove")
"""Take away what runs leave. Each run waits for its own."""

LETTING_GO = Workers(8, "unmount")
"""Let go of runs' mounts, for which nobody waits."""

STATES = Workers(16, "state")
"""Put states into runs, and take them out."""

DISCARDS = Workers(16, "discard")
"""Throw unused sandboxes away, for which nobody waits."""

RETURNS = Workers(4, "uids")
"""Wait until a run's uid can be somebody else's."""
