"""A link by relay: the supervisor's side of the process that makes a run's connections for it (see `relaying`).

Threat: a script reaches what the policy did not name, or loosens what holds it.
Mechanism: the run's network namespace has no link at all. What the run sends comes to sockets of a process outside,
which decides by the policy, connects by itself, and passes bytes on. Nothing that is done inside the namespace can
make it otherwise: there is no filter in it that could be changed, and no way out of it.
Not covered: what an allowed destination passes on to others; several names at one address (see `relaying`).
"""

from __future__ import annotations

import functools
import json
import os
import select
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ringfence.sandbox.egress import relay_main
from ringfence.sandbox.egress.link.program import LinkFailed
from ringfence.sandbox.egress.plan import Relay
from ringfence.sandbox.faults import is_passing
from ringfence.sandbox.identities.identity import Identity
from ringfence.sandbox.identities.leases import Lease
from ringfence.sandbox.processes.spawner import Spawner, SpawnFailed, is_ready, spawner_for

PROGRAM = Path(relay_main.__file__)

LIMITS = {"RLIMIT_DATA": 512 * 1024**2, "RLIMIT_NOFILE": 8192}
"""What a relay may have: in its memory is what waits for an end that takes none."""

READY_S = 10.0
TELLING_S = 5.0
"""How long a relay may take to be ready, and to tell what was tried."""

MOST_TOLD = 2 * 1024**2
"""The most that is read of what a relay tells; its record is bounded to far less."""


def relay_is_ready(owner: Identity | Lease) -> bool:
    """Whether a relay of that owner's could be started without waiting for what starts it."""
    leaving = isinstance(owner, Lease)
    identity = owner.spawner if isinstance(owner, Lease) else owner
    return is_ready(identity, PROGRAM, plain=True, leaving=leaving)


def _spawner(owner: Identity | Lease) -> Spawner:
    if isinstance(owner, Lease):
        return spawner_for(owner.spawner, PROGRAM, plain=True, leaving=True)
    return spawner_for(owner, PROGRAM, plain=True)


@functools.lru_cache(maxsize=8)
def _orders(relay: Relay) -> bytes:
    """What a relay is told, which takes a while to write if it is long."""
    return relay.orders.to_json()


@dataclass(slots=True)
class RelayLink:
    """The relay of one run, until it is closed.

    Attributes:
        pings: whether the run can send echo requests, and they can be answered.
    """

    _control: socket.socket
    _answers: socket.socket
    pings: bool = False

    @property
    def is_there(self) -> bool:
        """Whether it still serves, as far as is known: until its end it says nothing."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        return not poll.poll(0)

    def finish(self) -> tuple[dict[str, Any] | None, str | None]:
        """End it: what the run has tried, or None and why that is not known.

        Takes its time: not for an event loop.
        """
        try:
            self._control.shutdown(socket.SHUT_WR)
            return _message(self._control, TELLING_S), None
        except OSError as error:
            return None, f"the relay: {error}"
        except LinkFailed as error:
            return None, str(error)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of it, and so end it."""
        self._control.close()
        self._answers.close()


def attach_relay(relay: Relay, pid: int, owner: Identity | Lease, *, bring_up: bool = False) -> RelayLink:
    """Start a relay for the network namespace of `pid`, as its owner, and wait until it serves.

    The wrapper brings the namespace's loopback up; where there is none, `bring_up` has the relay do it. It takes its
    time: not for an event loop.

    Raises:
        LinkFailed: if it does not serve; nothing of it is left.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    orders = os.memfd_create("ringfence-orders", os.MFD_CLOEXEC)
    try:
        with theirs:
            os.write(orders, _orders(relay))
            os.lseek(orders, 0, os.SEEK_SET)
            lease = owner if isinstance(owner, Lease) else None
            child = _spawner(owner).call(
                "relay",
                {"pid": pid, "bring_up": bring_up},
                [theirs.fileno(), orders],
                lease=lease,
                limits=LIMITS,
            )
    except (OSError, SpawnFailed) as error:
        ours.close()
        raise LinkFailed(f"the relay: {error}", passing=is_passing(error)) from error
    finally:
        os.close(orders)
    link = RelayLink(ours, child.answers)
    try:
        said = _message(ours, READY_S)
        if said.get("ready") is not True:
            why = str(said.get("failed", "it said something else"))
            raise LinkFailed(f"the relay: {why}", passing=is_passing(why))
    except (OSError, LinkFailed) as error:
        link.close()
        if isinstance(error, LinkFailed):
            raise
        raise LinkFailed(f"the relay: {error}", passing=True) from error
    link.pings = said.get("pings") is True
    return link


def _message(control: socket.socket, patience_s: float) -> dict[str, Any]:
    """One line of JSON. Raises LinkFailed if none comes in time."""
    deadline = time.monotonic() + patience_s
    told = bytearray()
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while not told.endswith(b"\n"):
        if not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
            raise LinkFailed(f"the relay has not answered within {patience_s:.0f} s", passing=True)
        data = control.recv(1 << 16)
        if not data:
            raise LinkFailed("the relay ended", passing=True)
        told += data
        if len(told) > MOST_TOLD:
            raise LinkFailed("the relay tells too much")
    read = json.loads(told)
    if not isinstance(read, dict):
        raise LinkFailed("the relay tells what is no record")
    return read
