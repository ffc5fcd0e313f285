"""What of this host a policy wants runs to be shown, as it is at this moment: paths, file systems, `/proc`.

It is looked at before a run is planned, and may take as long as a file system takes to answer: not for an event loop.

Threat: a path that leads elsewhere than its name says; a device, socket or named pipe among what is shown; a secret of
the supervisor's in it. Mechanism: links are followed here, to the end, and what they lead to is judged; what the
supervisor keeps to itself (`hidden`) is told with the paths, to be covered. Of a file system whose numbers alone are
wanted, one thing is chosen that shows nothing of it: a directory that nobody but its owner may enter, or an empty one.
Not covered: a link that is exchanged between this look and the making of a room.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ringfence.sandbox.policy import Filesystem, FilesystemMode, HostView
from ringfence.sandbox.policy.coverage import is_beneath
from ringfence.sandbox.wrappers.barriers import unreachable
from ringfence.sandbox.wrappers.bottom import EVERYBODY

OWN = ("/proc", "/sys", "/dev", "/tmp", "/packages")  # noqa: S108 - what a run has of its own, or by another word
OWN_IN_SCRATCH = ("/tmp/script", "/tmp/scratch", "/tmp/state", "/tmp/.shm")  # noqa: S108 - inside the sandbox

NUMBERLESS = re.compile(
    r"autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|efivarfs|fusectl|hugetlbfs|mqueue|nsfs|overlay|"
    r"proc|pstore|ramfs|rpc_pipefs|securityfs|selinuxfs|sysfs|tracefs"
)
"""Types of file systems that hold nothing on a disk: the kernel's own."""

REMOTE = re.compile(r"nfs4?|cifs|smb3|smbfs|9p|ceph|afs|glusterfs|lustre|virtiofs|fuse(\..*)?")
"""Types that another machine or program answers for, which may keep whoever asks waiting for ever."""

MOST_ENTRIES = 200
"""So many entries of a file system's top are looked at for one that shows nothing of it."""

SEALED_SYS = ("/sys/firmware", "/sys/devices/virtual/powercap")
"""What container runtimes mask (oci/defaults.go of Moby): tables of the firmware, and a meter of power."""

PLACES = ("/var/tmp", "/var/lib", "/run", "/opt", "/root", "/tmp")  # noqa: S108 - tried in turn
"""Where a directory on the root's own file system may be made."""


@dataclass(frozen=True, slots=True)
class Place:
    """Something of the host, where a run sees it, and where it is for the supervisor."""

    at: str
    source: str
    is_directory: bool


