"""The policy: its default, its merging, its reading from strangers."""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.sandbox import (
    DEFAULT_POLICY,
    FAIL_CLOSED_POLICY,
    FilesystemMode,
    NetworkMode,
    OnUnavailable,
    PolicyChange,
    PolicyError,
    SandboxPolicy,
    changes,
    overlay,
    receive,
)
from ringfence.sandbox.policy import MOST_ENTRIES


def test_the_shipped_default_is_the_secure_one() -> None:
    assert DEFAULT_POLICY.to_wire() == {
        "enabled": True,
        "onUnavailable": "fail",
        "resources": {
            "cpuSeconds": 60,
            "memoryBytes": 512 * 1024**2,
            "maxOpenFiles": 1024,
            "maxProcesses": 256,
            "maxOutputBytes": 5 * 1024**2,
            "maxFileSizeBytes": 256 * 1024**2,
            "maxScratchBytes": 256 * 1024**2,
        },
        "filesystem": {"mode": "scratch-plus-ro"},
        "network": {"mode": "allowlist", "allow": [], "denyLinkLocalAndMetadata": True},
        "privilege": {"mode": "drop-to-uid"},
    }
    assert DEFAULT_POLICY.network.denies_everything


def test_the_wire_form_reads_back_as_the_same_policy() -> None:
    policy = overlay(DEFAULT_POLICY, {"privilege": {"uid": 1234}, "network": {"allow": ["10.0.0.5:443"]}})
    assert SandboxPolicy.parse(policy.to_wire()) == policy


def test_the_bound_of_a_state_is_sent_only_where_it_is_not_the_default() -> None:
    assert "maxStateBytes" not in DEFAULT_POLICY.to_wire()["resources"]
    more = overlay(DEFAULT_POLICY, {"resources": {"maxStateBytes": 2**22}})
    assert more.to_wire()["resources"]["maxStateBytes"] == 2**22
    assert SandboxPolicy.parse(more.to_wire()) == more
    assert overlay(more, {"resources": {"maxStateBytes": 2**20}}) == DEFAULT_POLICY
    assert changes(DEFAULT_POLICY, more) == (PolicyChange("resources.maxStateBytes", 2**20, 2**22),)


def test_an_overlay_changes_what_it_names_and_nothing_else() -> None:
    strict = overlay(DEFAULT_POLICY, {"network": {"mode": "deny"}, "resources": {"cpuSeconds": 5}})
    after = overlay(strict, {"resources": {"maxProcesses": 3}})
    assert changes(strict, after) == (PolicyChange("resources.maxProcesses", 256, 3),)
    assert after.network.mode is NetworkMode.DENY
    assert after.resources.cpu_seconds == 5


def test_every_problem_is_spelled_out_with_its_path() -> None:
    with pytest.raises(PolicyError) as raised:
        overlay(
            DEFAULT_POLICY,
            {
                "netwrok": {},
                "network": {"mode": "open", "allow": "10.0.0.1"},
                "resources": {"cpu_seconds": 1, "memoryBytes": "lots", "maxProcesses": True},
                "privilege": {"uid": 0},
                "filesystem": None,
            },
        )
    text = "\n".join(raised.value.problems)
    paths = [line.split(":")[0] for line in raised.value.problems]
    assert sorted(paths) == [
        "filesystem",
        "network.allow",
        "network.mode",
        "netwrok",
        "privilege.uid",
        "resources.cpu_seconds",
        "resources.maxProcesses",
        "resources.memoryBytes",
    ]
    assert "netwrok: unknown key" in text
    assert "resources.cpu_seconds: unknown key" in text


@pytest.mark.parametrize("partial", [None, [], "deny", 3])
def test_a_partial_policy_that_is_no_object_is_an_error(partial: object) -> None:
    with pytest.raises(PolicyError, match="JSON object"):
        overlay(DEFAULT_POLICY, partial)  # type: ignore[arg-type]


def test_a_received_policy_of_our_own_age_is_understood_whole() -> None:
    policy = overlay(DEFAULT_POLICY, {"network": {"mode": "unrestricted"}, "onUnavailable": "degrade"})
    received = receive(policy.to_wire())
    assert received.policy == policy
    assert received.not_understood == ()


def test_what_a_newer_core_sends_becomes_the_strictest_known_value_and_is_named() -> None:
    received = receive(
        {
            **DEFAULT_POLICY.to_wire(),
            "network": {"mode": "through-proxy", "allow": ["10.0.0.1"], "proxy": "p"},
            "filesystem": {"mode": "snapshot"},
            "gpu": {"mode": "none"},
            "onUnavailable": "ask",
        }
    )
    assert received.policy.network.mode is NetworkMode.DENY
    assert received.policy.filesystem.mode is FilesystemMode.SCRATCH_ONLY
    assert received.policy.on_unavailable is OnUnavailable.FAIL
    assert set(received.not_understood) == {
        "network.mode",
        "network.proxy",
        "filesystem.mode",
        "gpu",
        "onUnavailable",
    }


def test_an_older_core_that_does_not_know_a_limit_gets_the_default_of_it() -> None:
    wire = DEFAULT_POLICY.to_wire()
    del wire["resources"]["maxScratchBytes"]
    received = receive(wire)
    assert received.policy == DEFAULT_POLICY
    assert received.not_understood == ()


