"""How much a run's whole tree uses, read from `/proc`: what holds the per-run limits where no cgroup is ours.

Threat: a script takes memory where nobody looks, tells stories to who looks, or makes looking take for ever. Mechanism:
all processes of a run are in its own PID namespace, and the namespace's own `/proc` lists exactly those; double forks
and `setsid` change nothing. A look goes from the cheap to the exact, and ends at the first sum within the limit:

1. as many bytes as could be: resident pages, swap and page tables of each process, and what the kernel keeps of so many
   mappings as its size has room for;
2. the same with the mappings that there are;
3. the exact proportional share (PSS), so that a script that forks is not wronged, with memory that several processes
   have together (`vfork`, CLONE_VM) counted once.

A process whose first thread has ended shows its memory by another of its threads. What ends while it is looked at may
have handed its memory to a child, so the children that it left are looked at too. What may not be read counts by its
upper bound. The text is read as `procfs` says. The exact part has a bound in processor time, in proportion to the
limit; what cannot be told by then counts by its upper bound.

Not covered: between two looks a script can exceed the limit, by at most what it can touch in that time (the interval
shrinks with the headroom; docs/limits.md says how far, as measured). Pages that no process maps are not seen, which is
why scratch, shared memory files and file size have limits of their own, and why the syscall filter refuses other ways
to make some. Locks of files are memory of the kernel's that nothing else is relied on to bound, not even a cgroup, so
they are counted here.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ringfence.sandbox import procfs
from ringfence.sandbox.families import families, members

MOST_LOCKS = 10_000
"""So many locks of files may a run hold, at some 200 bytes each. A database holds a handful."""

MOST_MAPPINGS = 65_530
"""How many mappings a process may have (vm.max_map_count, as shipped)."""

BYTES_PER_MAPPING, BYTES_PER_FILE_MAPPING = 256, 1024
"""What the kernel keeps for a mapping; one of a file keeps the file open, with what belongs to that."""

FASTEST_GROWTH = 4 * 1024**3
"""Bytes per second that a script is taken to touch at most."""

SHORTEST_INTERVAL_S = 0.005
LONGEST_INTERVAL_S = 0.1

ROUNDS = 4
"""How often the processes are listed again, as long as some have ended while they were looked at."""

CHEAP_CPU_S = 5.0
"""How much processor time the upper bound may take; it takes some microseconds for each process."""

EXACT_CPU_S, EXACT_CPU_S_PER_GIB = 0.25, 0.5
"""How much processor time the exact part may take, and how much more for each GiB of the limit."""

ATTEMPTS = 8
"""How often the exact part is done again as long as it catches processes in a change."""

_INIT = "1"
"""The namespace's own init. The wrapper's is covered by a mount (see `wrapper.INIT`), and no script's."""

_PAGE = 4096
_CHUNK = 1024 * 1024
_LONGEST_STATUS = 1024 * 1024
"""A status has a list of groups in it, of which there can be 65,536 (credentials(7))."""

_LONGEST_LOCK = 128
"""How long a line of `/proc/locks` is at most (proc_locks(5))."""

_SIZE, _RESIDENT, _SWAP, _TABLES = b"VmSize", b"VmRSS", b"VmSwap", b"VmPTE"
"""The fields of `/proc/PID/status` (proc_pid_status(5)). What has no memory of its own has none of them."""


class NotSeen(Exception):
    """What a run uses could not be told; the message says why. Whoever holds its limits has to end it."""


class TreeGone(NotSeen):
    """The run's namespace has ended, and there is nothing left to look at."""


@dataclass(frozen=True, slots=True)
class Use:
    """What a run has in use: bytes of memory, files and directories in scratch, and locks of files.

    Memory is an upper bound as long as that is within the limit.
    """

    memory: int
    files: int
    locks: int


Found = TypeVar("Found")


class _Gone(Exception):
    """A process has ended, or gives its memory up."""


class _TookTooLong(Exception):
    """The processor time for the exact part is used up."""


class _Clock:
    """Processor time of this thread, so that a busy machine takes none of it."""

    def __init__(self, seconds: float) -> None:
        self._until = time.thread_time() + seconds

    def check(self) -> None:
        if time.thread_time() > self._until:
            raise _TookTooLong


@dataclass(frozen=True, slots=True)
class _Part:
    """What one process uses: what it has touched, and what the kernel keeps for its mappings; and its size."""

    touched: int
    mappings: int
    size: int

    @property
    def total(self) -> int:
        return self.touched + self.mappings


@dataclass(slots=True)
class _Each(Generic[Found]):
    """What was measured of each process, and whether some ended meanwhile."""

    of: dict[str, Found] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)