@dataclass(frozen=True, slots=True)
class HostFound:
    """What was found of what a policy wants to be shown.

    `lacking` says why something cannot be, `private` names what other users than the supervisor's cannot reach.
    `links` are to be made, `hidden` is to be covered. `witnesses` stand for file systems, and have their numbers.
    `mounts` is the host's list of them, `place` a directory on the file system of its root; `pid` is that of a process
    in the host's network, `entries` is what there is in `/proc` beside processes. `resolv_conf` is that file of the
    host's if it is among what is shown, and `sealed` what of `/sys` is to be covered.
    """

    paths: tuple[Place, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    lacking: tuple[str, ...] = ()
    private: str | None = None
    hidden: tuple[Place, ...] = ()
    witnesses: tuple[Place, ...] = ()
    unseen: tuple[str, ...] = ()
    mounts: bytes = b""
    place: str | None = None
    pid: int = 0
    entries: tuple[str, ...] = ()
    sealed: tuple[str, ...] = ()
    resolv_conf: str | None = None
    hides_processes: bool = False


@dataclass(frozen=True, slots=True)
class Mount:
    """A file system of the host, where it is mounted."""

    device: str
    at: str
    kind: str
    options: str


def look(
    wanted: Filesystem, hidden: Iterable[str], *, uid: int = EVERYBODY, within: Filesystem | None = None
) -> HostFound:
    """What there is of what is wanted, for runs that have this uid outside, or one of their own.

    With `within`, what paths lead to has to be a part of what that shows: `wanted` may name links in it.
    """
    mounts = tuple(_mounts(_text("/proc/self/mountinfo")))
    paths: list[Place] = []
    links: list[tuple[str, str]] = []
    lacking: list[str] = []
    private = None
    for path in wanted.host_paths:
        if path == "/":
            _top(paths, links)
            continue
        judged = _judged(path)
        if isinstance(judged, str):
            lacking.append(judged)
            continue
        if within is not None and not _leads_within(judged, within):
            lacking.append(
                f"{path} cannot be shown: it leads to {judged.source}, which the policy does not show"
            )
            continue
        if (reason := unreachable(judged.source, uid, uid)) is not None:
            private = private or path
            if uid == EVERYBODY and os.geteuid() != 0:
                # A run with the supervisor's own uid may reach it.
                reason = unreachable(judged.source, os.geteuid(), os.getegid())
            if reason is not None:
                lacking.append(reason)
                continue
        paths.append(judged)
    shown = tuple(dict.fromkeys(paths))
    disks = HostView.DISKS in wanted.host_view
    resolv_conf = os.path.realpath("/etc/resolv.conf")
    has_resolvers = os.path.isfile(resolv_conf) and _is_within(resolv_conf, [each.source for each in shown])
    witnesses, unseen = _witnesses(mounts, shown) if disks else ((), ())
    return HostFound(
        paths=shown,
        links=tuple(dict.fromkeys(links)),
        lacking=tuple(lacking),
        private=private,
        hidden=tuple(_covered(hidden, shown)),
        witnesses=witnesses,
        unseen=unseen,
        mounts=_text("/proc/self/mounts").encode(errors="surrogateescape") if disks else b"",
        place=_place_on_root() if disks else None,
        pid=os.getpid(),
        entries=tuple(sorted(name for name in os.listdir("/proc") if not name.isdigit()))
        if wanted.host_view
        else (),
        sealed=tuple(path for path in SEALED_SYS if os.path.isdir(path)),
        resolv_conf=resolv_conf if has_resolvers else None,
        hides_processes=any(
            each.at == "/proc" and re.search(r"\bhidepid=([^0o,]|o[^f])", each.options) for each in mounts
        ),
    )


def _judged(path: str) -> Place | str:
    """What a path leads to, or why it cannot be shown."""
    real = os.path.realpath(path)
    for own in (*OWN, *OWN_IN_SCRATCH):
        if real == own or (own != "/tmp" and real.startswith(f"{own}/")):  # noqa: S108
            return f"{path} cannot be shown: it leads to {real}, which a run has of its own"
    try:
        mode = os.stat(real).st_mode
    except OSError as error:
        return f"{path} cannot be shown: {error.strerror}"
    if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
        return Place(path, real, stat.S_ISDIR(mode))
    return f"{path} cannot be shown: it is no file or directory, but a device, a socket or a named pipe"


def _leads_within(place: Place, within: Filesystem) -> bool:
    """Whether what a path leads to is shown by a policy anyway, there or where that path of the policy leads."""
    if within.mode is FilesystemMode.OFF:
        return is_beneath(place.source, "/")
    roots = [each if each == "/" else os.path.realpath(each) for each in within.host_paths]
    return any(is_beneath(place.source, root) for root in roots)


def _top(paths: list[Place], links: list[tuple[str, str]]) -> None:
    """What is at the top of the host's files, but for what a run has of its own."""
    for name in sorted(os.listdir("/")):
        path = f"/{name}"
        if path in OWN:
            continue
        if os.path.islink(path):
            links.append((path, os.readlink(path)))
        elif isinstance(judged := _judged(path), Place) and unreachable(path, EVERYBODY, EVERYBODY) is None:
            paths.append(judged)


def _covered(hidden: Iterable[str], shown: tuple[Place, ...]) -> Iterator[Place]:
    """What is hidden, wherever it is within what is shown and a run's uid could come to it."""
    for path in dict.fromkeys(map(os.path.realpath, hidden)):
        if not os.path.exists(path):
            continue
        if unreachable(path, EVERYBODY, EVERYBODY) is not None and os.geteuid() == 0:
            continue
        for place in shown:
            if path == place.source or path.startswith(f"{place.source.rstrip('/')}/"):
                yield Place(place.at + path[len(place.source) :], path, os.path.isdir(path))


def _witnesses(
    mounts: tuple[Mount, ...], shown: tuple[Place, ...]
) -> tuple[tuple[Place, ...], tuple[str, ...]]:
    """What stands for each file system of the host that is not shown anyway, and those that nothing can stand for."""
    chosen: list[Place] = []
    unseen: list[str] = []
    points = [each.at for each in mounts]
    for each in mounts:
        if each.at == "/" or NUMBERLESS.fullmatch(each.kind) or _is_within(each.at, OWN):
            continue
        if _is_within(each.at, [place.at for place in shown]):
            continue
        if REMOTE.fullmatch(each.kind) or _is_within(each.at, [place.at for place in chosen]):
            unseen.append(each.at)
        elif (source := _witness(each.at, points)) is not None:
            chosen.append(Place(each.at, source, is_directory=True))
        else:
            unseen.append(each.at)
    return tuple({place.at: place for place in chosen}.values()), tuple(dict.fromkeys(unseen))


def _witness(top: str, points: list[str]) -> str | None:
    """A directory of the file system that is mounted at `top` which shows nothing of it: closed to others, or empty."""
    if unreachable(top, EVERYBODY, EVERYBODY) is not None:
        return None
    with contextlib.suppress(OSError):
        device = os.stat(top).st_dev
        if not os.listdir(top):
            return top
        names = sorted(os.listdir(top))[:MOST_ENTRIES]
        found = [(f"{top.rstrip('/')}/{name}", os.lstat(f"{top.rstrip('/')}/{name}")) for name in names]
        directories = [
            (path, each)
            for path, each in found
            if stat.S_ISDIR(each.st_mode) and each.st_dev == device and not _is_above(path, points)
        ]
        for path, each in directories:
            if not each.st_mode & 0o077 and each.st_uid == 0:
                return path
        for path, _ in directories:
            with contextlib.suppress(OSError):
                if not os.listdir(path):
                    return path
    return None


def _place_on_root() -> str | None:
    """A directory on the file system of the root which we may write to and everybody can reach."""
    root = os.stat("/").st_dev
    for path in PLACES:
        with contextlib.suppress(OSError):
            within = os.stat(path).st_dev == root and os.access(path, os.W_OK)
            if within and unreachable(f"{path}/any", EVERYBODY, EVERYBODY) is None:
                return path
    return None


def _mounts(mountinfo: str) -> Iterator[Mount]:
    """What is mounted, by the text of proc_pid_mountinfo(5)."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        words, more = before.split(" "), after.split(" ")
        at = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), words[4])
        yield Mount(words[2], at, more[0], f"{words[5]},{more[-1]}")


def _text(path: str) -> str:
    return Path(path).read_text(errors="surrogateescape")


def _is_within(path: str, places: Iterable[str]) -> bool:
    return any(path == each or path.startswith(f"{each.rstrip('/')}/") for each in places)


def _is_above(path: str, points: Iterable[str]) -> bool:
    return any(_is_within(point, (path,)) for point in points)
