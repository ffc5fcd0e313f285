"""Which cgroup v2 subtree is ours, and making it ready for runs.

Ours is only what somebody gave us: a subtree that an admin names (`RINGFENCE_CGROUP`), or the cgroup that we are in, or
its parent, if it is marked as delegated. systemd marks a unit's cgroup so under `Delegate=yes` (the extended
attributes `user.delegate` and `trusted.delegate`, https://systemd.io/CGROUP_DELEGATION). A cgroup that merely happens
to be writable, as every one is to root, belongs to somebody else.

A cgroup with processes of its own cannot hand controllers down ("no internal processes", cgroups(7)). So what is in
*our* cgroup moves into a leaf of it, ourselves among it; nothing outside of the subtree is changed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from ringfence.sandbox.limits.cgroups.run_group import RunGroup
from ringfence.sandbox.limits.cgroups.unified import sweep

NEEDED = frozenset({"memory", "pids"})

LEAF = "supervisor"
"""Where the processes of a delegated cgroup go. systemd's `DelegateSubgroup=supervisor` starts them there."""

MARKS = ("user.delegate", "trusted.delegate")

ATTEMPTS = 10
"""How often a cgroup is emptied, while processes in it may fork, before that is given up."""


class NotDelegated(Exception):
    """No cgroup v2 subtree with the needed controllers is ours to use; the message says what is lacking."""


def mounts() -> tuple[str, ...]:
    """Where this host has mounted cgroup v2 (several places are possible)."""
    return tuple(mount for mount, _ in _mounted())


def find(named: str | None) -> Path:
    """The subtree that is ours: the named one, or else the one that is delegated to the unit that we run in.

    Raises:
        NotDelegated: if there is none.
    """
    if named:
        if not Path(named, "cgroup.controllers").is_file():
            raise NotDelegated(f"{named} is not a cgroup v2")
        return Path(named)
    own = own_cgroup()
    for candidate in (own, own.parent):
        if is_marked(candidate):
            return candidate
    raise NotDelegated(f"{own} is not delegated to us, and RINGFENCE_CGROUP names no other cgroup v2 subtree")


def own_cgroup() -> Path:
    """The directory of the cgroup v2 that this process is in.

    Raises:
        NotDelegated: if it has none, or none that can be seen from here.
    """
    return directory_of(own_path())


def own_path() -> str:
    """The path of the cgroup v2 that this process is in (cgroups(7), `/proc/PID/cgroup`).

    Raises:
        NotDelegated: if it has none.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            hierarchy, _, path = line.split(":", 2)
            if hierarchy == "0":
                return path
    raise NotDelegated("no cgroup v2 is mounted here")


def directory_of(path: str) -> Path:
    """The directory of the cgroup v2 with this path.

    Raises:
        NotDelegated: if it cannot be seen from here.
    """
    for mount, root in _mounted():
        if root == "/" and not path.startswith("/.."):
            return Path(mount, path.lstrip("/"))
        if path == root or path.startswith(f"{root}/"):
            return Path(mount, path[len(root) :].lstrip("/"))
    raise NotDelegated(f"no mount of cgroup v2 shows {path}")


def _mounted() -> Iterator[tuple[str, str]]:
    """Each mount of cgroup v2, with the cgroup that is its root (/proc/PID/mountinfo in proc(5))."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            place, _, kind = line.partition(" - ")
            if kind.split()[0] == "cgroup2":
                root, mount = place.split()[3:5]
                yield unescaped(mount), root


def unescaped(path: str) -> str:
    """A path of mountinfo, where blanks and backslashes are written in octal."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), path)


def is_marked(group: Path) -> bool:
    """Whether somebody has marked a cgroup as delegated."""
    for mark in MARKS:
        with contextlib.suppress(OSError):
            if os.getxattr(group, mark) == b"1":
                return True
    return False


def make_ready(subtree: Path, *, ours: bool = False) -> None:
    """Let the subtree's children have limits, and remove what supervisors that were killed have left there.

    What is in it may have to move into a leaf: if it is our own, marked as delegated, or known to be `ours`.

    Raises:
        NotDelegated: if that cannot be had.
    """
    try:
        lacking = NEEDED - set((subtree / "cgroup.subtree_control").read_text().split())
        offered = set((subtree / "cgroup.controllers").read_text().split())
    except OSError as error:
        raise NotDelegated(f"{subtree} cannot be read: {error.strerror}") from error
    if absent := lacking - offered:
        raise NotDelegated(f"{subtree} has no {' and no '.join(sorted(absent))} controller")
    if lacking:
        _enable(subtree, " ".join(f"+{name}" for name in sorted(lacking)), ours=ours)
    sweep(subtree)


def _enable(subtree: Path, controllers: str, *, ours: bool) -> None:
    for _ in range(ATTEMPTS):
        try:
            (subtree / "cgroup.subtree_control").write_text(controllers)
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise NotDelegated(f"{subtree} cannot hand down controllers: {error.strerror}") from error
        if not (ours or own_cgroup() == subtree or is_marked(subtree)):
            raise NotDelegated(f"{subtree} has processes of its own, which are not ours to move")
        _move_into_leaf(subtree)
    raise NotDelegated(f"{subtree} cannot hand down controllers: its processes do not stay in {LEAF}")


def _move_into_leaf(subtree: Path) -> None:
    leaf = subtree / LEAF
    try:
        leaf.mkdir(exist_ok=True)
        for pid in (subtree / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                (leaf / "cgroup.procs").write_text(pid)
    except OSError as error:
        raise NotDelegated(
            f"the processes in {subtree} cannot be moved to {leaf}: {error.strerror}"
        ) from error


def prove(subtree: object, make: Callable[[int, int], RunGroup]) -> None:
    """Make a limited cgroup, move a process there and kill it by it.

    Args:
        subtree: where that is, to be named.
        make: makes one there for so many bytes and processes.

    Raises:
        NotDelegated: with what failed.
    """
    group = None
    try:
        with subprocess.Popen(["sleep", "10"], stdin=subprocess.DEVNULL) as child:
            try:
                group = make(64 * 1024**2, 8)
                group.take([child.pid])
                group.kill()
                child.wait(2)
            finally:
                child.kill()
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotDelegated(f"{subtree} cannot be used: {error}") from error
    finally:
        if group is not None:
            group.close()
    if not Path("/proc/thread-self/children").exists():
        raise NotDelegated(
            "the kernel does not list the children of processes (CONFIG_PROC_CHILDREN), so they cannot be moved"
        )
    if not group.limits_swap and _has_swap():
        raise NotDelegated("this machine has swap, and the kernel does not account for it (swapaccount=0)")


def _has_swap() -> bool:
    with contextlib.suppress(OSError):
        return len(Path("/proc/swaps").read_text().splitlines()) > 1
    return False
