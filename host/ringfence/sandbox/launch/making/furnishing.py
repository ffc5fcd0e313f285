"""What of this host as it is now goes into a room: its files, its masks, its filter."""

from __future__ import annotations

import functools
import os
import platform
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ringfence.sandbox.faults import is_passing
from ringfence.sandbox.filters.seccomp import Architecture, syscall_filter
from ringfence.sandbox.launch.making.copies import COPIES, Files
from ringfence.sandbox.launch.making.settled import SETTLED
from ringfence.sandbox.launch.making.skeletons import SKELETONS, nodes
from ringfence.sandbox.launch.words import LaunchFailed
from ringfence.sandbox.plan import etc
from ringfence.sandbox.plan.furnish import (
    ETC,
    MASKED_DIRECTORIES,
    MASKED_FILES,
    RESOLV_CONF,
    can_settle,
    furnish,
    has_root,
)
from ringfence.sandbox.plan.model import Plan
from ringfence.sandbox.policy import FilesystemMode
from ringfence.sandbox.wrappers.barriers import barrier
from ringfence.sandbox.wrappers.bottom import BOTTOM, EVERYBODY
from ringfence.sandbox.wrappers.room import Link, Room, Shown

Versions = tuple[tuple[int, int, int, int] | None, ...]
"""Of some files, what changes with each: its number, when it was written, its size and its permissions."""


def room_of(plan: Plan) -> Room:
    files = _made_files(plan)
    settled = _settled(plan, files) if can_settle(plan) and _is_out_of_reach(plan) else None
    room = _furnished(
        plan,
        files if settled is None else (),
        settled,
        masked(plan.identity.uid),
        BOTTOM.path() if plan.layered else None,
        _filter(plan) if plan.filtered else None,
    )
    return _on_root(plan, room) if has_root(plan) else room


def _settled(plan: Plan, files: Files) -> str | None:
    """The directory of the host with these files; None if there can be none, which is nothing that a run lacks."""
    assert plan.wrapper is not None
    try:
        copy = COPIES.of(plan.layout.etc)
        return None if copy is None else SETTLED.path(ETC, files, copy, plan.wrapper.hides)
    except OSError:
        return None


def _is_out_of_reach(plan: Plan) -> bool:
    """Whether no run of this supervisor has its own uid, and could change what it has made for others."""
    return plan.uids is not None or plan.identity.uid != os.geteuid()


def _on_root(plan: Plan, room: Room) -> Room:
    """The room with a root on the file system of the host's."""
    assert plan.host is not None
    assert plan.host.place is not None
    files = frozenset(
        (
            *(place.at for place in plan.host.paths if not place.is_directory),
            *(each.at for each in plan.sockets),
        )
    )
    root = SKELETONS.path(plan.host.place, nodes(room.steps, files))
    made = tuple(step for step in room.steps if not isinstance(step, Link) or step.at.count("/") > 1)
    return replace(room, steps=(Shown(root, "/"), *made))


@functools.lru_cache(maxsize=64)
def _furnished(
    plan: Plan,
    files: Files,
    settled: str | None,
    masked: tuple[str, ...],
    bottom: str | None,
    program: bytes | None,
) -> Room:
    """As `furnish`. Many runs have the same room."""
    return furnish(plan, files=dict(files), settled=settled, masked=masked, bottom=bottom, program=program)


def _made_files(plan: Plan) -> Files:
    """The files that the sandbox gets, by their path inside.

    Where the host's own are kept (`off`), all but one: with a link of its own, a run cannot ask the host's resolvers.
    """
    if plan.filesystem is not FilesystemMode.OFF:
        return _with_copies(*plan.identity, plan.nameservers, _versions())
    # Often a link, and what it leads to is what can be covered.
    resolv_conf = os.path.realpath(RESOLV_CONF)
    covered = plan.has_link and Path(resolv_conf).is_file()
    return ((resolv_conf, _told(*plan.identity, plan.nameservers)[RESOLV_CONF]),) if covered else ()


@functools.lru_cache(maxsize=64)
def _with_copies(uid: int, gid: int, nameservers: tuple[str, ...], _: Versions) -> Files:
    copies = {path: held for path in etc.COPIED_FILES if (held := copy(path)) is not None}
    return tuple({**_told(uid, gid, nameservers), **copies}.items())


def _told(uid: int, gid: int, nameservers: tuple[str, ...]) -> Mapping[str, bytes]:
    return {path: text.encode() for path, text in etc.files(uid, gid, nameservers).items()}


def _versions() -> Versions:
    """Which versions of the files to be copied the host has now. Every run asks that."""
    found: list[tuple[int, int, int, int] | None] = []
    for path in etc.COPIED_FILES:
        try:
            seen = os.stat(path)
        except OSError:
            found.append(None)
        else:
            found.append((seen.st_ino, seen.st_mtime_ns, seen.st_size, seen.st_mode))
    return tuple(found)


def _filter(plan: Plan) -> bytes:
    return syscall_filter(
        Architecture.of(platform.machine()),
        memory_is_counted=plan.cgroup is not None,
        files_are_shared=plan.shares_files,
        host_is_shown=plan.hides_sockets,
    )


def copy(path: str) -> bytes | None:
    """What a file of the host holds now; None if it is not there, or not everybody's to read.

    Raises OSError if that is not known now.
    """
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode) or not found.st_mode & stat.S_IROTH:
            return None
        return Path(path).read_bytes() if barrier(path, EVERYBODY, EVERYBODY) is None else None
    except OSError as error:
        if is_passing(error):
            raise
        return None


@functools.cache
def masked(uid: int) -> tuple[str, ...]:
    """What of `/proc` is to be masked for scripts of this uid: what is there, and not closed to it anyway."""
    paths = (*MASKED_FILES, *MASKED_DIRECTORIES)
    return tuple(path for path in paths if _is_open(path, uid))


def _is_open(path: str, uid: int) -> bool:
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode) and not os.listdir(path):
            return False
    except OSError as error:
        if is_passing(error):
            raise LaunchFailed(f"{path} cannot be examined: {error.strerror}") from error
        return False
    return uid == found.st_uid or bool(found.st_mode & (stat.S_IROTH | stat.S_IWOTH))
