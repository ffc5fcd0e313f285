"""Which processes of a run share one memory without being threads of one process.

`vfork`, and `clone` with CLONE_VM, make a process that has its parent's memory, all of it, until it executes a program
or ends. The kernel shows that memory as each one's own. By kcmp(2) it tells whether two are the same, and in which
order they stand, so that sorting finds all families with few questions.

What is not known counts as not shared, so that no script is counted for less by it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import platform
from collections.abc import Callable, Iterable
from pathlib import Path

from ringfence.sandbox import procfs
from ringfence.sandbox.descent import descendants
from ringfence.sandbox.seccomp import Architecture, Syscall, UnsupportedArchitecture

KCMP = Syscall("kcmp", 312, 272)
KCMP_VM = 1
"""Of linux/kcmp.h."""

EQUAL, LESS = 0, 1

Compare = Callable[[int, int], int]

_libc = ctypes.CDLL(None, use_errno=True)


def families(pids: Iterable[int]) -> list[list[int]]:
    """The families among these processes. Those of which the kernel does not tell, ended ones too, are in none."""
    compare = _comparison()
    living = [pid for pid in pids if compare(pid, pid) == EQUAL]
    in_order = sorted(living, key=functools.cmp_to_key(lambda *two: -1 if compare(*two) == LESS else 1))
    found: list[list[int]] = []
    for pid in in_order:
        if found and compare(found[-1][-1], pid) == EQUAL:
            found[-1].append(pid)
        else:
            found.append([pid])
    return found


def _comparison() -> Compare:
    """kcmp(2) for the memory of two processes: negative if that is not to be known."""
    try:
        number = KCMP.number(Architecture.of(platform.machine()))
    except UnsupportedArchitecture:
        return lambda one, other: -1
    return lambda one, other: int(_libc.syscall(number, one, other, KCMP_VM, 0, 0))


def members(init: int) -> dict[str, int]:
    """The processes of a PID namespace by their pids inside: its init, of this pid, and what descends from it."""
    found: dict[str, int] = {}
    for pid in (init, *descendants(init)):
        with contextlib.suppress(OSError, procfs.UnknownFormat):
            inside = procfs.last_number(Path(f"/proc/{pid}/status").read_bytes(), b"NSpid")
            if inside is not None:
                found[str(inside)] = pid
    return found
