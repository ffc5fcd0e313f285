"""What a run has left under its uid: its processes, and its objects and files among those of the host."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import time

from .identity import leave_for
from .libc import libc

PLACES = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run/lock", "/var/lock", "/var/crash")  # noqa: S108
"""The directories of a host that anybody can make files in."""

CLEANING_S = 20
IPC_RMID = 0


def clean(uid: int, gid: int) -> int:
    """In a fork: be that identity, end what it runs, and remove what it has left; 1 if something of that cannot be.

    With the rights of that identity alone, so that nothing that it left can lead us to anything of another's.
    """
    leave_for(uid, gid)
    if 0 in os.getresuid():
        raise PermissionError(errno.EPERM, "root is nobody's to clean up after")
    signal.alarm(CLEANING_S)
    while has_others(uid):
        # The kernel lets no process fork away from this, and spares ourselves (kill(2)).
        os.kill(-1, signal.SIGKILL)
        time.sleep(0.005)
    left = 0
    for kind in ("shm", "sem", "msg"):
        left += remove_objects(kind, uid)
    for place in PLACES:
        left += remove_files(place, uid)
    return min(left, 1)


def has_others(uid: int) -> bool:
    """Whether a process has this uid that is not ours, nor has ended and is still to be reaped."""
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError), open(f"/proc/{name}/status", "rb") as status:
                # What a process calls itself is in none of these: its line has another name, and ends are escaped.
                fields = dict(line.split(b":", 1) for line in status.read().split(b"\n") if b":" in line)
                has_ended = fields[b"State"].split()[0] == b"Z" and fields[b"Threads"].split() == [b"1"]
                if int(fields[b"Uid"].split()[0]) == uid and not has_ended:
                    return True
    return False


def remove_objects(kind: str, uid: int) -> int:
    """Remove the System V objects of a kind that this uid has; how many are left. Raises OSError."""
    try:
        with open(f"/proc/sysvipc/{kind}") as listed:
            names = listed.readline().split()
            rows = [dict(zip(names, line.split(), strict=False)) for line in listed]
    except FileNotFoundError:
        return 0  # A kernel without them.
    key = "msqid" if kind == "msg" else f"{kind}id"
    # A set: where others come and go meanwhile, the kernel may list one twice.
    ours = {int(row[key]) for row in rows if str(uid) in (row["uid"], row["cuid"])}
    return sum(not remove_object(kind, number) for number in ours)


def remove_object(kind: str, number: int) -> bool:
    """Remove a System V object; False if it is still there."""
    arguments = (number, 0, IPC_RMID) if kind == "sem" else (number, IPC_RMID, ctypes.c_void_p(None))
    failed = getattr(libc, f"{kind}ctl")(*arguments)
    return not failed or ctypes.get_errno() in (errno.EINVAL, errno.EIDRM)


def remove_files(place: str, uid: int) -> int:
    """Remove what this uid has in a directory that is everybody's, and in those in it; how much could not be."""
    left, directories = 0, [place]
    while directories:
        directory = directories.pop()
        try:
            with os.scandir(directory) as found:
                entries = list(found)
        except OSError:
            continue  # Whatever is in one that may not be read is not of this uid's making.
        for entry in entries:
            try:
                owner, is_directory = (
                    entry.stat(follow_symlinks=False).st_uid,
                    entry.is_dir(follow_symlinks=False),
                )
                if owner == uid:
                    remove_tree(directory, entry.name) if is_directory else os.unlink(entry.path)
                elif is_directory:
                    directories.append(entry.path)
            except FileNotFoundError:
                continue
            except OSError:
                left += 1
    return left


def remove_tree(parent: str, name: str) -> None:
    """Remove a directory of our own. What is deep in it is moved up first: paths have a longest. Raises OSError."""
    top = os.path.join(parent, name)
    os.chmod(top, 0o700)
    count = 0
    while True:
        with os.scandir(top) as found:
            entries = list(found)
        if not entries:
            break
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
                continue
            os.chmod(entry.path, 0o700)
            with os.scandir(entry.path) as deeper:
                for inner in list(deeper):
                    if inner.is_dir(follow_symlinks=False):
                        # One that may not be written to cannot be moved out of where it is (rename(2)).
                        os.chmod(inner.path, 0o700)
                    count += 1
                    os.rename(inner.path, os.path.join(top, f"ringfence-up-{count}"))
            os.rmdir(entry.path)
    os.rmdir(top)
