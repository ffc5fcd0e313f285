"""The memory that the processes of a run map: resident, swapped out, or the kernel's own for it.

From the cheap to the exact, as `tree` says why: as much as could be, the same with the mappings that there are, and the
proportional share (PSS) of each. A process whose first thread has ended shows its memory by another of its threads.
What may not be read counts by its upper bound.

For each mapping, the kernel keeps a link to each ancestor that the process has its pages from (anon_vma_chain,
mm/rmap.c). So a chain of forks costs as the square of its length, of which none shows: mappings count by generations.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ringfence.sandbox.limits.counting import procfs
from ringfence.sandbox.limits.counting.families import families, members
from ringfence.sandbox.limits.counting.namespace import INIT, Clock, Gone, Namespace

MOST_MAPPINGS = 65_530
"""How many mappings a process may have (vm.max_map_count, as shipped)."""

BYTES_PER_MAPPING, BYTES_PER_FILE_MAPPING = 384, 1024
"""What the kernel keeps for a mapping; one of a file keeps the file open, with what belongs to that."""

BYTES_PER_LINK = 64
"""And of each mapping for each generation of its process: `struct anon_vma_chain`."""

ATTEMPTS = 8
"""How often the exact part is done again as long as it catches processes in a change."""

_PAGE = 4096
_LONGEST_ROLLUP = 64 * 1024

_SIZE, _RESIDENT, _SWAP, _TABLES, _ANONYMOUS = b"VmSize", b"VmRSS", b"VmSwap", b"VmPTE", b"RssAnon"
"""The fields of `/proc/PID/status` (proc_pid_status(5)). What has no memory of its own has none of them."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What one process uses: what it has touched, and what the kernel keeps for its mappings.

    `number` is how many mappings there are at most, `parent` who has forked it, as far as that is told. `anonymous` is
    what of `touched` is of no file, so that each page is in it once.
    """

    touched: int
    mappings: int
    number: int
    parent: str
    anonymous: int = 0


def _weighed(parts: Mapping[str, _Part]) -> dict[str, int]:
    """What each process uses, with the links to its ancestors."""
    generations = _generations({pid: part.parent for pid, part in parts.items()})
    return {
        pid: part.touched + part.mappings + part.number * generations[pid] * BYTES_PER_LINK
        for pid, part in parts.items()
    }


def _generations(parents: Mapping[str, str]) -> dict[str, int]:
    """How many ancestors each process can have pages from, itself among them.

    Whose parent has ended is init's. No ancestor is kept of which not some other process descends as well (`fork`
    takes it over, anon_vma_clone in mm/rmap.c), so there are no more of them than processes.
    """
    first = min((pid for pid, parent in parents.items() if parent == INIT), key=int, default=None)
    found = {INIT: 0}
    for pid in parents:
        line: dict[str, None] = {}
        above = pid
        # What has changed while it was read may go round in a circle.
        while above in parents and above not in found and above not in line:
            line[above] = None
            above = parents[above]
        for each in reversed(line):
            parent = parents[each]
            is_orphan = (parent == INIT and each != first) or parent not in found
            found[each] = found.get(parent, 0) + (len(parents) if is_orphan else 1)
    found[INIT] = 1
    return found


def at_most(namespace: Namespace, clock: Clock) -> int:
    """Bytes that can be in use: no mapping is smaller than a page, so the size of a process bounds their number.

    Raises:
        TookTooLong: by the clock.
    """
    bounds = namespace.each(lambda pid: _bound(namespace, pid), clock)
    return sum(_weighed(bounds.of).values())


def exactly(namespace: Namespace, limit: int, clock: Clock) -> Iterable[int]:
    """Bytes in use, at most: ever more exact, as long as more is wanted. Raises TookTooLong by the clock."""
    counted = namespace.each(lambda pid: _counted(namespace, pid, limit, clock), clock)
    yield sum(_weighed(counted.of).values())
    for _ in range(ATTEMPTS):
        total, certain = _shared(namespace, limit, clock)
        yield total
        if certain:
            return


def _shared(namespace: Namespace, limit: int, clock: Clock) -> tuple[int, bool]:
    """The sum of the exact shares; and whether that is certain, since nothing has changed meanwhile.

    Memory that is handed on while it is looked at may be counted twice. A child that lives for a moment halves what its
    parent shows meanwhile, so what it had is added if it ends before it is measured. One that was not seen before may
    hide as much: there are few of these, since a fork takes its time, and more so the more memory it is of. And no
    process has less than its own pages.
    """
    before = _families(namespace)
    lent = {pid for family in before if len(family) > 1 for pid in family}
    bounds = namespace.each(lambda pid: _bound(namespace, pid), clock).of
    least = max((part.anonymous for part in bounds.values()), default=0)
    shares = namespace.each(lambda pid: _share(namespace, pid, limit, clock), clock)
    weighed = _weighed(shares.of)
    missed = sum(bounds[pid].touched for pid in shares.ended & bounds.keys() - lent)
    total = max(sum(weighed.values()) + missed, least)
    if total <= limit or (len(shares.of) == 1 and not missed):
        return total, True
    after = _families(namespace)
    told = {pid for family in after for pid in family}
    groups = _joined(shares.of.keys(), [*before, *after])
    total = max(sum(max(weighed[pid] for pid in group) for group in groups) + missed, least)
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
    number = min(_sum(status, _SIZE) // _PAGE, MOST_MAPPINGS)
    touched = _sum(status, _RESIDENT, _SWAP, _TABLES)
    anonymous = procfs.kib(status, _ANONYMOUS) or 0
    return _Part(touched, number * BYTES_PER_FILE_MAPPING, number, _parent(status), anonymous)


def _counted(namespace: Namespace, pid: str, limit: int, clock: Clock) -> _Part:
    thread, status = _living(namespace, pid)
    try:
        kept, number = _mappings(namespace, thread, limit, clock)
    except PermissionError:
        return _bound(namespace, pid)
    return _Part(_sum(status, _RESIDENT, _SWAP, _TABLES), kept, number, _parent(status))


def _share(namespace: Namespace, pid: str, limit: int, clock: Clock) -> _Part:
    """What is its own, and its part of what it shares."""
    thread, status = _living(namespace, pid)
    try:
        rollup = b"".join(namespace.chunks(f"{thread}/smaps_rollup", _LONGEST_ROLLUP))
        kept, number = _mappings(namespace, thread, limit, clock)
    except PermissionError:
        return _counted(namespace, pid, limit, clock)
    return _Part(_sum(rollup, b"Pss", b"SwapPss") + _sum(status, _TABLES), kept, number, _parent(status))


def _parent(status: bytes) -> str:
    return str(procfs.number(status, b"PPid"))


def _mappings(namespace: Namespace, thread: str, limit: int, clock: Clock) -> tuple[int, int]:
    """What the kernel keeps for the mappings, or at least that it is more than the limit; and how many there are."""
    kept = number = 0
    for anonymous, of_files in procfs.mappings(namespace.chunks(f"{thread}/maps")):
        kept = anonymous * BYTES_PER_MAPPING + of_files * BYTES_PER_FILE_MAPPING
        number = anonymous + of_files
        if kept > limit:
            break
        clock.check()
    return kept, number


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
