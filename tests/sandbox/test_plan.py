"""The plan as a pure function, for hosts unlike this one."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, PolicySource, SandboxReport, overlay
from ringfence.sandbox.capabilities.advice import advice
from ringfence.sandbox.capabilities.found import EgressRelay, MacvlanAddresses, Missing, PastaProgram
from ringfence.sandbox.capabilities.model import Capabilities, describe
from ringfence.sandbox.egress import Macvlan, Pasta, Slirp
from ringfence.sandbox.plan.decide import plan
from ringfence.sandbox.plan.model import Inputs, Interpreter, Plan, Reach, Refusal

from tests.sandbox.hosts import linux, macos, with_nothing, without_wrapper

SHELL = Inputs(Interpreter.SHELL)
DEGRADE = {"onUnavailable": "degrade"}


def snapshot(partial: dict[str, Any] | None = None, **facts: Any) -> PolicySnapshot:
    return PolicySnapshot(overlay(DEFAULT_POLICY, partial or {}), revision=7, **facts)


def lacking(report: SandboxReport) -> dict[str, str]:
    return {downgrade.layer: downgrade.reason for downgrade in report.downgrades}


def planned(
    capabilities: Capabilities, partial: dict[str, Any] | None = None, inputs: Inputs = SHELL
) -> Plan:
    result = plan(capabilities, snapshot(partial), inputs)
    assert isinstance(result, Plan), lacking(result.report)
    return result


def refused(
    capabilities: Capabilities, partial: dict[str, Any] | None = None, inputs: Inputs = SHELL
) -> Refusal:
    result = plan(capabilities, snapshot(partial), inputs)
    assert isinstance(result, Refusal)
    return result


def bare() -> Capabilities:
    """A host without the wrapper and without Landlock: there is nothing to confine a script with."""
    return replace(without_wrapper(), landlock=Missing(reason="Function not implemented"))


def test_the_shipped_default_is_enforced_whole_without_any_network_plumbing() -> None:
    few = linux(slirp4netns=Missing(reason="-"), nft=Missing(reason="-"), landlock=Missing(reason="-"))
    result = planned(few)
    assert result.report.downgrades == ()
    assert all(result.report.enforced.model_dump().values())
    assert result.reach is Reach.NOTHING


def test_root_drops_to_the_sandbox_uid_and_takes_the_policys_ids_if_it_names_some() -> None:
    assert planned(linux()).identity == (65532, 65532)
    assert planned(linux(), {"privilege": {"uid": 1234}}).identity == (1234, 1234)
    assert planned(linux(), {"privilege": {"uid": 1234, "gid": 99}}).identity == (1234, 99)


def test_a_supervisor_that_is_not_root_hands_down_its_own_uid_and_says_if_another_was_named() -> None:
    user = linux(supervisor_uid=1000, supervisor_gid=1000)
    result = planned(user, {"privilege": {"uid": 1234}})
    assert result.identity == (1000, 1000)
    assert result.report.enforced.privilege
    assert any("only root can give those" in note.note for note in result.report.notes)


def test_inherited_root_is_never_called_a_drop() -> None:
    result = planned(linux(), {"privilege": {"mode": "inherit"}})
    assert result.identity == (0, 0)
    assert not result.report.enforced.privilege
    assert any("root" in note.note for note in result.report.notes)


@pytest.mark.parametrize("host", [with_nothing(), macos()])
def test_without_namespaces_the_default_policy_refuses_and_claims_nothing(host: Capabilities) -> None:
    report = refused(host).report
    assert not any(report.enforced.model_dump().values())
    assert {"filesystem", "network", "resources", "syscalls"} <= set(lacking(report))


def test_each_reason_says_what_is_lacking_on_this_very_host() -> None:
    assert "neither bundled nor on PATH" in lacking(refused(bare()).report)["filesystem"]
    assert "No permissions to create new namespace" in lacking(refused(with_nothing()).report)["network"]
    assert "this host is darwin" in lacking(refused(macos()).report)["filesystem"]


def test_degrading_goes_on_with_what_there_is_and_says_what_is_not() -> None:
    result = planned(bare(), DEGRADE)
    assert result.wrapper is None
    assert result.report.enforced.model_dump() == {
        "resources": False,
        "filesystem": False,
        "network": False,
        "privilege": True,
        "syscalls": False,
    }


def test_with_the_hosts_files_kept_the_bound_of_scratch_is_not_called_one_of_all_that_is_written() -> None:
    report = planned(linux(), {"filesystem": {"mode": "off"}}).report
    assert "the tmpfs on /tmp" in report.mechanisms["maxScratchBytes"]
    (note,) = [note.note for note in report.notes if note.layer == "resources"]
    assert "/dev/shm), is not bounded and stays until the run has ended" in note
    named = planned(linux(), {"filesystem": {"mode": "off"}, "privilege": {"uid": 1234}}).report
    assert any(note.note.endswith("is not bounded and stays") for note in named.notes)
    assert not [note for note in planned(linux()).report.notes if note.layer == "resources"]


def test_no_limits_is_a_downgrade_of_resources_alone() -> None:
    host = linux(rlimits=Missing(reason="a lowered resource limit did not take effect"))
    assert lacking(refused(host).report) == {
        "resources": "resource limits cannot be set: a lowered resource limit did not take effect"
    }


def test_a_network_namespace_that_cannot_be_made_is_a_downgrade_of_the_network_alone() -> None:
    host = linux(network_namespaces=Missing(reason="loopback: Failed RTM_NEWADDR"))
    result = planned(host, DEGRADE)
    assert set(lacking(result.report)) == {"network"}
    assert "RTM_NEWADDR" in lacking(result.report)["network"]
    assert result.report.enforced.filesystem
    assert result.reach is Reach.HOST


RELAY = EgressRelay(pings=True)
NAMES = {"network": {"allow": ["api.example.com:443", "10.0.0.5:443"]}}


def test_a_relay_serves_an_allowlist_without_a_packet_filter_or_a_stack() -> None:
    alone = linux(relay=RELAY, nft=Missing("none"), slirp4netns=Missing("none"), tun=Missing("none"))

    result = planned(alone, NAMES)

    assert result.reach is Reach.RELAYED
    assert result.egress is None
    assert result.nameservers == ("127.0.0.1",)
    assert result.report.enforced.network
    assert "a relay outside" in result.report.mechanisms["network"]


def test_entries_without_ports_need_the_packet_filter_beside_the_relay() -> None:
    whole = {"network": {"allow": ["api.example.com"]}}

    assert planned(linux(relay=RELAY), whole).reach is Reach.RELAYED
    report = refused(linux(relay=RELAY, nft=Missing("nft is not installed")), whole).report
    assert "name the ports" in lacking(report)["network"]
    assert "nft is not installed" in lacking(report)["network"]


def test_without_a_relay_names_are_a_downgrade_and_the_network_is_not_called_enforced() -> None:
    """What is severed against the policy's wish is no enforcement of it."""
    for policy in (NAMES, {"network": {"allow": ["localhost:8080"]}}):
        assert "names or local services" in lacking(refused(linux(), policy).report)["network"]
        degraded = planned(linux(), {**policy, **DEGRADE})
        assert not degraded.report.enforced.network
        assert degraded.reach is not Reach.HOST


