"""Which processes descend from one, as `/proc` tells, and whether one is still alive.

What a script made is walked without recursion and not without end, and its own words (the name of a process, which it
chooses) are bytes between the first and the last parenthesis of a line.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

MOST_PROCESSES = 100_000
"""So many descendants are looked at in one walk. What makes new ones all the while is not followed for ever."""


def descendants(pid: int) -> list[int]:
    """All processes under `pid`, which is not among them, at most `MOST_PROCESSES`."""
    return [child for child, _ in walk(pid)]


def walk(pid: int) -> Iterator[tuple[int, int]]:
    """Each process under `pid` with its parent, parents first.

    What comes and goes meanwhile may be missed (proc_pid_task(5)): whoever needs all walks again.
    """
    seen = {pid}
    level = [pid]
    while level:
        below: list[int] = []
        for parent in level:
            for child in children(parent):
                if child not in seen:
                    seen.add(child)
                    below.append(child)
                    yield child, parent
                    if len(seen) > MOST_PROCESSES:
                        return
        level = below


def children(pid: int) -> list[int]:
    """The children of a process, of all of its threads; none if it is gone, or the kernel does not tell."""
    found: list[int] = []
    for thread in threads(pid):
        with contextlib.suppress(OSError):
            found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_bytes().split())
    return found


def threads(pid: int) -> list[int]:
    """The threads of a process; none if it is gone."""
    with contextlib.suppress(OSError):
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    return []


def parent(pid: int) -> int | None:
    """The parent of a process; None if it is gone."""
    told = _after_name(pid)
    return int(told[1]) if told else None


def lives(pid: int) -> bool:
    """Whether a process is there and has not ended; one that only waits to be reaped has."""
    told = _after_name(pid)
    return bool(told) and told[0] not in (b"Z", b"X")


def _after_name(pid: int) -> list[bytes]:
    """The fields of `/proc/PID/stat` from its state on (proc_pid_stat(5)); none if it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return []
