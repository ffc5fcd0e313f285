"""The namespaces that children are in, so that whatever comes of them ends with the spawner."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from collections.abc import Iterable

from .identity import drop, dumpable
from .libc import checked, libc

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x2_0000, 0x1000_0000, 0x2000_0000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 0x1, 0x2, 0x4, 0x8, 0x20
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 0x8_0000
MNT_DETACH = 0x2
PR_SET_PDEATHSIG = 1
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
OPEN_TREE, OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC = 428, 0x1, 0x8_0000
MOVE_MOUNT, MOVE_MOUNT_F_EMPTY_PATH = 429, 0x4
HOSTS_PROC = "/proc/driver"
"""Where a spawner that shows the host's `/proc` has it, beneath its own: a directory that every kernel has there."""

OF_THE_KERNEL = (b"/sys", b"/dev/hugepages", b"/dev/mqueue", b"/dev/pts", b"/proc")
"""What the kernel shows of the machine. A wrapper goes through all that is mounted a dozen times, and half of it is
here; only rooms that show the host's files have any of it."""

MOST_MOUNTS = 8
"""So many are taken away that are mounted on one another at one place."""

DEVICES = (b"/dev/null", b"/dev/zero", b"/dev/full", b"/dev/random", b"/dev/urandom")


def join(namespace: int) -> None:
    """Join the user namespace behind a descriptor, which is closed, with every capability in it. Raises OSError."""
    checked(libc.setns(namespace, CLONE_NEWUSER), "joining a user namespace")
    os.close(namespace)


def enter_namespace(uid: int, gid: int, *, leaving: bool) -> bool:
    """Have the next child be the init of a PID namespace; False where that cannot be had.

    Root makes it as root, and leaves root later. Anybody else needs a user namespace around it, in which uid and gid
    are what they were; the identity is dropped before, so that nothing in it is root's. With it comes a mount
    namespace, for a `/proc` that knows processes by the pids that they have inside: wrappers look for their own there.

    Raises:
        OSError: if the identity cannot be dropped, or a namespace is left half made.
    """
    if not os.path.exists("/proc/thread-self/children"):
        return False  # The host finds a wrapper's init by this, where pids are not its own.
    # Whoever leaves is root, or has joined a namespace in which it may do this as well.
    if (os.geteuid() == 0 or leaving) and libc.unshare(CLONE_NEWNS | CLONE_NEWPID) == 0:
        return True
    if leaving:
        return False
    drop(uid, gid)
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID) != 0:
        return False
    with dumpable():
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{uid} {uid} 1"),
            ("gid_map", f"{gid} {gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    return True


def become_init(requests: socket.socket, *, showing: bool, lean: bool) -> int:
    """Go on as a child of this process, which stays only to wait for it. A pidfd of that, for `end_with`.

    If it is `showing` the host's `/proc`, that is at `HOSTS_PROC` afterwards. If it is `lean`, `OF_THE_KERNEL` is gone.

    Raises:
        OSError: if there can be no child, or no `/proc` for it.
    """
    parent = os.pidfd_open(os.getpid())
    child = os.fork()
    if child:
        requests.close()
        os.waitpid(child, 0)
        os._exit(0)
    # Slave, not private: what the host unmounts must not stay busy here.
    checked(libc.mount(b"none", b"/", None, MS_REC | MS_SLAVE, None), "mounts of its own")
    if lean:
        detach_all(OF_THE_KERNEL)
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    hosts = _copied(b"/proc") if showing else None
    checked(libc.mount(b"proc", b"/proc", b"proc", flags, None), "a /proc of its own")
    if hosts is not None:
        moved = libc.syscall(MOVE_MOUNT, hosts, b"", AT_FDCWD, HOSTS_PROC.encode(), MOVE_MOUNT_F_EMPTY_PATH)
        checked(moved, "the host's /proc")
        os.close(hosts)
    return parent


def detach_all(places: Iterable[bytes]) -> None:
    """Take away what is mounted at these places, and beneath, as far as we may.

    In a user namespace of our own we may not (mount_namespaces(7), on what is locked), and then all of it stays.
    """
    for place in places:
        for _ in range(MOST_MOUNTS):
            if libc.umount2(place, MNT_DETACH) != 0:
                break


def _copied(path: bytes) -> int:
    """A descriptor of what is mounted there, with what is mounted beneath, before it is covered. Raises OSError."""
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE
    descriptor: int = libc.syscall(OPEN_TREE, AT_FDCWD, path, flags)
    checked(min(descriptor, 0), f"{path!r} as it is")
    return descriptor


def close_devices() -> None:
    """Have no run change the times of the host's devices, by which it could tell others something, nor root their mode.

    What is written to a device is not written to its file system, and goes on.

    Raises:
        OSError: if one is not to be closed.
    """
    for device in DEVICES:
        with contextlib.suppress(FileNotFoundError):
            checked(libc.mount(device, device, None, MS_BIND, None), f"{device!r} by itself")
            flags = MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NOEXEC
            checked(libc.mount(None, device, None, flags, None), f"{device!r} read-only")


def end_with(parent: int) -> None:
    """End when the parent does. To be said again after each change of identity, which unsays it (prctl(2))."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if select.select([parent], [], [], 0)[0]:
        os._exit(1)
