"""How much a run's whole tree uses, read from `/proc`: what holds the per-run limits where no cgroup is ours.

All processes of a run are in its own PID namespace, and the namespace's own `/proc` lists exactly those:
double forks and `setsid` change nothing. Memory is first summed as resident pages, which is cheap and
counts shared pages once per process; only when that exceeds the limit is the exact proportional share (PSS)
summed, so that a forking script is not wronged.

What this does not cover: between two looks a script can exceed the limit, by at most what it can touch in
    that time (the interval shrinks with the headroom); and pages that no process maps are not seen (which
    is why scratch, shared memory files and file size have limits of their own).
"""

from __future__ import annotations

import contextlib
import os
import resource

PAGE = resource.getpagesize()

FASTEST_GROWTH = 4 * 1024**3
"""Bytes per second that a script is taken to touch at most."""

SHORTEST_INTERVAL_S = 0.005
LONGEST_INTERVAL_S = 0.1


class Tree:
    """The processes of one PID namespace, seen through its init. Close it when the run is over."""

    def __init__(self, init: int) -> None:
        """Open the namespace's `/proc` and `/tmp`. Raises OSError if init is gone already."""
        self._proc = os.open(f"/proc/{init}/root/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._scratch = os.open(f"/proc/{init}/root/tmp", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            os.close(self._proc)
            raise

    def close(self) -> None:
        """Let go of the namespace."""
        os.close(self._proc)
        os.close(self._scratch)

    def processes(self) -> list[str]:
        """The pids in the namespace, init's among them, as the names of their directories."""
        with contextlib.suppress(OSError):
            return [name for name in os.listdir(self._proc) if name.isdigit()]
        return []

    def memory(self, limit: int) -> int:
        """Bytes of memory and swap in use: exact if above `limit`, else an upper bound."""
        processes = self.processes()
        resident = sum(self._resident(pid) for pid in processes)
        return resident if resident <= limit else sum(self._proportional(pid) for pid in processes)

    def files(self) -> int:
        """How many files and directories there are in scratch and `/tmp`."""
        facts = os.fstatvfs(self._scratch)
        return facts.f_files - facts.f_ffree

    def _read(self, path: str) -> bytes:
        # A process that ended meanwhile uses nothing.
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)
            try:
                return os.read(descriptor, 4096)
            finally:
                os.close(descriptor)
        return b""

    def _resident(self, pid: str) -> int:
        fields = self._read(f"{pid}/statm").split()
        return int(fields[1]) * PAGE if len(fields) > 1 else 0

    def _proportional(self, pid: str) -> int:
        total = 0
        for line in self._read(f"{pid}/smaps_rollup").splitlines():
            if line.startswith((b"Pss:", b"SwapPss:")):
                total += int(line.split()[1]) * 1024
        return total


def next_look(used: int, limit: int) -> float:
    """Seconds until the tree should be looked at again: before it could have used up its headroom."""
    return min(max((limit - used) / FASTEST_GROWTH, SHORTEST_INTERVAL_S), LONGEST_INTERVAL_S)
