"""Put a sandbox into a cgroup of its own, and give it its relay, while it waits for its script: on a thread.

To move a process takes the kernel a grace period, and a relay takes a fork or two: some milliseconds in which nothing
else can be done here. A sandbox that was prepared before it is wanted has these behind it.

One that gets neither needs no thread. What it tells is taken in when it is there (`told`), so that the run that takes
it finds that done.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from concurrent.futures import Future
from dataclasses import dataclass

from ringfence.sandbox.egress import LinkFailed, RelayLink, attach_relay
from ringfence.sandbox.identities.identity import Identity
from ringfence.sandbox.identities.leases import Lease
from ringfence.sandbox.limits.cgroups.groups import make_group
from ringfence.sandbox.limits.cgroups.run_group import RunGroup
from ringfence.sandbox.plan.model import Plan
from ringfence.sandbox.processes.descent import descendants
from ringfence.sandbox.processes.pidfds import init_of, pid_of
from ringfence.sandbox.processes.spawner import SpawnFailed, Started, receive
from ringfence.sandbox.workers import ENTRIES

TIMEOUT_S = 30.0
"""How long the wrapper may take until it tells of its init."""


@dataclass(frozen=True, slots=True)
class Entered:
    """What was learnt of a sandbox on the way; the pidfds, the group and the relay are the receiver's to close.

    `init`, `group` and `relay` are None if the sandbox ended before, which its other descriptors tell, or is to have
    none; `failure` is why one that lives could not get what it is to have.
    """

    monitor: Started | None = None
    info: bytes = b""
    init: int | None = None
    group: RunGroup | None = None
    relay: RelayLink | None = None
    failure: str | None = None


def enters(plan: Plan) -> bool:
    """Whether a sandbox of this plan has to get anything before it can start."""
    return plan.cgroup is not None or plan.relay is not None


def enter(answers: socket.socket, info: int, plan: Plan, owner: Identity | Lease) -> Future[Entered]:
    """Begin with the sandbox whose replies come on `answers` and `info`; nobody else may read them until then."""
    return ENTRIES.submit(_enter, answers, info, plan, owner)


def told(answers: socket.socket, info: int) -> Entered | None:
    """What a sandbox has told that gets nothing; None as long as that is nothing. Does not wait."""
    try:
        monitor = receive(answers)
    except BlockingIOError:
        return None
    except SpawnFailed as error:
        return Entered(failure=str(error))
    assert isinstance(monitor, Started), "the first reply is never an end"
    data, init = b"", None
    # What is not there yet, or cannot be taken in now, is left to the run.
    with contextlib.suppress(OSError):
        data = os.read(info, 4096)
        init = init_of(data, monitor.pid) if b"\n" in data else None
    return Entered(monitor, data, init)


def _enter(answers: socket.socket, info: int, plan: Plan, owner: Identity | Lease) -> Entered:
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
    init = group = relay = None
    try:
        init = init_of(told, monitor.pid)
        if init is None:
            return Entered(monitor, told)
        if plan.cgroup is not None:
            group = _group(plan, pid_of(init))
        if plan.relay is not None:
            relay = attach_relay(plan.relay, pid_of(init), owner)
    except (OSError, LinkFailed) as error:
        return Entered(monitor, told, init, group, failure=_words(error))
    return Entered(monitor, told, init, group, relay)


def _group(plan: Plan, pid: int) -> RunGroup:
    """The run's cgroup, with all of its processes in it. Raises OSError."""
    assert plan.cgroup is not None
    limits = plan.resources
    group = None
    try:
        group = make_group(plan.cgroup, memory_bytes=limits.memory_bytes, processes=limits.max_processes + 1)
        # Its init goes first, so that whatever is not born yet is born inside.
        group.take([pid])
        group.take(descendants(pid))
    except OSError as error:
        if group is not None:
            group.close()
        reason = f"the run cannot be put into a cgroup under {plan.cgroup.subtree}: {error.strerror}"
        raise OSError(error.errno, reason) from error
    return group


def _words(error: OSError | LinkFailed) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _wait(descriptor: int, deadline: float) -> None:
    """Wait until there is something to read. Raises TimeoutError."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
        raise TimeoutError("the wrapper does not answer")
