"""The memory that the processes of a run map: resident, swapped out, or the kernel's own for it.

From the cheap to the exact, as `tree` says why: as much as could be, the same with the mappings that there are, and the
proportional share (PSS) of each. A process whose first thread has ended shows its memory by another of its threads.
What may not be read counts by its upper bound.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

from ringfence.sandbox.limits.counting import procfs
from ringfence.sandbox.limits.counting.families import families, members
from ringfence.sandbox.limits.counting.namespace import Clock, Gone, Namespace

MOST_MAPPINGS = 65_530
"""How many mappings a process may have (vm.max_map_count, as shipped)."""

BYTES_PER_MAPPING, BYTES_PER_FILE_MAPPING = 256, 1024
"""What the kernel keeps for a mapping; one of a file keeps the file open, with what belongs to that."""

ATTEMPTS = 8
"""How often the exact part is done again as long as it catches processes in a change."""

_PAGE = 4096
_LONGEST_ROLLUP = 64 * 1024

_SIZE, _RESIDENT, _SWAP, _TABLES = b"VmSize", b"VmRSS", b"VmSwap", b"VmPTE"
"""The fields of `/proc/PID/status` (proc_pid_status(5)). What has no memory of its own has none of them."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What one process uses: what it has touched, and what the kernel keeps for its mappings."""

    touched: int
    mappings: int

    @property
    def total(self) -> int:
        return self.touched + self.mappings


def at_most(namespace: Namespace, clock: Clock) -> int:
    """Bytes that can be in use: no mapping is smaller than a page, so the size of a process bounds their number.

    Raises:
        TookTooLong: by the clock.
    """
    return sum(part.total for part in namespace.each(lambda pid: _bound(namespace, pid), clock).of.values())


def exactly(namespace: Namespace, limit: int, clock: Clock) -> Iterable[int]:
    """Bytes in use, at most: ever more exact, as long as more is wanted. Raises TookTooLong by the clock."""
    counted = namespace.each(lambda pid: _counted(namespace, pid, limit, clock), clock)
    yield sum(part.total for part in counted.of.values())
    for _ in range(ATTEMPTS):
        total, certain = _shared(namespace, limit, clock)
        yield total
        if certain:
            return


def _shared(namespace: Namespace, limit: int, clock: Clock) -> tuple[int, bool]:
    """The sum of the exact shares; and whether that is certain, since nothing has changed meanwhile.

    Memory that is handed on while it is looked at may be counted twice.
    """
    before = _families(namespace)
    shares = namespace.each(lambda pid: _share(namespace, pid, limit, clock), clock)
    total = sum(part.total for part in shares.of.values())
    if total <= limit or len(shares.of) == 1:
        return total, True
    after = _families(namespace)
    told = {pid for family in after for pid in family}
    groups = _joined(shares.of.keys(), [*before, *after])
    total = sum(max(shares.of[pid].total for pid in group) for group in groups)
    return total, not shares.ended and told >= shares.of.keys()


def _families(namespace: Namespace) -> list[list[str]]:
    """The pids, as they are inside, of what has one memory together."""
    inside = {pid: inner for inner, pid in members(namespace.init).items()}
    return [[inside[pid] for pid in family] for family in families(inside)]


def _joined(pids: Iterable[str], families: Iterable[Iterable[str]]) -> list[set[str]]:
    """These processes in groups, those together that are in any family together."""
    group = {pid: {pid} for pid in pids}
    for family in families:
        known = [pid for pid in family if pid in group]
        together = set().union(*(group[pid] for pid in known))
        group |= dict.fromkeys(together, together)
    return list({id(each): each for each in group.values()}.values())


def _bound(namespace: Namespace, pid: str) -> _Part:
    _, status = _living(namespace, pid)
    mappings = min(_sum(status, _SIZE) // _PAGE, MOST_MAPPINGS)
    return _Part(_sum(status, _RESIDENT, _SWAP, _TABLES), mappings * BYTES_PER_FILE_MAPPING)


def _counted(namespace: Namespace, pid: str, limit: int, clock: Clock) -> _Part:
    thread, status = _living(namespace, pid)
    try:
        mappings = _mappings(namespace, thread, limit, clock)
    except PermissionError:
        return _bound(namespace, pid)
    return _Part(_sum(status, _RESIDENT, _SWAP, _TABLES), mappings)


def _share(namespace: Namespace, pid: str, limit: int, clock: Clock) -> _Part:
    """What is its own, and its part of what it shares."""
    thread, status = _living(namespace, pid)
    try:
        rollup = b"".join(namespace.chunks(f"{thread}/smaps_rollup", _LONGEST_ROLLUP))
        mappings = _mappings(namespace, thread, limit, clock)
    except PermissionError:
        return _counted(namespace, pid, limit, clock)
    return _Part(_sum(rollup, b"Pss", b"SwapPss") + _sum(status, _TABLES), mappings)


def _mappings(namespace: Namespace, thread: str, limit: int, clock: Clock) -> int:
    """What the kernel keeps for the mappings, or at least that it is more than the limit."""
    kept = 0
    for anonymous, of_files in procfs.mappings(namespace.chunks(f"{thread}/maps")):
        kept = anonymous * BYTES_PER_MAPPING + of_files * BYTES_PER_FILE_MAPPING
        if kept > limit:
            break
        clock.check()
    return kept


def _living(namespace: Namespace, pid: str) -> tuple[str, bytes]:
    """Where the memory of a process shows, and its status there: at another thread, if its first has ended."""
    status = namespace.status(pid)
    if _shows_memory(status):
        return pid, status
    for thread in namespace.threads(pid):
        with contextlib.suppress(Gone):
            status = namespace.status(f"{pid}/task/{thread}")
            if _shows_memory(status):
                # Each thread has a directory like a process's, which is not listed (proc(5)).
                return thread, status
    raise Gone


def _shows_memory(status: bytes) -> bool:
    return procfs.kib(status, _SIZE) is not None


def _sum(text: bytes, *names: bytes) -> int:
    """The sum of these fields. Raises Gone if there is none, as of a process that gives its memory up."""
    found = procfs.kib(text, *names)
    if found is None:
        raise Gone
    return found
