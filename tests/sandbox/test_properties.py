"""What holds for every input, not just for the ones that somebody thought of."""

from __future__ import annotations

import json
import os
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from ringfence.sandbox import (
    DEFAULT_POLICY,
    FilesystemMode,
    NetworkMode,
    PolicyError,
    PolicySnapshot,
    PrivilegeMode,
    SandboxPolicy,
    changes,
    overlay,
    receive,
)
from ringfence.sandbox.launch.supervision.output import Budget, Capture
from ringfence.sandbox.plan.decide import plan
from ringfence.sandbox.plan.environment import DENIED_PREFIXES, PINNED, compose
from ringfence.sandbox.plan.model import Inputs, Interpreter, Plan, Reach, Refusal

from tests.sandbox.hosts import linux, macos, with_blocked_namespaces, without_wrapper

LIMITS = (
    "cpuSeconds",
    "memoryBytes",
    "maxOpenFiles",
    "maxProcesses",
    "maxOutputBytes",
    "maxFileSizeBytes",
    "maxScratchBytes",
)
ENTRIES = st.sampled_from(
    [
        *("10.0.0.5", "10.0.0.0/8", "192.0.2.7:443,8443", "2001:db8::/32", "[2001:db8::1]:5432"),
        *("api.example.com:443", "*.bücher.example", "localhost:8080", "unix:/run/app.sock"),
    ]
)

partials = st.fixed_dictionaries(
    {},
    optional={
        "enabled": st.booleans(),
        "onUnavailable": st.sampled_from(["fail", "degrade"]),
        "needsRequired": st.booleans(),
        "resources": st.fixed_dictionaries({}, optional={name: st.integers(2**24, 2**40) for name in LIMITS}),
        "filesystem": st.fixed_dictionaries(
            {}, optional={"mode": st.sampled_from(list(map(str, FilesystemMode)))}
        ),
        "network": st.fixed_dictionaries(
            {},
            optional={
                "mode": st.sampled_from(list(map(str, NetworkMode))),
                "allow": st.lists(ENTRIES, max_size=3),
                "denyLinkLocalAndMetadata": st.booleans(),
                "checkServerName": st.booleans(),
            },
        ),
        "privilege": st.fixed_dictionaries(
            {},
            optional={
                "mode": st.sampled_from(list(map(str, PrivilegeMode))),
                "uid": st.one_of(st.none(), st.integers(1, 2**32 - 2)),
            },
        ),
    },
)
policies = partials.map(lambda partial: overlay(DEFAULT_POLICY, partial))
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


