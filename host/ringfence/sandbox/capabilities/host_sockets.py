"""Which Unix sockets of this host a policy gives runs, as they are at this moment.

Threat: a path that leads elsewhere than its name says, to what is no socket, or to one that the supervisor keeps to
itself; a socket that was removed and made again, of which a waiting sandbox still has the old one. Mechanism: links
are followed here, to the end, and what they lead to is judged; a socket is told with what makes it this one and no
other, so that a sandbox which has an older one is not taken for this. Not covered: a link that is exchanged between
this look and the making of a room; what the service behind a socket does for whoever asks.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from ringfence.sandbox.policy.destinations import SocketEntry
from ringfence.sandbox.wrappers.barriers import grants, unreachable
from ringfence.sandbox.wrappers.bottom import EVERYBODY

_PLACES_OF_THE_KERNEL = ("/proc", "/sys")


@dataclass(frozen=True, slots=True)
class HostSocket:
    """A socket of the host: where a run sees it, where it is for the supervisor, and which one it is.

    `changed_ns` is when its inode changed last: the number of an inode is given again.
    """

    at: str
    source: str
    device: int
    inode: int
    changed_ns: int


@dataclass(frozen=True, slots=True)
class SocketsFound:
    """What was found of the sockets that a policy names.

    `absent` says which are not there, or not for a run, and why; `lacking` what is named and is no such socket.
    `private` names one that other users than the supervisor's cannot connect to.
    """

    sockets: tuple[HostSocket, ...] = ()
    absent: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    private: str | None = None


def find_sockets(wanted: Iterable[SocketEntry], kept: Iterable[str], *, uid: int = EVERYBODY) -> SocketsFound:
    """What there is of what is wanted, for runs that have this uid outside, or one of their own."""
    hidden = tuple(map(os.path.realpath, kept))
    sockets: list[HostSocket] = []
    absent: list[str] = []
    lacking: list[str] = []
    private = None
    for entry in dict.fromkeys(wanted):
        source = os.path.realpath(entry.path)
        if (why := _why_never(source, hidden)) is not None:
            lacking.append(f"{entry} cannot be given: {why}")
            continue
        try:
            found = os.stat(source)
        except OSError as error:
            absent.append(f"{entry} cannot be found: {error.strerror}")
            continue
        if not stat.S_ISSOCK(found.st_mode):
            lacking.append(f"{entry} cannot be given: {_leading(entry.path, source)} is no socket")
            continue
        reason = why_closed(source, found, uid, uid)
        if reason is not None and uid == EVERYBODY and os.geteuid() != 0:
            # A run with the supervisor's own uid may have it.
            reason = why_closed(source, found, os.geteuid(), os.getegid())
            private = private or (entry.path if reason is None else None)
        if reason is not None:
            absent.append(f"{entry} is not given: {reason}")
        else:
            sockets.append(
                HostSocket(entry.path, source, found.st_dev, found.st_ino, found.st_ctime_ns),
            )
    return SocketsFound(tuple(sockets), tuple(absent), tuple(lacking), private)


def why_closed(path: str, found: os.stat_result, uid: int, gid: int) -> str | None:
    """Why this identity cannot connect to a socket, by owners and modes; None if nothing is in the way."""
    if (reason := unreachable(path, uid, gid)) is not None:
        return reason
    if uid != 0 and not grants(found, uid, {gid}) & stat.S_IWOTH:
        return (
            f"uid {uid}, which scripts have, may not connect to it (mode {stat.S_IMODE(found.st_mode):04o}, owner "
            f"{found.st_uid}:{found.st_gid}; connecting is writing, unix(7)); let them: chmod o+w {path}"
        )
    return None


def _why_never(source: str, hidden: Iterable[str]) -> str | None:
    if any(_is_within(source, place) for place in _PLACES_OF_THE_KERNEL):
        return f"it leads to {source}, which a run has of its own"
    if any(_is_within(source, place) for place in hidden):
        return "it is among what this program keeps to itself"
    return None


def _leading(path: str, source: str) -> str:
    return "it" if path == source else f"what it leads to, {source},"


def _is_within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")