def test_addresses_of_the_hosts_network_come_before_the_relay_but_for_names() -> None:
    host = linux(relay=RELAY, macvlan=MacvlanAddresses.of("eth0 192.0.2.100-192.0.2.101/24 via 192.0.2.1"))

    assert planned(host, LISTED).reach is Reach.FILTERED
    assert planned(host, NAMES).reach is Reach.RELAYED


def test_the_report_says_that_nobody_can_be_pinged() -> None:
    report = planned(linux(relay=EgressRelay(pings=False)), NAMES).report

    assert any("ping cannot work here" in note.note for note in report.notes)
    assert not any("ping" in note.note for note in planned(linux(relay=RELAY), NAMES).report.notes)


UNRESTRICTED = {"network": {"mode": "unrestricted"}}
ASKS_NOTHING = {"network": {"mode": "unrestricted", "denyLinkLocalAndMetadata": False}}
LISTED = {"network": {"allow": ["10.0.0.5:443", "[2001:db8::1]:53"]}}
NO_STACK = {
    "slirp4netns": Missing(reason="slirp4netns is not installed"),
    "pasta": Missing(reason="pasta is not installed"),
}


@pytest.mark.parametrize("policy", [LISTED, UNRESTRICTED, ASKS_NOTHING])
def test_egress_is_plumbed_and_filtered_where_that_is_possible(policy: dict[str, Any]) -> None:
    result = planned(linux(), policy)
    assert result.reach is Reach.FILTERED
    assert result.egress is not None
    assert isinstance(result.egress.plumbing, Slirp)
    assert result.report.enforced.network
    assert "slirp4netns, behind an nftables filter" in result.report.mechanisms["network"]