class Tree:
    """The processes of one PID namespace, seen through its init. Close it when the run is over."""

    def __init__(self, init: int) -> None:
        """Open the namespace's `/proc` and `/tmp`. Raises TreeGone if init is gone already, NotSeen if it fails."""
        self._init = init
        with _telling("the run's /proc"), contextlib.ExitStack() as opened:
            self._proc = os.open(f"/proc/{init}/root/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, self._proc)
            self._scratch = os.open(f"/proc/{init}/root/tmp", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.pop_all()

    def close(self) -> None:
        """Let go of the namespace."""
        os.close(self._proc)
        os.close(self._scratch)

    def look(self, memory_limit: int | None) -> Use:
        """What the run uses at this moment; its memory is 0 without a limit on it, which is then the kernel's to keep.

        It blocks, for as long as the kernel takes to tell: it belongs on a thread.

        Raises:
            TreeGone: if the run has ended.
            NotSeen: if it cannot be told.
        """
        memory = 0 if memory_limit is None else self.memory(memory_limit)
        with _telling("the run's files and locks"):
            return Use(memory, self._files(), self._locks())

    def _files(self) -> int:
        """How many files and directories there are in scratch and `/tmp`."""
        facts = os.fstatvfs(self._scratch)
        return facts.f_files - facts.f_ffree

    def _locks(self) -> int:
        """How many locks of files its processes hold, or at least that there are more than `MOST_LOCKS`.

        The namespace's `/proc` lists its own processes' alone. (Those of open file descriptions, which belong to no
        process, are not to be had: see `seccomp`.)
        """
        return procfs.locks(b"".join(self._chunks("locks", MOST_LOCKS * _LONGEST_LOCK)))

    def memory(self, limit: int) -> int:
        """Bytes of memory and swap in use: exact if above `limit` and it can be told in time, else an upper bound.

        Raises:
            TreeGone: if the run has ended.
            NotSeen: if it cannot be told.
        """
        with _telling("the run's processes"):
            return self._memory(limit)

    def _memory(self, limit: int) -> int:
        try:
            clock = _Clock(CHEAP_CPU_S)
            most = sum(use.total for use in self._of_each(self._bound, clock).of.values())
        except _TookTooLong:
            raise NotSeen(f"to look at the run's processes takes more than {CHEAP_CPU_S:.0f} s") from None
        if most <= limit:
            return most
        clock = _Clock(EXACT_CPU_S + EXACT_CPU_S_PER_GIB * limit / 1024**3)
        try:
            counted = self._of_each(lambda pid: self._counted(pid, limit, clock), clock)
            most = min(most, sum(use.total for use in counted.of.values()))
            for _ in range(ATTEMPTS):
                if most <= limit:
                    break
                exact, certain = self._exact(limit, clock)
                most = min(most, exact)
                if certain:
                    break
        except _TookTooLong:
            pass
        return most

    def _exact(self, limit: int, clock: _Clock) -> tuple[int, bool]:
        """The sum of the exact shares; and whether that is certain, since nothing has changed meanwhile.

        Memory that is handed on while it is looked at may be counted twice.
        """
        before = self._families()
        shares = self._of_each(lambda pid: self._share(pid, limit, clock), clock)
        total = sum(use.total for use in shares.of.values())
        if total <= limit or len(shares.of) == 1:
            return total, True
        after = self._families()
        told = {pid for family in after for pid in family}
        groups = _joined(shares.of.keys(), [*before, *after])
        total = sum(max(shares.of[pid].total for pid in group) for group in groups)
        return total, not shares.ended and told >= shares.of.keys()

    def _families(self) -> list[list[str]]:
        """The pids, as they are inside, of what has one memory together."""
        inside = {pid: inner for inner, pid in members(self._init).items()}
        return [[inside[pid] for pid in family] for family in families(inside)]

    def _of_each(self, measure: Callable[[str], Found], clock: _Clock) -> _Each[Found]:
        """What is measured of each process, and of those that were born while others ended."""
        each: _Each[Found] = _Each()
        for _ in range(ROUNDS):
            before = len(each.ended)
            for pid in self._processes():
                if pid not in each.of and pid not in each.ended:
                    clock.check()
                    try:
                        each.of[pid] = measure(pid)
                    except _Gone:
                        if pid != _INIT:
                            each.ended.add(pid)
            if len(each.ended) == before:
                break
        return each

    def _processes(self) -> list[str]:
        """The pids in the namespace, init's among them, as the names of their directories."""
        found = [name for name in os.listdir(self._proc) if name.isdigit()]
        if not found:
            raise TreeGone("the run's namespace has ended")
        return found

    # What one process uses. Each raises _Gone, _TookTooLong or NotSeen.

    def _bound(self, pid: str) -> _Part:
        """As much as can be: no mapping is smaller than a page, so its size bounds their number."""
        _, status = self._living(pid)
        size = _sum(status, _SIZE)
        mappings = min(size // _PAGE, MOST_MAPPINGS) * BYTES_PER_FILE_MAPPING
        return _Part(_sum(status, _RESIDENT, _SWAP, _TABLES), mappings, size)

    def _counted(self, pid: str, limit: int, clock: _Clock) -> _Part:
        """The same with the mappings that there are."""
        thread, status = self._living(pid)
        touched = _sum(status, _RESIDENT, _SWAP, _TABLES)
        return self._with_mappings(pid, thread, touched, _sum(status, _SIZE), limit, clock)

    def _share(self, pid: str, limit: int, clock: _Clock) -> _Part:
        """What is its own, and its part of what it shares."""
        thread, status = self._living(pid)
        try:
            rollup = b"".join(self._chunks(f"{thread}/smaps_rollup", _CHUNK))
        except PermissionError:
            touched = _sum(status, _RESIDENT, _SWAP, _TABLES)
        else:
            touched = _sum(rollup, b"Pss", b"SwapPss") + _sum(status, _TABLES)
        return self._with_mappings(pid, thread, touched, _sum(status, _SIZE), limit, clock)

    def _with_mappings(
        self, pid: str, thread: str, touched: int, size: int, limit: int, clock: _Clock
    ) -> _Part:
        kept = 0
        try:
            for anonymous, of_files in procfs.mappings(self._chunks(f"{thread}/maps")):
                kept = anonymous * BYTES_PER_MAPPING + of_files * BYTES_PER_FILE_MAPPING
                clock.check()
                if kept > limit:
                    break
        except PermissionError:
            return self._bound(pid)
        return _Part(touched, kept, size)

    def _living(self, pid: str) -> tuple[str, bytes]:
        """Where the memory of a process shows, and its status there: at another thread, if its first has ended."""
        status = self._status(pid)
        if _shows_memory(status):
            return pid, status
        for thread in self._list(f"{pid}/task"):
            with contextlib.suppress(_Gone):
                status = self._status(f"{pid}/task/{thread}")
                if _shows_memory(status):
                    # Each thread has a directory like a process's, which is not listed (proc(5)).
                    return thread, status
        raise _Gone

    def _status(self, place: str) -> bytes:
        return b"".join(self._chunks(f"{place}/status", _LONGEST_STATUS))

    def _list(self, path: str) -> list[str]:
        with _of_one(), _opened(self._proc, path, os.O_DIRECTORY) as directory:
            return os.listdir(directory)

    def _chunks(self, path: str, most: int | None = None) -> Iterator[bytes]:
        """A file of the namespace's `/proc`, in pieces. Raises PermissionError besides what the callers raise."""
        with _of_one(), _opened(self._proc, path) as file:
            while (most is None or most > 0) and (data := os.read(file, _CHUNK)):
                if most is not None:
                    most -= len(data)
                yield data


def _joined(pids: Iterable[str], families: Iterable[Iterable[str]]) -> list[set[str]]:
    """These processes in groups, those together that are in any family together."""
    group = {pid: {pid} for pid in pids}
    for family in families:
        known = [pid for pid in family if pid in group]
        together = set().union(*(group[pid] for pid in known))
        group |= dict.fromkeys(together, together)
    return list({id(each): each for each in group.values()}.values())


def _shows_memory(status: bytes) -> bool:
    return procfs.kib(status, _SIZE) is not None


def _sum(text: bytes, *names: bytes) -> int:
    """The sum of these fields. Raises _Gone if there is none, as of a process that gives its memory up."""
    found = procfs.kib(text, *names)
    if found is None:
        raise _Gone
    return found


@contextlib.contextmanager
def _opened(directory: int, path: str, flags: int = 0) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _of_one() -> Iterator[None]:
    """Tell what has ended from all that may fail when a process is looked at."""
    try:
        yield
    except (FileNotFoundError, ProcessLookupError) as error:
        raise _Gone from error


@contextlib.contextmanager
def _telling(what: str) -> Iterator[None]:
    """Say of whatever fails that the look did, and with it whether the run has ended."""
    try:
        yield
    except (FileNotFoundError, ProcessLookupError) as error:
        raise TreeGone("the run's namespace has ended") from error
    except (OSError, procfs.UnknownFormat) as error:
        raise NotSeen(f"{what} cannot be read: {error}") from error


def next_look(used: int, limit: int) -> float:
    """Seconds until the tree should be looked at again: before it could have used up its headroom."""
    return min(max((limit - used) / FASTEST_GROWTH, SHORTEST_INTERVAL_S), LONGEST_INTERVAL_S)
