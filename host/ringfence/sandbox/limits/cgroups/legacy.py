"""A cgroup v1 of its own for a run: limits on its memory and its processes, in two hierarchies, that the kernel keeps.

Which subtree is ours is decided as for cgroup v2 (`delegation`): one that an admin names by its directory in the memory
hierarchy (`RINGFENCE_CGROUP`), or the unit's own if systemd has marked it as delegated. In the hierarchies of pids, and
of cpuacct if there is one, it is the directory of the same name. Nothing is moved but runs: v1 lets a cgroup have
processes beside children.

What is charged (the kernel's cgroup-v1/memory.rst): what its processes touch first, mapped or not, scratch and shared
memory, the kernel's memory for them, pipes and unix sockets. Where v1 falls short of v2: at the limit the kernel kills
one process and not the run, so whoever supervises it has to look at `ran_out_of_memory` and end the rest; and there is
no kill of a whole cgroup, so that new processes are forbidden first (`pids.max`), and those that there are signalled
until none is left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from ringfence.sandbox.limits.cgroups.delegation import NotDelegated, is_marked, unescaped
from ringfence.sandbox.limits.cgroups.directories import make_locked, of_runs, taken_over, write
from ringfence.sandbox.limits.cgroups.place import LegacySubtree
from ringfence.sandbox.limits.cgroups.run_group import EMPTY_TIMEOUT_MS, MOST_PROCESSES, held

_PAUSE_S = 0.005


class LegacyGroup:
    """The cgroups of one run. That of memory is locked as long as this process lives and has not closed it."""

    def __init__(self, subtree: LegacySubtree, *, memory_bytes: int, processes: int) -> None:
        """Make them, with their limits. Raises OSError if that fails, and then leaves nothing."""
        self._subtree = subtree
        self.path, self._lock = make_locked(subtree.memory)
        held.add(self)
        try:
            self._places = tuple(place / self.path.name for place in subtree.directories)
            for place in self._places[1:]:
                place.mkdir()
            self._pids = subtree.pids / self.path.name
            write(self.path / "memory.limit_in_bytes", memory_bytes)
            self.limits_swap = (self.path / "memory.memsw.limit_in_bytes").exists()
            if self.limits_swap:
                write(self.path / "memory.memsw.limit_in_bytes", memory_bytes)
            # What TCP has is another count here, and unlimited unless it is said.
            with contextlib.suppress(FileNotFoundError):
                write(self.path / "memory.kmem.tcp.limit_in_bytes", memory_bytes)
            write(self._pids / "pids.max", min(processes, MOST_PROCESSES))
        except OSError:
            self.close()
            raise

    def take(self, pids: Iterable[int]) -> None:
        """Move processes into it. One that has ended meanwhile is no error; any other failure raises OSError."""
        for pid in pids:
            for place in self._places:
                with contextlib.suppress(ProcessLookupError):
                    write(place / "cgroup.procs", pid)

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel killed a process in it for its memory."""
        with contextlib.suppress(OSError):
            for line in (self.path / "memory.oom_control").read_bytes().splitlines():
                name, _, count = line.partition(b" ")
                if name == b"oom_kill":
                    return int(count) > 0
        return False

    def cpu_seconds(self) -> float | None:
        """Processor time that all of its processes have used in it so far, the ended ones' too; None if untold."""
        if self._subtree.cpuacct is None:
            return None
        with contextlib.suppress(OSError):
            return int((self._subtree.cpuacct / self.path.name / "cpuacct.usage").read_bytes()) / 1e9
        return None

    def kill(self) -> None:
        """Forbid new processes, and SIGKILL those that there are until none is left, or for a second."""
        _empty(self.path, self._pids)

    def close(self) -> None:
        """Kill what is left in it, and remove it."""
        held.discard(self)
        _remove(self._subtree, self.path.name)
        os.close(self._lock)


def sweep(subtree: LegacySubtree) -> None:
    """Remove the cgroups of runs whose supervisor is gone, and kill what is left in them."""
    with contextlib.suppress(OSError):
        for name in {path.name for place in subtree.directories for path in of_runs(place)}:
            with contextlib.suppress(OSError), taken_over(subtree.memory / name):
                _remove(subtree, name)