def test_a_run_that_may_reach_nothing_needs_no_plumbing() -> None:
    for network in ({"mode": "deny"}, {"mode": "allowlist"}):
        result = planned(linux(**NO_STACK), {"network": network})
        assert (result.reach, result.egress) == (Reach.NOTHING, None)


@pytest.mark.parametrize(
    ("lacks", "said"),
    [
        (NO_STACK, "slirp4netns is not installed; pasta: pasta is not installed"),
        ({"nft": Missing(reason="nft is not installed")}, "nft is not installed"),
        ({"network_namespaces": Missing(reason="Failed RTM_NEWADDR")}, "Failed RTM_NEWADDR"),
    ],
)
@pytest.mark.parametrize("policy", [LISTED, UNRESTRICTED])
def test_egress_that_cannot_be_filtered_is_a_downgrade_and_never_a_black_hole(
    lacks: dict[str, Missing], said: str, policy: dict[str, Any]
) -> None:
    assert said in lacking(refused(linux(**lacks), policy).report)["network"]
    degraded = planned(linux(**lacks), policy | DEGRADE)
    assert degraded.reach is Reach.HOST
    assert not degraded.report.enforced.network


def test_pasta_is_used_where_there_is_no_slirp4netns() -> None:
    host = linux(slirp4netns=Missing(reason="not installed"), pasta=PastaProgram("/usr/bin/pasta"))
    result = planned(host, LISTED)
    assert result.egress is not None
    assert isinstance(result.egress.plumbing, Pasta)


def test_configured_addresses_come_before_a_userspace_stack() -> None:
    host = linux(macvlan=MacvlanAddresses.of("eth0 192.0.2.100-192.0.2.101/24 via 192.0.2.1"))
    result = planned(host, LISTED)
    assert result.egress is not None
    assert isinstance(result.egress.plumbing, Macvlan)


def test_an_unrestricted_network_that_blocks_nothing_claims_nothing_where_it_cannot_be_plumbed() -> None:
    result = planned(linux(**NO_STACK), ASKS_NOTHING)
    assert result.reach is Reach.HOST
    assert not result.report.enforced.network
    assert any("in the host's own network" in note.note for note in result.report.notes)


def test_a_missing_interpreter_refuses_even_when_degrading_is_allowed() -> None:
    host = linux(python=Missing(reason="no Python that uid 65532 can run (/x/python3: Permission denied)"))
    refusal = refused(host, DEGRADE, Inputs(Interpreter.PYTHON))
    assert "no Python that uid 65532 can run" in lacking(refusal.report)["privilege"]
    assert isinstance(plan(host, snapshot(), SHELL), Plan)


def test_what_was_not_understood_is_a_downgrade_of_the_layer_it_names() -> None:
    refusal = plan(linux(), snapshot(not_understood=("network.proxy", "gpu")), SHELL)
    assert isinstance(refusal, Refusal)
    assert "network.proxy" in lacking(refusal.report)["network"]
    assert set(lacking(refusal.report)) == {"network", "gpu"}


