"""Put a sandbox into a cgroup of its own while it waits for its script, on a thread of its own.

To move a process takes the kernel a grace period, some milliseconds in which nothing else can be done here. A sandbox
that was prepared before it is wanted has these behind it.
"""

from __future__ import annotations

import os
import select
import socket
import time
from concurrent.futures import Future
from dataclasses import dataclass

from ringfence.sandbox.limits.cgroups.groups import make_group
from ringfence.sandbox.limits.cgroups.place import Place
from ringfence.sandbox.limits.cgroups.run_group import RunGroup
from ringfence.sandbox.policy import Resources
from ringfence.sandbox.processes.descent import descendants
from ringfence.sandbox.processes.pidfds import init_of, pid_of
from ringfence.sandbox.processes.spawner import SpawnFailed, Started, receive
from ringfence.sandbox.workers import ENTRIES

TIMEOUT_S = 30.0
"""How long the wrapper may take until it tells of its init."""


@dataclass(frozen=True, slots=True)
class Entered:
    """What was learnt of a sandbox on the way; the pidfds and the group are the receiver's to close.

    `init` and `group` are None if the sandbox ended before, which its other descriptors tell; `failure` is why one
    that lives could not be put into a cgroup.
    """

    monitor: Started | None = None
    info: bytes = b""
    init: int | None = None
    group: RunGroup | None = None
    failure: str | None = None


def enter(answers: socket.socket, info: int, place: Place, limits: Resources) -> Future[Entered]:
    """Begin to move the sandbox whose replies come on `answers` and `info`; nobody else may read them until then."""
    return ENTRIES.submit(_enter, answers, info, place, limits)


def _enter(answers: socket.socket, info: int, place: Place, limits: Resources) -> Entered:
    deadline = time.monotonic() + TIMEOUT_S
    try:
        _wait(answers.fileno(), deadline)
        monitor = receive(answers)
        assert isinstance(monitor, Started), "the first reply is never an end"
    except (SpawnFailed, TimeoutError) as error:
        return Entered(failure=str(error))
    told = b""
    try:
        while b"\n" not in told:
            _wait(info, deadline)
            data = os.read(info, 4096)
            if not data:
                return Entered(monitor, told)
            told += data
    except TimeoutError as error:
        return Entered(monitor, told, failure=str(error))
    init = group = None
    try:
        init = init_of(told, monitor.pid)
        if init is None:
            return Entered(monitor, told)
        group = make_group(place, memory_bytes=limits.memory_bytes, processes=limits.max_processes + 1)
        pid = pid_of(init)
        # Its init goes first, so that whatever is not born yet is born inside.
        group.take([pid])
        group.take(descendants(pid))
    except OSError as error:
        failure = f"the run cannot be put into a cgroup under {place.subtree}: {error.strerror}"
        return Entered(monitor, told, init, group, failure)
    return Entered(monitor, told, init, group)


def _wait(descriptor: int, deadline: float) -> None:
    """Wait until there is something to read. Raises TimeoutError."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
        raise TimeoutError("the wrapper does not answer")