def _remove(subtree: LegacySubtree, name: str) -> None:
    with contextlib.suppress(OSError):
        _empty(subtree.memory / name, subtree.pids / name)
    # That of memory goes last: who sweeps finds the others by it.
    for place in reversed(subtree.directories):
        with contextlib.suppress(OSError):
            os.rmdir(place / name)


def _empty(memory: Path, pids: Path) -> None:
    """Signal whatever is in it until nothing is, for a while. Raises OSError if it cannot be told what is in it."""
    with contextlib.suppress(OSError):
        write(pids / "pids.max", 0)
    deadline = time.monotonic() + EMPTY_TIMEOUT_MS / 1000
    while _living(memory):
        with _pidfds(_living(memory)) as descriptors:
            # What is still listed is what its descriptor is of: a number that was given anew is not.
            for pid in _living(memory):
                if pid in descriptors:
                    with contextlib.suppress(ProcessLookupError):
                        signal.pidfd_send_signal(descriptors[pid], signal.SIGKILL)
        if time.monotonic() > deadline:
            return
        time.sleep(_PAUSE_S)


def _living(group: Path) -> list[int]:
    return [int(pid) for pid in (group / "cgroup.procs").read_bytes().split()]


@contextlib.contextmanager
def _pidfds(pids: Iterable[int]) -> Iterator[dict[int, int]]:
    opened: dict[int, int] = {}
    try:
        for pid in pids:
            with contextlib.suppress(OSError):
                opened[pid] = os.pidfd_open(pid)
        yield opened
    finally:
        for descriptor in opened.values():
            os.close(descriptor)


def mounts() -> tuple[str, ...]:
    """Where this host has mounted hierarchies of cgroup v1."""
    return tuple(mount for mount, _, _ in _mounted())


def limits_memory() -> bool:
    """Whether this host has a hierarchy of memory."""
    return any("memory" in options for _, _, options in _mounted())


def find(named: str | None) -> LegacySubtree:
    """The subtree that is ours: the named one, or else the one that is delegated to the unit that we run in.

    Raises:
        NotDelegated: if there is none.
    """
    if named:
        for mount, root, options in _mounted():
            if "memory" in options and Path(named).is_relative_to(mount):
                inner = str(Path("/", root.lstrip("/"), Path(named).relative_to(mount)))
                return _everywhere(inner)
        raise NotDelegated(f"{named} is not in the memory hierarchy of cgroup v1")
    own = _own("name=systemd")
    for candidate in (own, str(Path(own).parent)):
        with contextlib.suppress(NotDelegated):
            if is_marked(_at("name=systemd", candidate)) and Path(_own("memory")).is_relative_to(candidate):
                return _everywhere(candidate)
    raise NotDelegated("no cgroup v1 is delegated to us")


def _everywhere(inner: str) -> LegacySubtree:
    """A cgroup of this path in each hierarchy that is needed."""
    memory, pids = _at("memory", inner), _at("pids", inner)
    for place, file in ((memory, "memory.limit_in_bytes"), (pids, "pids.max")):
        if not (place / file).is_file():
            raise NotDelegated(f"{place} is not there, or has no {file}")
    cpuacct = None
    with contextlib.suppress(NotDelegated):
        cpuacct = _at("cpuacct", inner)
    return LegacySubtree(
        memory, pids, cpuacct if cpuacct is not None and os.access(cpuacct, os.W_OK) else None
    )


def _at(controller: str, inner: str) -> Path:
    for mount, root, options in _mounted():
        if controller in options and Path(inner).is_relative_to(root):
            return Path(mount, Path(inner).relative_to(root))
    raise NotDelegated(f"cgroup v1 has no {controller} here")


def _own(controller: str) -> str:
    """The path of our own cgroup in a hierarchy (cgroups(7), `/proc/PID/cgroup`)."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                return path
    raise NotDelegated(f"cgroup v1 has no {controller} here")


def _mounted() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Each mount of cgroup v1, with the cgroup that is its root, and its options, controllers among them."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            place, _, kind = line.partition(" - ")
            name, _, options = kind.split()[:3]
            if name == "cgroup":
                root, mount = place.split()[3:5]
                yield unescaped(mount), unescaped(root), tuple(options.split(","))


def make_ready(subtree: LegacySubtree) -> None:
    """Remove what supervisors that were killed have left there."""
    for place in subtree.directories:
        if ":" in str(place):
            raise NotDelegated(f"{place} must not have a colon in its name")
    sweep(subtree)
