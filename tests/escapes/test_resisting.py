"""Runs that are made hard to end: their init gets no processor time, or there is more to kill than meets the eye.

The filter keeps a script from doing to its init what is done here. So it is done from outside, as if the filter were
not there: the kill does not rely on it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ringfence.sandbox.processes.descent import descendants, threads
from ringfence.scripts import Stopped

from tests.escapes.conftest import Supervisor
from tests.waiting import wait_until

SPINNERS = """
import os, signal
for _ in range(50):
    if os.fork() == 0:
        while True: pass
"""
THREADS = (
    """
import threading, time
threading.stack_size(64 * 1024)
for _ in range(100):
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
"""
    + SPINNERS
)
SESSIONS = """
import os, signal
for _ in range(50):
    if os.fork() == 0:
        os.setsid()
        while True: pass
"""
BOMB = """
import os, signal
for _ in range(5):
    os.fork()
if os.getpid() != 2:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        try:
            if os.fork(): os._exit(0)
            os.setsid()
        except OSError:
            pass
"""
# Its first process writes more than it may, when it is told to: so it is stopped when all is ready.
READY = """
import os, signal, time
signal.signal(signal.SIGUSR1, lambda *_: (os.write(1, b'x' * 100_000), None))
"""
WAITING = """
while True: time.sleep(0.05)
"""

DEADLINE_SECONDS = 30.0
"""An end that waits for a turn of the demoted init takes minutes."""


@dataclass(frozen=True)
class Victims:
    """The processes of a run, by their pids outside, and by descriptors: a pid may soon be somebody else's."""

    init: int
    first: int
    all: dict[int, int]

    def signal(self, pid: int, number: int) -> None:
        """Signal one of them, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.all[pid], number)

    def alive(self) -> list[int]:
        """Those that have not ended."""
        ended = select.select(self.all.values(), [], [], 0)[0]
        return [pid for pid, pidfd in self.all.items() if pidfd not in ended]


def namespaced(pid: int) -> list[int]:
    """A process's pids, from the outermost namespace to its own."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return [int(number) for number in line.split()[1:]]
    return []


def found(supervisor: Supervisor, most: int) -> Victims | None:
    """The run's processes, once there are as many processes and threads in it as are to come."""
    spaces: dict[str, list[int]] = {}
    for pid in descendants(supervisor.pid):
        with contextlib.suppress(OSError):
            spaces.setdefault(os.readlink(f"/proc/{pid}/ns/pid"), []).append(pid)
    for pids in spaces.values():
        inside = {namespaced(pid)[-1]: pid for pid in pids if namespaced(pid)}
        if {1, 2} <= set(inside) and sum(len(threads(pid)) for pid in pids) >= most:
            return Victims(inside[1], inside[2], dict(descriptors(pids)))
    return None


def descriptors(pids: list[int]) -> Iterator[tuple[int, int]]:
    """A pidfd for each that is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            yield pid, os.pidfd_open(pid)


def demote(victims: Victims) -> None:
    """Leave init one processor, which it has with all others, and that only when none of them wants it."""
    for pid in victims.all:
        for thread in threads(pid):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(thread, {min(os.sched_getaffinity(0))})
    os.sched_setscheduler(victims.init, os.SCHED_IDLE, os.sched_param(0))


@contextlib.contextmanager
def resisting(supervisor: Supervisor, script: str, most: int) -> Iterator[Victims]:
    """A run of that script which is hard to end; afterwards, nothing of it burdens the machine."""
    policy = {"resources": {"maxOutputBytes": 1000, "cpuSeconds": 600}}
    supervisor.begin(
        [supervisor.order("python", READY + script + WAITING, policy=policy, timeout_ms=120_000)]
    )
    victims = wait_until(lambda: found(supervisor, most), "so many processes in the run")
    assert victims is not None
    try:
        demote(victims)
        yield victims
    finally:
        for pid in victims.all:
            victims.signal(pid, signal.SIGKILL)
        for pidfd in victims.all.values():
            os.close(pidfd)


def assert_dead(victims: Victims, supervisor: Supervisor) -> None:
    """Nothing of the run is alive, but for a killed init that only root could have given a turn to end in."""
    is_root = os.stat(f"/proc/{supervisor.pid}").st_uid == 0
    assert set(victims.alive()) <= (set() if is_root else {victims.init})


@pytest.mark.parametrize(
    ("script", "most"),
    [(SPINNERS, 51), (THREADS, 151), (SESSIONS, 51)],
    ids=["processes", "threads", "sessions"],
)
def test_a_stop_does_not_wait_for_an_init_that_is_kept_from_ending(
    cold_supervisor: Supervisor, script: str, most: int
) -> None:
    with resisting(cold_supervisor, script, most) as victims:
        victims.signal(victims.first, signal.SIGUSR1)
        [result] = cold_supervisor.end(DEADLINE_SECONDS)
        assert_dead(victims, cold_supervisor)
    assert result.stopped is Stopped.OUTPUT
    assert not [note for note in result.sandbox.notes if "could not be killed" in note.note]


@pytest.mark.slow
def test_a_fork_bomb_whose_processes_come_and_go_is_stopped(cold_supervisor: Supervisor) -> None:
    with resisting(cold_supervisor, BOMB, 20) as victims:
        victims.signal(victims.first, signal.SIGUSR1)
        [result] = cold_supervisor.end(DEADLINE_SECONDS)
        assert_dead(victims, cold_supervisor)
    assert result.stopped is Stopped.OUTPUT
