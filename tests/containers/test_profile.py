"""The system calls that a container may make: the runtimes' default, and what a sandbox is made with."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ringfence.containers.profile import seccomp_profile

from tools.seccomp import profile as tool

NAMESPACES = [
    *(
        "clone",
        "mount",
        "move_mount",
        "open_tree",
        "pivot_root",
        "sethostname",
        "setns",
        "umount2",
        "unshare",
    ),
]


def rules(profile: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """What a profile says of one call."""
    return [
        {key: value for key, value in rule.items() if key not in ("names", "comment")}
        for rule in profile["syscalls"]
        if name in rule["names"]
    ]


def names(profile: dict[str, Any]) -> set[str]:
    return {name for rule in profile["syscalls"] for name in rule["names"]}


@pytest.fixture
def shipped() -> dict[str, Any]:
    profile: dict[str, Any] = json.loads(seccomp_profile())
    return profile


def test_the_profile_is_written_from_its_table_and_is_the_same_everywhere() -> None:
    assert [path.read_text() for path in tool.WRITTEN] == [tool.text(tool.profile())] * 2


def test_it_is_the_default_but_for_the_calls_that_make_a_sandbox(shipped: dict[str, Any]) -> None:
    default = tool.default()
    changed = {
        name for name in names(shipped) | names(default) if rules(shipped, name) != rules(default, name)
    }
    assert sorted(changed) == NAMESPACES
    assert {key: shipped[key] for key in shipped if key != "syscalls"} == {
        key: default[key] for key in default if key != "syscalls"
    }


def test_namespaces_are_joined_only_where_a_network_is_served(shipped: dict[str, Any]) -> None:
    kinds = [rule["args"][0]["value"] for rule in rules(shipped, "setns")]
    assert kinds == [0x1000_0000, 0x4000_0000, 0x5000_0000]


@pytest.mark.parametrize(
    "name", ["bpf", "init_module", "open_by_handle_at", "perf_event_open", "reboot", "keyctl"]
)
def test_what_only_capabilities_bring_is_not_allowed(shipped: dict[str, Any], name: str) -> None:
    assert rules(shipped, name) == []


def test_no_rule_has_a_condition_that_one_of_the_runtimes_would_pass_over(shipped: dict[str, Any]) -> None:
    known = {"names", "action", "args", "errnoRet", "comment"}
    assert {key for rule in shipped["syscalls"] for key in rule} <= known
    assert set(shipped) == {"defaultAction", "defaultErrnoRet", "architectures", "syscalls"}
