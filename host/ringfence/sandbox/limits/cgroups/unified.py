"""A cgroup v2 of its own for a run: limits on its memory and its processes that the kernel itself keeps.

What is charged (the kernel's cgroup-v2.rst): all memory that its processes touch first, mapped or not: what is in
scratch and in shared memory, pipes' and sockets' buffers, page tables. Cached files count too, but give way. None of it
may be swapped out. What is over the limit and cannot be reclaimed ends the run as a whole.

A run's processes are moved while only the trusted bootstrap is among them; what the script forks is born inside.
A move takes the kernel some milliseconds (it waits for a grace period), so it belongs on a thread.

What it does not cover: what was charged before the move, which is the bootstrap's few megabytes; and a script that can
write to the cgroup file system with the rights of our own uid, which is why a sandbox that keeps the host's files
(`off`) gets that file system read-only.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Iterable
from pathlib import Path

from ringfence.sandbox.limits.cgroups.directories import make_locked, of_runs, taken_over, write
from ringfence.sandbox.limits.cgroups.run_group import EMPTY_TIMEOUT_MS, MOST_PROCESSES, held


class UnifiedGroup:
    """The cgroup v2 of one run. Its directory is locked as long as this process lives and has not closed it."""

    def __init__(self, subtree: Path, *, memory_bytes: int, processes: int) -> None:
        """Make it, with its limits. Raises OSError if that fails, and then leaves nothing."""
        self.path, self._directory = make_locked(subtree)
        held.add(self)
        try:
            write("memory.max", memory_bytes, within=self._directory)
            self.limits_swap = True
            try:
                write("memory.swap.max", 0, within=self._directory)
            except FileNotFoundError:
                # A kernel without swap, or one that does not account for it.
                self.limits_swap = False
            write("memory.oom.group", 1, within=self._directory)
            write("pids.max", min(processes, MOST_PROCESSES), within=self._directory)
        except OSError:
            self.close()
            raise

    def take(self, pids: Iterable[int]) -> None:
        """Move processes into it. One that has ended meanwhile is no error; any other failure raises OSError."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                write("cgroup.procs", pid, within=self._directory)

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel killed it for its memory."""
        return _counts(self._directory, "memory.events").get("oom_kill", 0) > 0

    def cpu_seconds(self) -> float | None:
        """Processor time that all of its processes have used in it so far, the ended ones' too; None if untold."""
        used = _counts(self._directory, "cpu.stat").get("usage_usec")
        return None if used is None else used / 1e6

    def kill(self) -> None:
        """SIGKILL all of its processes at once, whatever session they are in and whether they are stopped."""
        write("cgroup.kill", 1, within=self._directory)

    def close(self) -> None:
        """Kill what is left in it, and remove it."""
        held.discard(self)
        _remove(self.path, self._directory)
        os.close(self._directory)


def sweep(subtree: Path) -> None:
    """Remove the cgroups of runs whose supervisor is gone, and kill what is left in them."""
    with contextlib.suppress(OSError):
        for path in of_runs(subtree):
            with contextlib.suppress(OSError), taken_over(path) as directory:
                _remove(path, directory)


def _counts(directory: int, name: str) -> dict[str, int]:
    """What the kernel has counted in one of the cgroup's files; empty if it cannot be read."""
    with contextlib.suppress(OSError):
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
        try:
            lines = os.read(descriptor, 4096).decode().splitlines()
        finally:
            os.close(descriptor)
        return {key: int(value) for key, value in (line.split() for line in lines)}
    return {}


def _remove(path: Path, directory: int) -> None:
    """Remove a cgroup; one that has processes is emptied by force first."""
    with contextlib.suppress(OSError):
        os.rmdir(path)
        return
    with contextlib.suppress(OSError):
        write("cgroup.kill", 1, within=directory)
        _until_empty(directory)
        os.rmdir(path)


def _until_empty(directory: int) -> None:
    """Wait until a cgroup has no living process, for a while; the kernel tells changes of `populated` by POLLPRI."""
    descriptor = os.open("cgroup.events", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLPRI)
        while b"populated 1" in os.pread(descriptor, 4096, 0):
            if not poll.poll(EMPTY_TIMEOUT_MS):
                return
    finally:
        os.close(descriptor)
