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
from collections.abc import Iterable
from pathlib import Path

from ringfence.sandbox.filters.seccomp import Architecture, Syscall, UnsupportedArchitecture
from ringfence.sandbox.limits.counting import procfs
from ringfence.sandbox.processes.descent import descendants

KCMP = Syscall("kcmp", 312, 272)
KCMP_VM, KCMP_FILES = 1, 2
"""What is compared (linux/kcmp.h): memory, the table of descriptors."""

EQUAL, LESS = 0, 1

_libc = ctypes.CDLL(None, use_errno=True)


def compare(what: int, one: int, other: int) -> int:
    """kcmp(2) of two processes or threads: equal, in which order, or negative if that is not to be known."""
    try:
        number = KCMP.number(Architecture.of(platform.machine()))
    except UnsupportedArchitecture:
        return -1
    return int(_libc.syscall(number, one, other, what, 0, 0))


def families(pids: Iterable[int]) -> list[list[int]]:
    """The families among these processes. Those of which the kernel does not tell, ended ones too, are in none.

    To the kernel, all whose first thread has ended have the same memory, which is none. So that is looked at last:
    who shows memory then had it before.
    """

    def order(one: int, other: int) -> int:
        return -1 if compare(KCMP_VM, one, other) == LESS else 1

    living = [pid for pid in pids if compare(KCMP_VM, pid, pid) == EQUAL]
    in_order = sorted(living, key=functools.cmp_to_key(order))
    found: list[list[int]] = []
    for pid in in_order:
        if found and compare(KCMP_VM, found[-1][-1], pid) == EQUAL:
            found[-1].append(pid)
        else:
            found.append([pid])
    return [alive for family in found if (alive := [pid for pid in family if _has_memory(pid)])]


def _has_memory(pid: int) -> bool:
    with contextlib.suppress(OSError, procfs.UnknownFormat):
        return procfs.kib(Path(f"/proc/{pid}/status").read_bytes(), b"VmSize") is not None
    return False


def members(init: int) -> dict[str, int]:
    """The processes of a PID namespace by their pids inside: its init, of this pid, and what descends from it."""
    found: dict[str, int] = {}
    for pid in (init, *descendants(init)):
        with contextlib.suppress(OSError, procfs.UnknownFormat):
            inside = procfs.last_number(Path(f"/proc/{pid}/status").read_bytes(), b"NSpid")
            if inside is not None:
                found[str(inside)] = pid
    return found