def leaves(wire: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in wire.items():
        flat |= leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


@given(policies, partials)
def test_an_overlay_changes_no_field_that_it_does_not_name(
    base: SandboxPolicy, partial: dict[str, Any]
) -> None:
    named = set(leaves(partial))
    assert {change.path for change in changes(base, overlay(base, partial))} <= named


@given(policies)
def test_every_policy_survives_the_wire(policy: SandboxPolicy) -> None:
    wire = json.loads(json.dumps(policy.to_wire()))
    assert SandboxPolicy.parse(wire) == policy
    assert receive(wire).policy == policy
    assert receive(wire).not_understood == ()


@given(anything)
def test_whatever_is_received_is_a_policy_and_no_looser_than_its_words(sent: object) -> None:
    received = receive(sent)
    if not received.not_understood and isinstance(sent, dict):
        assert {
            path
            for path, value in leaves(received.policy.to_wire()).items()
            if leaves(sent).get(path, value) != value
        } == set()
    assert received.policy.enabled or (isinstance(sent, dict) and sent.get("enabled") is False)


@given(
    policies,
    st.sampled_from(["network", "filesystem", "privilege", "resources"]),
    st.text(min_size=1, max_size=12),
)
def test_a_mode_that_is_not_known_is_received_as_the_strictest(
    policy: SandboxPolicy, layer: str, word: str
) -> None:
    wire = policy.to_wire()
    wire[layer]["mode"] = f"x-{word}"
    received = receive(wire)
    assert f"{layer}.mode" in received.not_understood
    if layer == "network":
        assert received.policy.network.denies_everything
    if layer == "privilege":
        assert received.policy.privilege.mode is PrivilegeMode.DROP_TO_UID
    if layer == "filesystem":
        assert received.policy.filesystem.mode is FilesystemMode.SCRATCH_ONLY


@given(anything)
def test_a_strict_reading_either_fails_with_problems_or_gives_a_policy(sent: object) -> None:
    problems: tuple[str, ...] = ()
    parsed = None
    try:
        parsed = SandboxPolicy.parse(sent)
    except PolicyError as error:
        problems = error.problems
    assert bool(problems) is (parsed is None)


HOSTS = (
    linux(),
    linux(supervisor_uid=1000, supervisor_gid=1000),
    without_wrapper(),
    with_blocked_namespaces(),
    macos(),
)


@given(policies, st.sampled_from(HOSTS))
def test_under_fail_a_plan_lacks_nothing_that_was_asked_for(policy: SandboxPolicy, host: Any) -> None:
    result = plan(host, PolicySnapshot(policy), Inputs(Interpreter.SHELL))
    report, enforced = result.report, result.report.enforced
    if isinstance(result, Refusal):
        assert report.downgrades
        assert not any(enforced.model_dump().values())
        return
    if policy.on_unavailable == "fail":
        assert report.downgrades == ()
    lacking = {downgrade.layer for downgrade in report.downgrades}
    if result.identity.uid == 0 and policy.filesystem.mode is FilesystemMode.OFF:
        # The policy itself gives the host to root.
        assert not any(enforced.model_dump().values())
        return
    if policy.enabled and policy.filesystem.mode is not FilesystemMode.OFF:
        assert enforced.filesystem or "filesystem" in lacking
    if policy.enabled and policy.network.denies_everything:
        cut_off = result.reach is Reach.NOTHING or (result.confinement and not result.confinement.sockets)
        assert (enforced.network and cut_off) or "network" in lacking
    if policy.enabled and policy.privilege.mode is PrivilegeMode.DROP_TO_UID:
        assert (enforced.privilege and result.identity.uid != 0) or "privilege" in lacking


@given(policies, st.sampled_from(HOSTS))
def test_no_layer_is_both_enforced_and_lacking(policy: SandboxPolicy, host: Any) -> None:
    result = plan(host, PolicySnapshot(policy), Inputs(Interpreter.SHELL))
    enforced = {layer for layer, holds in result.report.enforced.model_dump().items() if holds}
    assert not enforced & {downgrade.layer for downgrade in result.report.downgrades}
    if isinstance(result, Plan) and result.wrapper is None and result.confinement is None:
        assert not enforced - {"privilege"}


@given(st.dictionaries(st.text(max_size=12), st.text(max_size=12), max_size=6))
def test_no_caller_changes_what_is_pinned_or_brings_what_is_denied(env: dict[str, str]) -> None:
    composed = compose({}, env)
    assert not set(composed.extra) & set(PINNED)
    assert not [name for name in composed.extra if name.startswith(DENIED_PREFIXES) and name != "NODE_ENV"]
    assert set(composed.extra) | set(composed.dropped) == set(env)


@given(st.binary(max_size=300), st.integers(0, 320))
def test_a_capture_keeps_at_most_its_budget_and_is_always_text(data: bytes, limit: int) -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, data)
        os.close(writing)
        budget = Budget(limit)
        capture = Capture(reading, budget)
        capture.drain()
        assert capture.data == data[:limit]
        assert budget.exceeded is (len(data) > limit)
        text = capture.text()
        if not budget.exceeded:
            assert text == data.decode(errors="replace")
    finally:
        os.close(reading)
