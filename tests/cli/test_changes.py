"""A change to the policy can be typed in several ways, and each mistake is named."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.cli.given.documents import LARGEST_FILE
from ringfence.process.errors import UsageMistake
from ringfence.sandbox import DEFAULT_POLICY, SandboxPolicy, overlay
from ringfence_script_packages.commands.changes import Difference, differences, parse_changes


def parse(*words: str, stdin: bytes = b"") -> dict[str, Any]:
    return parse_changes(words, io.BytesIO(stdin))


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("network.mode=deny", {"network": {"mode": "deny"}}),
        ("enabled=false", {"enabled": False}),
        ("resources.memoryBytes=256MiB", {"resources": {"memoryBytes": 256 * 1024 * 1024}}),
        ("resources.cpuSeconds=5", {"resources": {"cpuSeconds": 5}}),
        ("network.allow=10.0.0.5:443, 10.1.0.0/16", {"network": {"allow": ["10.0.0.5:443", "10.1.0.0/16"]}}),
        (
            "network.allow=api.example.com:443,8443,9000-9010,10.0.0.5",
            {"network": {"allow": ["api.example.com:443,8443,9000-9010", "10.0.0.5"]}},
        ),
        ("network.allow=", {"network": {"allow": []}}),
        ("filesystem.hostPaths=/srv,/opt", {"filesystem": {"hostPaths": ["/srv", "/opt"]}}),
        ("filesystem.hostView=disks", {"filesystem": {"hostView": ["disks"]}}),
        ('network.allow=["10.0.0.5"]', {"network": {"allow": ["10.0.0.5"]}}),
        ("privilege.uid=null", {"privilege": {"uid": None}}),
        ('{"network": {"mode": "deny"}}', {"network": {"mode": "deny"}}),
    ],
)
def test_a_word_spells_a_partial_policy(word: str, expected: dict[str, Any]) -> None:
    assert parse(word) == expected


def test_later_words_win_and_siblings_stay() -> None:
    words = ("network.mode=deny", '{"network": {"allow": []}}', "network.mode=allowlist")
    assert parse(*words) == {"network": {"mode": "allowlist", "allow": []}}


def test_a_file_and_standard_input_are_read(tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    file.write_text('{"enabled": true}')
    assert parse(str(file), "-", stdin=b'{"onUnavailable": "degrade"}') == {
        "enabled": True,
        "onUnavailable": "degrade",
    }


@pytest.mark.parametrize(
    ("word", "stdin", "says"),
    [
        ("no-such-file.json", b"", "cannot read no-such-file.json"),
        ("-", b'{"network": {"mode": "deny", "mode": "open"}}', "the name 'mode' stands twice in one object"),
        ("-", b"[]", "must hold a JSON object, not list"),
        ("-", b"{", "standard input is not JSON"),
        ("-", b"\xff\xfe", "standard input is not JSON"),
        ("-", b'{"a":' * 100_000, "standard input is not JSON"),
        ("-", b" " * (LARGEST_FILE + 1), "is larger than"),
        ("{not json}", b"", "the argument is not JSON"),
        ("/", b"", "Is a directory"),
        ("a\0b", b"", "cannot read"),
    ],
)
def test_a_mistake_is_named(word: str, stdin: bytes, says: str) -> None:
    with pytest.raises(UsageMistake, match=says):
        parse(word, stdin=stdin)


def test_differences_name_each_field_that_changed() -> None:
    after = overlay(DEFAULT_POLICY, {"network": {"mode": "deny"}, "privilege": {"uid": 1000}})
    assert differences(DEFAULT_POLICY.to_wire(), after.to_wire()) == [
        Difference("network.mode", "allowlist", "deny"),
        Difference("privilege.uid", None, 1000),
    ]


@given(st.sampled_from(["deny", "allowlist", "unrestricted"]), st.booleans())
def test_what_is_typed_is_what_the_policy_becomes(mode: str, enabled: bool) -> None:
    partial = parse(f"network.mode={mode}", f"enabled={'true' if enabled else 'false'}")
    policy: SandboxPolicy = overlay(DEFAULT_POLICY, partial)
    assert (policy.network.mode, policy.enabled) == (mode, enabled)
