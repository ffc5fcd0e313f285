"""End every process of a run, whatever it has done to be hard to end.

Threat: a script that makes its end wait for itself. The kernel ends a PID namespace when its init ends, but ending is
work that init does, and a script may have seen to it that its init gets no processor time for that (an idle policy, one
processor shared with a hundred processes that spin). A fork bomb makes processes while others are killed; one process
may consist of hundreds of threads, each of which has to be run once to end.

Mechanism: every process is signalled, not only the one whose end should end them all; again and again, until init's
descriptor says that all are gone, or none is left alive. A process that was sent SIGKILL makes no new ones (fork(2)
fails with a signal pending), so each round leaves fewer. With a cgroup, the kernel signals all at once. Whoever is to
die is first given what it needs for that, as far as we may (root may): an ordinary policy and priority, all
processors. It is done by a thread of the supervisor, so neither the script's nor the event loop's turn matters.

Not covered: a process that waits in the kernel and cannot be interrupted (a network file system that does not answer)
dies when that is over. It is told of in the result, and so is what still lives when `BOUND_S` is over.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path

from ringfence.sandbox.cgroup import RunGroup
from ringfence.sandbox.descent import descendants, lives, parent, threads, walk
from ringfence.sandbox.pidfds import kill, pid_of

BOUND_S = 10.0
"""How long it is tried. What does not die within that is stuck in the kernel, or this machine is."""

SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.005, 0.1
"""Between two rounds: the first should be enough, and what needs more should not be kept from the processor by us."""


def kill_namespace(init: int, group: RunGroup | None = None) -> tuple[int, ...]:
    """End all processes of the PID namespace whose init is behind the pidfd `init`. Those that are left alive."""
    pid = pid_of(init)

    def strike() -> None:
        kill(init)
        if group is not None:
            with contextlib.suppress(OSError):
                group.kill()
        _strike(pid)
        _hasten(pid)

    def is_over(pause: float) -> bool:
        return _ended(init, pause)

    return () if _until(is_over, strike) else _living(pid)


def kill_under(pid: int) -> tuple[int, ...]:
    """End all processes that descend from `pid`, which lives on and reaps them. Those that are left alive."""

    def is_over(pause: float) -> bool:
        if not any(lives(found) for found in descendants(pid)):
            return True
        time.sleep(pause)
        return False

    return () if _until(is_over, lambda: _strike(pid)) else _living(pid)


def _until(is_over: Callable[[float], bool], strike: Callable[[], None]) -> bool:
    """Strike until it is over; whether it was, within the bound."""
    deadline = time.monotonic() + BOUND_S
    pause = SHORTEST_PAUSE_S
    while True:
        strike()
        if is_over(pause):
            return True
        if time.monotonic() > deadline:
            return False
        pause = min(pause * 2, LONGEST_PAUSE_S)


def _strike(root: int) -> None:
    """SIGKILL each process under `root`, and then see to it that it has the means to die."""
    struck = [child for child, above in walk(root) if _kill_child(child, above)]
    for pid in struck:
        _hasten(pid)


def _kill_child(pid: int, above: int) -> bool:
    """SIGKILL a process if it still is a child of `above`: its pid may be another's by now."""
    with contextlib.suppress(OSError):
        pidfd = os.pidfd_open(pid)
        try:
            if parent(pid) == above:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                return True
        finally:
            os.close(pidfd)
    return False


def _hasten(pid: int) -> None:
    """Give a process that was killed an ordinary place among the others, as far as we may."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_bytes(b"0")
    for thread in threads(pid):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(thread, range(os.cpu_count() or 1))
        with contextlib.suppress(OSError):
            os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, 0)


def _ended(pidfd: int, wait_s: float) -> bool:
    """Whether a process has ended, or does so soon; of a namespace's init, that all others have been reaped."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(wait_s * 1000))


def _living(root: int) -> tuple[int, ...]:
    return tuple(pid for pid in (root, *descendants(root)) if lives(pid))
