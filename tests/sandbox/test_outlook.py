"""What would become of runs on a machine is what its plans say, for each kind of script that it can run."""

from __future__ import annotations

from typing import Any

import pytest
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, SandboxPolicy, overlay
from ringfence.sandbox.capabilities.found import Missing
from ringfence.sandbox.capabilities.model import Capabilities
from ringfence.sandbox.capabilities.reported import from_wire
from ringfence.sandbox.plan.outlook import Fate, Outlook, alike, outlook

from tests.sandbox.hosts import cgroup, linux, with_nothing
from tests.sandbox.test_reported import HOSTS, POLICIES

UNRESTRICTED = {"network": {"mode": "unrestricted"}}


def under(capabilities: Capabilities, **policy: Any) -> Outlook:
    return outlook(capabilities, PolicySnapshot(overlay(DEFAULT_POLICY, policy), revision=1))


def test_runs_have_all_that_is_asked_for_where_everything_is_there() -> None:
    assert under(linux()) == Outlook(Fate.RUN)


def test_what_cannot_be_enforced_refuses_runs_or_degrades_them_as_the_policy_says() -> None:
    refused, degraded = under(with_nothing()), under(with_nothing(), onUnavailable="degrade")
    assert (refused.fate, degraded.fate) == (Fate.REFUSED, Fate.DEGRADED)
    assert refused.reasons == degraded.reasons
    assert any(reason.startswith("filesystem: ") for reason in refused.reasons)


def test_a_machine_without_a_link_refuses_the_network_and_nothing_else() -> None:
    host = linux(nft=Missing("nft is not installed"), slirp4netns=Missing("not installed"))
    assert under(host).fate is Fate.RUN
    found = under(host, **UNRESTRICTED)
    assert found.fate is Fate.REFUSED
    [reason] = found.reasons
    assert reason.startswith("network: ")


def test_an_interpreter_that_is_not_there_is_no_reason() -> None:
    assert under(linux(node=Missing("Node.js is not installed"))) == Outlook(Fate.RUN)


def test_a_machine_without_a_shell_refuses_shell_scripts_alone_and_says_so() -> None:
    found = under(linux(shell=Missing("/bin/sh is missing")))
    assert found.fate is Fate.REFUSED
    assert [reason for reason in found.reasons if reason.endswith("(scripts by shell)")]


def test_a_machine_that_tells_nothing_refuses() -> None:
    assert under(from_wire({})).fate is Fate.REFUSED


@pytest.mark.parametrize(
    ("before", "after", "worse"),
    [
        (Fate.RUN, Fate.DEGRADED, True),
        (Fate.DEGRADED, Fate.REFUSED, True),
        (Fate.RUN, Fate.CUT_OFF, True),
        (Fate.REFUSED, Fate.REFUSED, False),
        (Fate.REFUSED, Fate.RUN, False),
        (Fate.UNKNOWN, Fate.REFUSED, False),
        (Fate.RUN, Fate.UNKNOWN, False),
    ],
)
def test_something_breaks_only_where_it_was_better_before(before: Fate, after: Fate, worse: bool) -> None:
    assert after.is_worse_than(before) is worse


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
def test_machines_that_are_alike_have_one_outlook(host: Capabilities, policy: SandboxPolicy) -> None:
    snapshot = PolicySnapshot(policy, revision=1)
    assert outlook(alike(host), snapshot) == outlook(host, snapshot)


def test_machines_that_differ_in_names_and_versions_alone_are_alike() -> None:
    one = linux(cgroup=cgroup("/c/a.scope", is_scope=True), kernel="6.1.0")
    assert alike(one) == alike(linux(cgroup=cgroup("/c/b.scope", is_scope=True), kernel="6.12.0"))
    assert alike(one) != alike(linux(cgroup=cgroup("/m", "/p")))
