"""Which processes descend from one, as `/proc` tells, and which of them are still alive.

What a script made is walked without recursion and not without end, and its own words (the name of a process, which it
chooses) are bytes between the first and the last parenthesis of a line.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass

_CHILDREN = "/proc/thread-self/children"

MOST_PROCESSES = 100_000
"""So many descendants are looked at in one walk. What makes new ones all the while is not followed for ever."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process as it was seen. Its pid may become another's; together with its start (in clock ticks) it does not."""

    pid: int
    parent: int
    started: int
    lives: bool


def descendants(pid: int) -> list[int]:
    """All processes under `pid`, which is not among them, at most `MOST_PROCESSES`."""
    return [process.pid for process in walk(pid)]


def walk(pid: int) -> list[Process]:
    """Each process under `pid`, parents first; also those that only wait to be reaped.

    What comes and goes meanwhile may be missed (proc_pid_task(5)): whoever needs all walks again.
    """
    children_of = _children()
    seen = {pid}
    found: list[Process] = []
    level = [pid]
    while level and len(found) < MOST_PROCESSES:
        below = [child for above in level for child in children_of(above) if child not in seen]
        seen.update(below)
        found += filter(None, map(look_at, below))
        level = below
    return found


def children(pid: int) -> list[int]:
    """The children of a process, of all of its threads; none if it is gone."""
    return _children()(pid)


def _children() -> Callable[[int], list[int]]:
    """What tells the children of a process now: the kernel, if it lists them (CONFIG_PROC_CHILDREN)."""
    return _listed_children if os.path.exists(_CHILDREN) else _children_by_parent()


def _listed_children(pid: int) -> list[int]:
    found: list[int] = []
    for thread in threads(pid):
        with contextlib.suppress(OSError):
            found += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())
    return found


def _children_by_parent() -> Callable[[int], list[int]]:
    """The same, found by asking all processes for their parent."""
    found: dict[int, list[int]] = {}
    for process in filter(None, map(look_at, map(int, filter(str.isdigit, os.listdir("/proc"))))):
        found.setdefault(process.parent, []).append(process.pid)
    return lambda pid: found.get(pid, [])


def threads(pid: int) -> list[int]:
    """The threads of a process; none if it is gone."""
    with contextlib.suppress(OSError):
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    return []


def look_at(pid: int) -> Process | None:
    """A process as it is now (proc_pid_stat(5)); None if there is none."""
    with contextlib.suppress(OSError, IndexError):
        state, parent, *others = short_text(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        return Process(pid, int(parent), started=int(others[17]), lives=state not in (b"Z", b"X"))
    return None


def short_text(path: str) -> bytes:
    """A short file of `/proc`, which every run reads some of. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.readall()
