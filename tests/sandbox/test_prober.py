"""What is remembered of a host, for how long, and what is looked for again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from ringfence.sandbox.capabilities.found import MacvlanAddresses, Missing, Node, PastaProgram, SlirpProgram
from ringfence.sandbox.capabilities.model import Capabilities
from ringfence.sandbox.capabilities.prober import RENEW_S, Prober
from ringfence.sandbox.egress import HostNetwork

from tests.sandbox.hosts import cgroup, linux
from tests.waiting import wait_until

SLIRP, PASTA, NODE = (
    SlirpProgram("/usr/bin/slirp4netns"),
    PastaProgram("/usr/bin/pasta"),
    Node("/usr/bin/node", "v20"),
)


class Machine:
    """A machine that answers what it is told to, and counts how often it is looked at."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.looks = self.glances = 0
        self.has: Capabilities = linux(
            cgroup=cgroup("/c"), pasta=PASTA, macvlan=MacvlanAddresses.of("eth0 192.0.2.9/24 via 192.0.2.1")
        )
        self.meanwhile: Callable[[], None] = lambda: None
        self.prober = Prober(self.look, self.glance)

    def glance(self) -> float:
        """The time, which goes on with each look at the clock."""
        self.glances += 1
        self.now += 0.001
        return self.now

    def look(self, _: bool) -> Capabilities:
        self.looks += 1
        self.meanwhile()
        return self.has

    def lacks(self, *, passing: bool, name: str = "slirp4netns") -> None:
        lost: dict[str, Any] = {name: Missing(reason="no", passing=passing)}
        self.has = replace(self.has, **lost)

    def find(self) -> Capabilities:
        return self.prober.find(True)


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_what_works_is_looked_for_once(machine: Machine) -> None:
    first = machine.find()
    machine.now += 10 * RENEW_S

    assert machine.find() is first
    assert machine.prober.known(True) is first
    assert machine.looks == 1


def test_a_failure_that_may_pass_is_never_remembered(machine: Machine) -> None:
    machine.lacks(passing=True)

    assert not machine.find().slirp4netns.available
    assert machine.prober.known(True) is None
    assert not machine.find().slirp4netns.available
    assert machine.looks == 2
    machine.has = replace(machine.has, slirp4netns=SLIRP)
    assert machine.find().slirp4netns.available


def test_nor_is_what_could_not_be_read(machine: Machine) -> None:
    whole = machine.has
    machine.has = replace(whole, host_network=HostNetwork(read=False))

    machine.find()

    assert machine.prober.known(True) is None
    machine.has = whole
    assert machine.find() is whole


def test_what_worked_is_not_forgotten_for_a_failure_that_may_pass(machine: Machine) -> None:
    machine.lacks(passing=True, name="node")
    before = machine.find()
    machine.lacks(passing=True)
    machine.has = replace(machine.has, node=NODE, host_network=HostNetwork(read=False))

    after = machine.find()

    assert after.slirp4netns == before.slirp4netns == SLIRP
    assert after.host_network == before.host_network
    assert after.node == NODE
    machine.lacks(passing=False, name="node")
    machine.now += RENEW_S
    assert machine.find() is after, "nothing was missing, so nothing is looked for again"


def test_what_the_host_does_not_have_is_looked_for_again_after_a_while_beside_the_runs(
    machine: Machine,
) -> None:
    machine.lacks(passing=False)
    without = machine.find()
    machine.has = replace(machine.has, slirp4netns=SLIRP)

    machine.now += RENEW_S - 1
    assert machine.find() is without
    assert machine.looks == 1
    machine.now += 1
    assert machine.find() is without, "no run waits for it"

    wait_until(lambda: machine.find().slirp4netns.available)
    assert machine.looks == 2


def test_those_who_ask_at_once_wait_for_the_same_look_but_not_for_one_from_before(machine: Machine) -> None:
    machine.lacks(passing=True)
    answers: list[Capabilities] = []

    def ask() -> None:
        answers.append(machine.find())

    others = [threading.Thread(target=ask) for _ in range(5)]

    def more() -> None:
        # While the first one looks, others come; what it finds is older than their question.
        machine.meanwhile = lambda: None
        before = machine.glances
        for other in others:
            other.start()
        wait_until(lambda: machine.glances == before + len(others))

    machine.meanwhile = more
    ask()
    for other in others:
        other.join()

    assert len(answers) == 6
    assert machine.looks == 2
