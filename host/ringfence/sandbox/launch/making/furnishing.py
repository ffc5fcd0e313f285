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
from ringfence.sandbox.launch.making.skeletons import SKELETONS, nodes
from ringfence.sandbox.launch.words import LaunchFailed
from ringfence.sandbox.plan import etc
from ringfence.sandbox.plan.furnish import MASKED_DIRECTORIES, MASKED_FILES, RESOLV_CONF, furnish, has_root
from ringfence.sandbox.plan.model import Plan
from ringfence.sandbox.policy import FilesystemMode
from ringfence.sandbox.wrappers.barriers import barrier
from ringfence.sandbox.wrappers.bottom import BOTTOM, EVERYBODY
from ringfence.sandbox.wrappers.room import Link, Room, Shown


def room_of(plan: Plan) -> Room:
    room = _furnished(
        plan,
        tuple(_made_files(plan).items()),
        masked(plan.identity.uid),
        BOTTOM.path() if plan.layered else None,
        _filter(plan) if plan.filtered else None,
    )
    return _on_root(plan, room) if has_root(plan) else room


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
    files: tuple[tuple[str, bytes], ...],
    masked: tuple[str, ...],
    bottom: str | None,
    program: bytes | None,
) -> Room:
    """As `furnish`. Many runs have the same room."""
    return furnish(plan, files=dict(files), masked=masked, bottom=bottom, program=program)


def _made_files(plan: Plan) -> Mapping[str, bytes]:
    """The files that the sandbox gets, by their path inside.

    Where the host's own are kept (`off`), all but one: with a link of its own, a run cannot ask the host's resolvers.
    """
    files = _told(*plan.identity, plan.nameservers)
    if plan.filesystem is not FilesystemMode.OFF:
        return {**files, **{path: held for path in etc.COPIED_FILES if (held := copy(path)) is not None}}
    # Often a link, and what it leads to is what can be covered.
    resolv_conf = os.path.realpath(RESOLV_CONF)
    covered = plan.has_link and Path(resolv_conf).is_file()
    return {resolv_conf: files[RESOLV_CONF]} if covered else {}


@functools.lru_cache(maxsize=64)
def _told(uid: int, gid: int, nameservers: tuple[str, ...]) -> Mapping[str, bytes]:
    return {path: text.encode() for path, text in etc.files(uid, gid, nameservers).items()}


def _filter(plan: Plan) -> bytes:
    return syscall_filter(
        Architecture.of(platform.machine()),
        memory_is_counted=plan.cgroup is not None,
        files_are_shared=plan.shares_files,
        host_is_shown=plan.hides_sockets,
    )


def copy(path: str) -> bytes | None:
    """What a file of the host holds now; None if it is not there, or not everybody's to read."""
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode) or not found.st_mode & stat.S_IROTH:
            return None
        return _content(path, found.st_ino, found.st_mtime_ns, found.st_size)
    except OSError:
        return None


@functools.lru_cache(maxsize=2 * len(etc.COPIED_FILES))
def _content(path: str, *_version: int) -> bytes | None:
    """What a file holds in this version of it; None if there is no way to it for everybody."""
    return Path(path).read_bytes() if barrier(path, EVERYBODY, EVERYBODY) is None else None


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
