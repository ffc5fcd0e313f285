"""Processes by descriptor: a pid may be another's by the time it is used, a pidfd is not."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal

from ringfence.sandbox.processes.descent import children, look_at, short_text

_NO_PROCESS = frozenset({errno.ESRCH, errno.ENOENT, errno.EINVAL})
"""What pidfd_open(2) answers of a number that is no process's: nobody's, or a thread's (EINVAL in older kernels, ENOENT
in newer ones).
"""


def init_of(info: bytes, monitor: int) -> int | None:
    """A pidfd of the namespace's init, which the wrapper told of in its first line; None if it is gone.

    The pid that it told, if it knew one, is one of its own namespace; here, the init is the wrapper's only child. That
    it is still the same process is checked after opening: its parent must be the wrapper, which alone can reap it. Once
    it is gone, what was told may be anybody's number here, a thread's as well.
    """
    told = json.loads(info.partition(b"\n")[0]).get("child-pid")
    pid = _only_child(monitor) or told or next(iter(children(monitor)), None)
    if pid is None:
        return None
    try:
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        if error.errno not in _NO_PROCESS:
            raise
        return None
    process = look_at(pid)
    if process is not None and process.parent == monitor:
        return pidfd
    os.close(pidfd)
    return None


def _only_child(pid: int) -> int | None:
    """The child of a process that has one thread; None if it has none, or the kernel does not tell."""
    with contextlib.suppress(OSError, IndexError):
        return int(short_text(f"/proc/{pid}/task/{pid}/children").split()[0])
    return None


def pid_of(pidfd: int) -> int:
    """The pid behind a pidfd, in our namespace; -1, which no path in `/proc` has, when it is gone."""
    _, found, rest = short_text(f"/proc/self/fdinfo/{pidfd}").partition(b"\nPid:")
    return int(rest.partition(b"\n")[0]) if found else -1


def kill(pidfd: int) -> None:
    """SIGKILL a process; with a namespace's init, all that is in the namespace as soon as that ends.

    Nothing happens if it is gone, or not ours to kill: whether it ends is what its descriptor tells.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