@pytest.mark.parametrize("nonsense", [None, 7, "deny", [], {"network": 3}])
def test_nonsense_is_received_as_fail_closed(nonsense: object) -> None:
    received = receive(nonsense)
    assert received.not_understood
    assert received.policy.network == FAIL_CLOSED_POLICY.network


def test_a_malformed_allowlist_entry_is_an_error_when_the_policy_is_written() -> None:
    with pytest.raises(PolicyError) as caught:
        overlay(DEFAULT_POLICY, {"network": {"allow": ["10.0.0.5:443", "exa mple.com", "10.0.0.5/8"]}})

    first, second = caught.value.problems
    assert first.startswith("network.allow.1: 'exa mple.com': it holds white space")
    assert second.startswith("network.allow.2: '10.0.0.5/8': host bits are set")


MANY = [f"10.{n >> 8}.{n & 255}.0/24:443" for n in range(MOST_ENTRIES + 1)]


def test_a_longer_allowlist_than_can_be_enforced_is_an_error_when_it_is_written() -> None:
    assert len(overlay(DEFAULT_POLICY, {"network": {"allow": MANY[1:]}}).network.entries) == MOST_ENTRIES

    with pytest.raises(PolicyError, match=r"network\.allow: 16,385 entries are too many; .* at most 16,384"):
        overlay(DEFAULT_POLICY, {"network": {"allow": MANY}})


def test_a_longer_allowlist_that_was_stored_is_read_and_can_be_kept_but_not_grow() -> None:
    stored = receive({**DEFAULT_POLICY.to_wire(), "network": {"allow": MANY}})

    assert stored.not_understood == ()
    assert len(stored.policy.network.allow) == len(MANY)
    assert overlay(stored.policy, {"resources": {"cpuSeconds": 5}}).network == stored.policy.network
    with pytest.raises(PolicyError, match="too many"):
        overlay(stored.policy, {"network": {"allow": [*MANY, "192.0.2.1"]}})


def test_a_received_entry_that_cannot_be_read_is_left_out_and_named() -> None:
    received = receive({"network": {"mode": "allowlist", "allow": ["10.0.0.5", "10.0.0.5:https"]}})

    assert received.policy.network.allow == ("10.0.0.5",)
    assert received.not_understood == ("network.allow[1]",)


# What is read from a newer sender is never looser than what that meant, whatever it was.

LIMITS = list(DEFAULT_POLICY.to_wire()["resources"])
unreadable = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=5),
    st.floats(),
    st.integers(max_value=-1),
    st.integers(min_value=2**53),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
STRICTEST_FIRST: dict[str, list[object]] = {
    "enabled": [True, False],
    "onUnavailable": ["fail", "degrade"],
    "filesystem.mode": ["scratch-only", "scratch-plus-ro", "off"],
    "network.mode": ["deny", "allowlist", "unrestricted"],
    "network.denyLinkLocalAndMetadata": [True, False],
    "privilege.mode": ["drop-to-uid", "inherit"],
}
PATHS = [*(f"resources.{name}" for name in LIMITS), *STRICTEST_FIRST]


def at(wire: dict[str, Any], path: str) -> Any:
    return functools.reduce(lambda part, step: part[step], path.split("."), wire)


def put(wire: dict[str, Any], path: str, value: object) -> None:
    above, _, name = path.rpartition(".")
    (at(wire, above) if above else wire)[name] = value


@given(st.sampled_from(LIMITS), unreadable, st.booleans())
def test_a_limit_that_cannot_be_read_is_the_least_there_is_and_no_run_takes_place(
    name: str, value: object, whole: bool
) -> None:
    wire = overlay(DEFAULT_POLICY, {"onUnavailable": "degrade"}).to_wire()
    put(wire, "resources" if whole else f"resources.{name}", value)
    if whole and isinstance(value, dict):
        return

    received = receive(wire)

    least = received.policy.to_wire()["resources"][name]
    with pytest.raises(PolicyError):
        overlay(DEFAULT_POLICY, {"resources": {name: least - 1}})
    assert received.not_understood == ("resources" if whole else f"resources.{name}",)
    assert received.policy.on_unavailable is OnUnavailable.FAIL


@given(st.data(), st.sets(st.sampled_from(PATHS), min_size=1, max_size=4))
def test_what_is_received_is_never_looser_than_any_reading_of_what_was_sent(
    data: st.DataObject, hidden: set[str]
) -> None:
    meant = DEFAULT_POLICY.to_wire()
    for path, choices in STRICTEST_FIRST.items():
        put(meant, path, data.draw(st.sampled_from(choices)))
    for name in LIMITS:
        put(meant, f"resources.{name}", data.draw(st.integers(0, 2**54)))
    sent = copy.deepcopy(meant)
    for path in hidden:
        put(sent, path, data.draw(unreadable.filter(lambda value: not isinstance(value, bool))))

    received = receive(sent)

    wire = received.policy.to_wire()
    refused = received.not_understood and received.policy.on_unavailable is OnUnavailable.FAIL
    for path, choices in STRICTEST_FIRST.items():
        assert choices.index(at(wire, path)) <= choices.index(at(meant, path)), path
    for name in LIMITS:
        assert refused or wire["resources"][name] <= meant["resources"][name], name
