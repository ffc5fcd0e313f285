"""End every process of a run, whatever it has done to be hard to end.

Threat: a script that makes its end wait for itself. The kernel ends a PID namespace when its init ends, but ending is
work that init does, and a script may have seen to it that its init gets no processor time for that (an idle policy, one
processor shared with a hundred processes that spin). A fork bomb makes processes while others are killed; one process
may consist of hundreds of threads, each of which has to be run once to end.

Mechanism: every process is signalled, not only the one whose end should end them all; again and again, until init's
descriptor says that all are gone, or none but init is left alive. A process that was sent SIGKILL makes no new ones
(fork(2) fails with a signal pending), so each round leaves fewer. With a cgroup, the kernel signals all at once. What
has to die is first given what it needs for that, as far as we may (root may): an ordinary policy and priority, all
processors. A thread of the supervisor does it, so neither the script's turn nor the event loop's matters.

Not covered: a process that waits in the kernel and cannot be interrupted (a network file system that does not answer)
dies when that is over. It is told of in the result, and so is what still lives when `BOUND_S` is over. A killed init
that a supervisor without root cannot give a turn goes when the machine has one to spare; until then it holds the memory
of the run's files.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Iterator
from pathlib import Path

from ringfence.sandbox.limits.cgroups.run_group import RunGroup
from ringfence.sandbox.processes.descent import Process, look_at, threads, walk
from ringfence.sandbox.processes.pidfds import kill, pid_of

BOUND_S = 30.0
"""How long it is tried. What does not die within that is stuck in the kernel, or this machine is."""

GRACE_S = 0.2
"""How long an init may take to end when it is the last of its namespace, before it is not waited for."""

SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.005, 0.1
"""Between two rounds: the first should be enough, and what needs more should not be kept from the processor by us."""


def kill_namespace(init: int, group: RunGroup | None = None) -> tuple[int, ...]:
    """End all processes of the PID namespace whose init is behind the pidfd `init`. Those that are left alive."""
    pid = pid_of(init)
    last_seen = time.monotonic()
    for pause in _pauses():
        kill(init)
        if group is not None:
            with contextlib.suppress(OSError):
                group.kill()
        living = _strike(pid)
        _hasten(pid)
        if _ended(init, pause):
            return ()
        if living:
            last_seen = time.monotonic()
        elif time.monotonic() - last_seen > GRACE_S:
            # Init was killed, so it runs nothing any more and makes no process; all that it has left to do is to end.
            return ()
    return (pid, *living)


def kill_under(pid: int) -> tuple[int, ...]:
    """End all processes that descend from `pid`, which lives on and reaps them. Those that are left alive."""
    for pause in _pauses():
        living = _strike(pid)
        if not living:
            return ()
        time.sleep(pause)
    return living


def _pauses() -> Iterator[float]:
    """How long to wait after each round, for as long as it is tried; at least one."""
    deadline = time.monotonic() + BOUND_S
    pause = SHORTEST_PAUSE_S
    yield pause
    while time.monotonic() < deadline:
        pause = min(pause * 2, LONGEST_PAUSE_S)
        yield pause


def _strike(root: int) -> tuple[int, ...]:
    """SIGKILL each living process under `root`, and then see to it that it has the means to die.

    All are found first: what has lost its parent is found under another, if it is still looked for.
    """
    living = [process for process in walk(root) if process.lives]
    for process in living:
        _kill(process)
    for process in living:
        _hasten(process.pid)
    return tuple(process.pid for process in living)


def _kill(process: Process) -> None:
    """SIGKILL a process, if its pid is not another's by now."""
    with contextlib.suppress(OSError):
        pidfd = os.pidfd_open(process.pid)
        try:
            now = look_at(process.pid)
            if now is not None and now.started == process.started:
                kill(pidfd)
        finally:
            os.close(pidfd)


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
