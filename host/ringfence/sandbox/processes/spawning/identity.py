"""Who the spawner and its children are: users, groups and capabilities, left for good or taken on for a moment."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterator

from .libc import checked, libc

PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_SET_KEEPCAPS = 3, 4, 8
LINUX_CAPABILITY_VERSION_3 = 0x2008_0522
CAP_KILL, CAP_SETGID, CAP_SETUID = 5, 6, 7


def drop(uid: int, gid: int) -> None:
    """Leave the present identity for good. Raises OSError where the kernel does not let us."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid):
        raise PermissionError(errno.EPERM, f"cannot become {uid}:{gid}, is {os.getresuid()}:{os.getresgid()}")


def leave_for(uid: int, gid: int) -> None:
    """Take on an identity for good, with no group and no capability but it. Raises OSError."""
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    keep_capabilities()
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid) or os.getgroups():
        raise PermissionError(errno.EPERM, f"cannot become {uid}:{gid}")


def keep_capabilities(*kept: int) -> None:
    """Give up every capability but these, for good. Raises OSError."""
    mask = sum(1 << number for number in kept)
    # Effective, permitted and inheritable, for the numbers below 32 and then for those above.
    sets = (ctypes.c_uint32 * 6)(mask, mask, 0, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    checked(libc.capset(ctypes.byref(header), ctypes.byref(sets)), "giving up capabilities")


def become_leaver(uid: int, gid: int) -> None:
    """Be a uid of our own, and keep what lets children leave for theirs, and be killed. Raises OSError."""
    checked(libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), "keeping capabilities")
    drop(uid, gid)
    keep_capabilities(CAP_KILL, CAP_SETGID, CAP_SETUID)
    # Children are started with our groups, and `drop` leaves them for root alone.
    os.setgroups([])
    # What is done to a child before it leaves is done through its /proc, which is root's unless this is said.
    checked(libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), "being dumpable")


@contextlib.contextmanager
def dumpable() -> Iterator[None]:
    """For a moment, have our files in `/proc` be our own.

    What has changed its uid is not "dumpable", and these files are root's (prctl(2)).
    """
    was = libc.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(PR_SET_DUMPABLE, int(was == 1), 0, 0, 0)


@contextlib.contextmanager
def assumed(uid: int, gid: int) -> Iterator[None]:
    """For a moment, be who a child is to be: what we start then is that, and nothing else.

    We stay who we are by the "saved" ids and by our capabilities. An exec leaves neither to a program (execve(2),
    capabilities(7)). Nobody can make use of the moment, neither by a signal nor as a debugger: no other process has
    this uid, since its run is yet to begin.

    Raises:
        OSError: if it cannot be assumed; then we are who we were. Who cannot come back ends.
    """
    if 0 in (uid, gid):
        # A program of root's would have every capability again.
        raise PermissionError(errno.EPERM, f"cannot become {uid}:{gid}")
    ours = os.getuid(), os.getgid()
    try:
        os.setresgid(gid, gid, ours[1])
        os.setresuid(uid, uid, ours[0])
        if os.getresuid() != (uid, uid, ours[0]) or os.getresgid() != (gid, gid, ours[1]) or os.getgroups():
            raise PermissionError(errno.EPERM, f"cannot become {uid}:{gid}")
        yield
    finally:
        try:
            os.setresuid(ours[0], ours[0], ours[0])
            os.setresgid(ours[1], ours[1], ours[1])
            checked(libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), "being dumpable")
        except BaseException:
            os._exit(1)
