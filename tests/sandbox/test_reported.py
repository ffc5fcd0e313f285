"""What another machine tells of its capabilities is read as what it is there, or as missing; none of it is trusted."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, SandboxPolicy, overlay
from ringfence.sandbox.capabilities.document import to_wire
from ringfence.sandbox.capabilities.found import (
    EgressRelay,
    Found,
    InstalledWrapper,
    MacvlanAddresses,
    Missing,
    PastaProgram,
    Python,
    TunDevice,
    Uids,
)
from ringfence.sandbox.capabilities.model import Capabilities
from ringfence.sandbox.capabilities.reported import MOST_TEXT, from_wire
from ringfence.sandbox.egress import HostNetwork
from ringfence.sandbox.identities.identity import Identity
from ringfence.sandbox.identities.uids import SubordinateRange
from ringfence.sandbox.plan.decide import plan
from ringfence.sandbox.plan.model import Inputs, Interpreter, Plan, Refusal
from ringfence.sandbox.wrappers.choice import WrapperKind
from ringfence.sandbox.wrappers.installed import Program

from tests.sandbox.hosts import cgroup, linux, macos, with_blocked_namespaces, with_nothing, without_wrapper

OWN = Identity(1001, 1001)
HOSTS = {
    "everything": linux(),
    "nothing": with_nothing(),
    "no wrapper": without_wrapper(),
    "no namespaces": with_blocked_namespaces(),
    "another system": macos(),
    "not root": linux(
        supervisor_uid=1001, supervisor_gid=1001, uids=Uids(SubordinateRange(100_000, 165_535, OWN))
    ),
    "nsjail": linux(
        wrapper_kind=WrapperKind.NSJAIL,
        wrapper=InstalledWrapper(WrapperKind.NSJAIL, Program("/usr/bin/nsjail", "", "system", ("/l.so",))),
    ),
    "cgroup v2": linux(cgroup=cgroup("/sys/fs/cgroup/unit", mounts=("/sys/fs/cgroup",))),
    "a scope": linux(cgroup=cgroup("/c/a.scope", is_scope=True)),
    "cgroup v1": linux(cgroup=cgroup("/m/unit", "/p/unit", mounts=("/m", "/p"))),
    "cgroup v1, mounted together": linux(cgroup=cgroup("/m/unit", "/m/unit", mounts=("/m",))),
    "pasta": linux(
        slirp4netns=Missing("not installed"),
        pasta=PastaProgram("/usr/bin/pasta"),
        tun=TunDevice(own_node=True),
    ),
    "a relay": linux(relay=EgressRelay(pings=True)),
    "a relay without ping": linux(relay=EgressRelay(pings=False)),
    "macvlan": linux(macvlan=MacvlanAddresses.of("eth0 192.0.2.100-192.0.2.101/24 via 192.0.2.1")),
    "no filter": linux(nft=Missing("nft is not installed")),
    "for now": linux(seccomp=Missing("Resource temporarily unavailable", passing=True)),
    "no Node": linux(
        node=Missing("not asked for", tried=False),
        python=Python("/opt/py/bin/python3", "3.12.1", ("/opt/py",)),
    ),
    "resolvers": linux(
        host_network=HostNetwork((ip_address("10.0.0.53"),), has_ipv6=True, lists_pairs=False),
        core_pattern="@/run/cores",
    ),
}
POLICIES = [
    DEFAULT_POLICY,
    overlay(DEFAULT_POLICY, {"enabled": False}),
    overlay(DEFAULT_POLICY, {"network": {"allow": ["10.0.0.5:443", "10.0.0.53:53"]}}),
    overlay(DEFAULT_POLICY, {"network": {"allow": ["api.example.com:443", "localhost:8080"]}}),
    overlay(DEFAULT_POLICY, {"network": {"mode": "unrestricted"}, "onUnavailable": "degrade"}),
    overlay(DEFAULT_POLICY, {"privilege": {"mode": "inherit"}, "filesystem": {"mode": "off"}}),
]


def told_by(host: Capabilities) -> Any:
    return json.loads(json.dumps(to_wire(host)))


def outcome(host: Capabilities, policy: SandboxPolicy, interpreter: Interpreter) -> tuple[type, object]:
    planned = plan(host, PolicySnapshot(policy, revision=1), Inputs(interpreter))
    return type(planned), planned.report


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
def test_a_plan_from_what_a_machine_tells_is_the_plan_that_it_makes_itself(
    host: Capabilities, policy: SandboxPolicy
) -> None:
    for interpreter in Interpreter:
        assert outcome(from_wire(told_by(host)), policy, interpreter) == outcome(host, policy, interpreter)


@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
def test_what_was_read_is_told_in_the_same_words_again(host: Capabilities) -> None:
    document = told_by(host)
    again = json.loads(json.dumps(to_wire(from_wire(document))))
    for name in ("identityDrop", "uids"):
        # How many there are, and for whom, is not what a plan goes by.
        del document[name]["detail"], again[name]["detail"]
    assert again == document


@pytest.mark.parametrize("name", [name for name, each in linux().primitives() if isinstance(each, Found)])
def test_what_an_older_machine_does_not_tell_of_is_missing(name: str) -> None:
    document = told_by(linux())
    del document[name]
    assert isinstance(dict(from_wire(document).primitives())[name], Missing)


@pytest.mark.parametrize("told", [None, [], "linux", 7, {}, {"system": "linux"}])
def test_a_machine_that_tells_nothing_is_given_no_run(told: object) -> None:
    found = from_wire(told)
    assert all(isinstance(each, Missing) for _, each in found.primitives())
    assert isinstance(plan(found, PolicySnapshot.default(), Inputs(Interpreter.SHELL)), Refusal)


def test_a_long_reason_is_cut_and_cannot_steer_a_terminal() -> None:
    document = told_by(linux())
    document["nft"] = {"available": False, "reason": "\x1b[2J" + "x" * 10_000}
    reason = dict(from_wire(document).primitives())["nft"]
    assert isinstance(reason, Missing)
    assert len(reason.reason) == MOST_TEXT
    assert reason.reason.isprintable()


@pytest.mark.parametrize("yes", [1, "true", "yes", [True], {"it": True}])
def test_only_true_makes_a_primitive_available(yes: object) -> None:
    document = told_by(linux())
    document["seccomp"] = {**document["seccomp"], "available": yes}
    assert isinstance(from_wire(document).seccomp, Missing)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
WHERE = st.lists(st.integers(min_value=0, max_value=40), min_size=1, max_size=3)


@given(document=JSON, policy=st.sampled_from(POLICIES))
def test_no_document_at_all_breaks_the_reader_or_the_plan(document: object, policy: SandboxPolicy) -> None:
    assert isinstance(
        plan(from_wire(document), PolicySnapshot(policy), Inputs(Interpreter.SHELL)), Plan | Refusal
    )


@given(
    host=st.sampled_from(list(HOSTS.values())),
    where=WHERE,
    instead=JSON,
    interpreter=st.sampled_from(Interpreter),
    policy=st.sampled_from(POLICIES),
)
def test_nor_does_a_true_one_with_anything_in_place_of_one_of_its_parts(
    host: Capabilities, where: list[int], instead: object, interpreter: Interpreter, policy: SandboxPolicy
) -> None:
    document = told_by(host)
    place = document
    for step in where[:-1]:
        inner = list(place.values())[step % len(place)] if isinstance(place, dict) and place else None
        place = inner if isinstance(inner, dict) and inner else place
    place[list(place)[where[-1] % len(place)]] = instead
    found = from_wire(document)
    assert hash(found) == hash(replace(found))
    assert isinstance(plan(found, PolicySnapshot(policy), Inputs(interpreter)), Plan | Refusal)


def test_every_primitive_that_there_is_can_be_told_of() -> None:
    everything = linux(
        cgroup=cgroup("/sys/fs/cgroup/unit"),
        relay=EgressRelay(pings=True),
        pasta=PastaProgram("/usr/bin/pasta"),
        macvlan=MacvlanAddresses.of("eth0 192.0.2.100-192.0.2.101/24 via 192.0.2.1"),
    )
    for found in (everything, from_wire(told_by(everything))):
        assert [name for name, each in found.primitives() if isinstance(each, Missing)] == []
