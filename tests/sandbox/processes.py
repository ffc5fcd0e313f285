"""The processes that come from this one, and waiting for a condition."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from ringfence.sandbox.identities import leases

from tests.waiting import until


def descendants(of: int | None = None) -> set[int]:
    """All processes that descend from that one, by default from this one, as far as parents tell."""
    parents: dict[int, int] = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            continue
        parents[pid] = int(stat.rpartition(b")")[2].split()[1])
    found: set[int] = set()
    latest = {of or os.getpid()}
    while latest:
        latest = {pid for pid, parent in parents.items() if parent in latest}
        found |= latest
    return found


def orphans(uid: int) -> set[int]:
    """The living processes of that uid whose parent has ended, on the whole machine."""
    found = set()
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            owner = os.stat(f"/proc/{pid}").st_uid
            state, parent = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[:2]
        except OSError:
            continue
        if owner == uid and parent == b"1" and state != b"Z":
            found.add(pid)
    return found


def marked_processes(mark: str, among: Callable[[], set[int]] = descendants) -> list[int]:
    """Our descendants that have `mark` in their arguments."""
    found = []
    for pid in among():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if mark.encode() in words:
            found.append(pid)
    return found


def everyone() -> set[int]:
    """All processes of this machine: to look for what may have lost its parent."""
    return set(map(int, filter(str.isdigit, os.listdir("/proc"))))


async def settled() -> None:
    """Wait until nothing is done any more about runs that have ended."""
    await until(lambda: leases.returning() == 0, "the uids of runs that have ended to be free")
    await until(lambda: not _held_mounts(), "the mounts of runs that have ended to be let go of")


def _held_mounts() -> list[str]:
    held = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            held.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return [kind for kind in held if kind.startswith("mnt:")]


async def descriptors() -> int:
    """How many descriptors this process has, when those of runs that have ended are closed."""
    await settled()
    return len(os.listdir("/proc/self/fd"))
