"""What a run may claim of the machine: the least that a process can, whatever the supervisor has.

Huge pages among that: one of which a process has given back all but a piece is kept whole until memory is short, while
the process is told to have no more than the piece.

The limits are the spawner's own already, which needs no more, and so each child's. The rest it keeps for itself, so
that no run can starve it, and each child is given less: by itself after a fork, or by the spawner while it waits (see
`starting`).
"""

from __future__ import annotations

import contextlib
import os
import resource

from .identity import dumpable
from .libc import libc

IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
"""The number of ioprio_set(2), which has no name in libc."""
IOPRIO_WHO_PROCESS, IOPRIO_CLASS_IDLE = 1, 3 << 13

SMALL_LIMITS = {
    resource.RLIMIT_RTPRIO: 0,
    resource.RLIMIT_NICE: 0,
    resource.RLIMIT_SIGPENDING: 1024,
    resource.RLIMIT_MSGQUEUE: 256 * 1024,
    resource.RLIMIT_MEMLOCK: 64 * 1024,
}
"""Limits of what no policy speaks of: real time, better priority, signals and timers, queues, locked memory."""

LOWEST_NICE = 19

PR_SET_THP_DISABLE = 41
"""Of prctl(2): children and programs inherit it, and the filter keeps scripts from undoing it."""

_ioprio_set = IOPRIO_SET.get(os.uname().machine)


def have_small_limits() -> None:
    """Have the limits of a run already, no huge pages, and nothing of what comes of us in any core dump."""
    libc.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
    for kind, most in SMALL_LIMITS.items():
        limit(kind, most, most)
    with dumpable():
        _write("/proc/self/coredump_filter", b"0")


def lower_claims(pid: int = 0) -> None:
    """Give a process the lowest claims on the machine that it can have, whatever those of the supervisor are.

    It is this one, or a child that has the same identity at this moment. What a kernel does not have, or does not let
    us change, is left as it is: nothing of this is claimed of a run.
    """
    if os.sched_getscheduler(pid) not in (os.SCHED_BATCH, os.SCHED_IDLE):
        # Out of real time, too, which is nothing that takes a privilege.
        os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, pid, LOWEST_NICE)
    if _ioprio_set is not None:
        libc.syscall(_ioprio_set, IOPRIO_WHO_PROCESS, pid, IOPRIO_CLASS_IDLE)
    # It is the first to go when memory is short.
    if pid:
        _write(f"/proc/{pid}/oom_score_adj", b"1000")
    else:
        with dumpable():
            _write("/proc/self/oom_score_adj", b"1000")


def limit(kind: int, soft: int, hard: int) -> None:
    """Lower a limit to these values, or to what it is already if that is less."""
    _, ceiling = resource.getrlimit(kind)
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(kind, (soft, hard))


def _write(path: str, text: bytes) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text)
        finally:
            os.close(descriptor)