def test_a_sandbox_that_is_turned_off_runs_plainly_and_claims_nothing() -> None:
    result = planned(linux(), {"enabled": False})
    assert result.wrapper is None
    assert not result.limited
    assert not any(result.report.enforced.model_dump().values())
    assert any("off" in note.note for note in result.report.notes)


def test_the_report_says_where_the_policy_came_from() -> None:
    report = planned(linux()).report
    assert (report.origin.source, report.origin.revision) == (PolicySource.STORED, 7)
    assert "bubblewrap 0.11.0 (bundled)" in report.platform


def test_what_was_not_tried_is_neither_lacking_nor_to_be_seen_to() -> None:
    untried = Missing(reason="not tried, since slirp4netns works", tried=False)
    assert "pasta" not in describe(linux(pasta=untried))
    assert "pasta" not in [one.primitive for one in advice(linux(pasta=untried))]
    assert "pasta" in describe(linux(pasta=Missing(reason="pasta is not installed")))
    assert "pasta" in [one.primitive for one in advice(linux(pasta=Missing(reason="pasta is not installed")))]


def test_advice_is_given_for_what_is_missing_first_and_not_for_what_stands_on_it() -> None:
    closed = Missing(reason="uid 1001 may not open /dev/net/tun")
    stacks = dict.fromkeys(("slirp4netns", "pasta"), Missing(reason=f"needs a tun device: {closed.reason}"))
    asked = [one.primitive for one in advice(linux(tun=closed, **stacks))]
    assert "tun" in asked
    assert not {"slirp4netns", "pasta"} & set(asked)
    assert "slirp4netns" in [
        one.primitive for one in advice(linux(slirp4netns=Missing(reason="no such program")))
    ]


# What failed by a fault that may pass says nothing of the host, so no run does without it.

PRIMITIVES = [name for name, each in linux().primitives() if each.available]


def without(host: Capabilities, name: str, *, passing: bool) -> Capabilities:
    (field,) = (each.name for each in fields(host) if each.name.replace("_", "") == name.lower())
    lost: dict[str, Any] = {field: Missing(reason="no", passing=passing)}
    return replace(host, **lost)


@pytest.mark.parametrize(
    "name", ["wrapper", "userNamespaces", "networkNamespaces", "seccomp", "slirp4netns", "nft"]
)
def test_a_run_does_without_what_the_host_lacks_but_not_without_what_may_be_there_the_next_time(
    name: str,
) -> None:
    asked = {**DEGRADE, "network": {"allow": ["10.0.0.5"]}}

    planned(without(linux(), name, passing=False), asked)
    report = refused(without(linux(), name, passing=True), asked).report

    assert any(name in lack.reason and lack.reason.endswith("; try again") for lack in report.downgrades)


@given(
    st.sets(st.sampled_from(PRIMITIVES), max_size=3),
    st.sampled_from(["deny", "allowlist", "unrestricted"]),
    st.sampled_from(list(Interpreter)),
)
def test_a_fault_that_may_pass_never_loosens_a_run(
    failing: set[str], mode: str, interpreter: Interpreter
) -> None:
    asked = {**DEGRADE, "network": {"mode": mode, "allow": ["10.0.0.5"]}}
    host = linux()
    for name in failing:
        host = without(host, name, passing=True)

    result = plan(host, snapshot(asked), Inputs(interpreter))

    whole = planned(linux(), asked, Inputs(interpreter))
    if isinstance(result, Plan):
        assert result.report.enforced == whole.report.enforced
        assert result.report.downgrades == whole.report.downgrades
        assert result.reach is whole.reach
    else:
        assert any(lack.reason.endswith("; try again") for lack in result.report.downgrades)


def test_a_host_whose_crashes_go_to_a_socket_is_told_of_in_a_note() -> None:
    def told(pattern: str) -> list[str]:
        return [
            note.note for note in planned(linux(core_pattern=pattern)).report.notes if "crash" in note.note
        ]

    assert len(told("@/run/crashes")) == 1
    assert told("|/usr/lib/helper %p") == told("core") == told("") == []
