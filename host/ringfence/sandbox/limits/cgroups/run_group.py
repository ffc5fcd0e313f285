"""The cgroup of one run, of either version: what can be done with it, and which ones this process has."""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

MOST_PROCESSES = 4 * 1024**2
"""The most that `pids.max` takes as a number, and that a kernel has (PID_MAX_LIMIT of linux/threads.h)."""

EMPTY_TIMEOUT_MS = 1000
"""How long killed processes may take to be gone before their cgroup is left to the next sweep."""


class RunGroup(Protocol):
    """The cgroup of one run. Whoever made it closes it."""

    path: Path
    limits_swap: bool

    def take(self, pids: Iterable[int]) -> None:
        """Move processes into it. One that has ended meanwhile is no error; any other failure raises OSError."""

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel killed in it for its memory: all of it (v2), or one process (v1)."""

    def cpu_seconds(self) -> float | None:
        """Processor time that all of its processes have used in it so far, the ended ones' too; None if untold."""

    def kill(self) -> None:
        """SIGKILL all of its processes, whatever session they are in and whether they are stopped."""

    def close(self) -> None:
        """Kill what is left in it, and remove it."""


held: weakref.WeakSet[RunGroup] = weakref.WeakSet()
"""The cgroups of this process's runs and of its waiting sandboxes."""


@atexit.register
def _close_all() -> None:
    """What still waits when this process ends, ends with it; its cgroup would stay."""
    for group in list(held):
        group.close()


# After a fork: the parent's runs are the parent's.
os.register_at_fork(after_in_child=held.clear)
