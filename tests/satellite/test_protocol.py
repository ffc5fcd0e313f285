"""The frames: what is read, what is ignored, what is refused."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.sandbox import DEFAULT_POLICY, Needs, overlay
from ringfence.sandbox.policy import MOST_ENTRIES
from ringfence.scripts import ScriptKind, ScriptRequest
from ringfence_satellite.protocol import (
    MAX_SMALL_FRAME_BYTES,
    NARROWED,
    NEEDS_WITHIN,
    TASK,
    Authenticate,
    Authenticated,
    CloseCode,
    Frame,
    Heartbeat,
    ProtocolError,
    RunFinished,
    RunScript,
    SandboxPolicyApplied,
    SandboxPolicyPushed,
    WireDowngrade,
    needs_of,
    parse_from_host,
    parse_from_satellite,
)

OUTCOME = {"exitCode": 0, "stdout": "hello\n", "sandbox": {"enforced": {"network": True}}}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)
TYPES = (
    "authenticated",
    "auth_failed",
    "sandbox_policy",
    "config_updated",
    "refresh_script_packages",
    "run_script",
    "run_secrets",
    "shutdown",
    "authenticate",
    "heartbeat",
    "sandbox_policy_applied",
    "result",
    "run_result",
    "request_run_secrets",
    "strategy_error",
)
FIELDS = (
    *("policy", "revision", "reason", "satelliteId", "sandboxPolicy", "sandboxPolicyRevision", "assignments"),
    *("sandboxPolicyHeld", "sandboxPolicyReplaces"),
    *(
        "runId",
        "kind",
        "script",
        "context",
        "timeoutMs",
        "secretEnv",
        "clientId",
        "token",
        "version",
        "error",
    ),
    *("capabilities", "uptimeSeconds", "enforced", "downgrades", "exitCode", "sandbox"),
)
anything_like_a_frame = st.one_of(
    st.text(),
    json_values.map(lambda value: json.dumps(value)),
    st.builds(
        lambda kind, fields: json.dumps({"type": kind, **fields}),
        st.sampled_from(TYPES),
        st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=6),
    ),
)


@pytest.mark.parametrize(
    "frame",
    [
        Authenticated(satellite_id="a"),
        Authenticated(satellite_id="a", sandbox_policy={"enabled": True}, sandbox_policy_revision=3),
        SandboxPolicyPushed(policy={"network": {"mode": "deny"}}, revision=7),
        RunScript(run_id="r", kind=ScriptKind.SHELL, script="true", context={"a": None}, timeout_ms=5),
    ],
)
def test_what_a_core_writes_a_satellite_reads(frame: Frame) -> None:
    assert parse_from_host(frame.encode()) == frame


@pytest.mark.parametrize(
    "frame",
    [
        Authenticate(client_id="a", token="t", version="1", capabilities={"bwrap": {"available": True}}),
        Heartbeat(uptime_seconds=2.5),
        SandboxPolicyApplied(
            revision=2,
            enforced={"network": True},
            downgrades=(WireDowngrade(layer="network", reason="no nft"),),
        ),
        RunFinished.of("r", OUTCOME),
        RunFinished(run_id="r", error="busy"),
    ],
)
def test_what_a_satellite_writes_a_core_reads(frame: Frame) -> None:
    assert parse_from_satellite(frame.encode()) == frame


def test_a_policy_with_the_longest_allowlist_that_may_be_written_reaches_a_satellite() -> None:
    allow = [f"[2001:db8:1111:2222:3333:4444:{n:x}:0/112]:10000-65535" for n in range(0x1000, 0x5000)]
    policy = overlay(DEFAULT_POLICY, {"network": {"allow": allow}})
    assert len(policy.network.allow) == MOST_ENTRIES

    frame = SandboxPolicyPushed(policy=policy.to_wire(), revision=1)

    assert parse_from_host(frame.encode()) == frame


@pytest.mark.parametrize(
    ("request_", "kind", "needs"),
    [
        (ScriptRequest(ScriptKind.SHELL, "true", context={"args": ["x"], "command": "x"}), "shell", set()),
        (
            ScriptRequest(ScriptKind.PYTHON, '{"type":"run_script","needs":["task"]', name="a.py"),
            "python",
            set(),
        ),
        (ScriptRequest(ScriptKind.AUTO, "export default 1", name="a.js"), "esm", set()),
        (ScriptRequest(ScriptKind.AUTO, "#!/bin/sh\n"), "shell", set()),
        (ScriptRequest(ScriptKind.AUTO, "#!/bin/sh -e\n"), "auto", {TASK}),
        (ScriptRequest(ScriptKind.AUTO, "#!/bin/bash\n"), "auto", {TASK}),
        (ScriptRequest(ScriptKind.AUTO, "\ufeffexit 1", name="a.sh"), "auto", {TASK}),
        (ScriptRequest(ScriptKind.AUTO, "riddle"), "auto", {TASK}),
        (ScriptRequest(ScriptKind.BASH, "true"), "bash", {TASK}),
        (ScriptRequest(ScriptKind.SHELL, "true", args=("",)), "shell", {TASK}),
        (ScriptRequest(ScriptKind.SHELL, "true", env={"A": ""}), "shell", {TASK}),
        (ScriptRequest(ScriptKind.SHELL, "true", stdin=""), "shell", {TASK}),
        (ScriptRequest(ScriptKind.PROGRAM, command=("/bin/true",)), "program", {TASK}),
        (ScriptRequest(ScriptKind.SHELL, "true", needs=Needs()), "shell", {TASK, NARROWED}),
    ],
)
def test_a_run_says_first_what_an_agent_has_to_understand_for_it(
    request_: ScriptRequest, kind: str, needs: set[str]
) -> None:
    text = RunScript.asking_for("r", request_).encode()
    assert needs_of(text[:NEEDS_WITHIN]) == needs
    frame = parse_from_host(text)
    assert isinstance(frame, RunScript)
    assert (frame.kind, frame.args or (), frame.command) == (kind, request_.args, request_.command)


def test_a_type_that_is_not_known_is_ignored() -> None:
    assert parse_from_host('{"type": "moon_phase", "phase": 3}') is None
    assert parse_from_satellite('{"type": "moon_phase", "phase": 3}') is None


def test_a_field_that_is_not_known_is_ignored() -> None:
    frame = parse_from_host('{"type": "sandbox_policy", "policy": {}, "revision": 1, "urgency": "high"}')
    assert frame == SandboxPolicyPushed(policy={}, revision=1)


def test_a_core_takes_no_frame_that_only_a_core_may_send() -> None:
    assert parse_from_satellite(SandboxPolicyPushed(policy={}, revision=1).encode()) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "JSON object"),
        ('{"type": 3}', "JSON object"),
        ('{"type": "heartbeat", "uptimeSeconds": -1}', "uptimeSeconds"),
        ('{"type": "heartbeat", "version": "a\\u0000b"}', "NUL"),
        ('{"type": "sandbox_policy_applied", "revision": true}', "revision"),
        ('{"type": "sandbox_policy_applied", "revision": -1}', "revision"),
        ('{"type": "sandbox_policy_applied", "revision": 9223372036854775808}', "revision"),
        ("\ud800", "not UTF-8"),
    ],
)
def test_a_frame_that_does_not_fit_is_refused_with_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(ProtocolError, match=problem) as caught:
        parse_from_satellite(text)
    assert caught.value.code is CloseCode.UNREADABLE


def test_only_frames_that_carry_scripts_or_output_may_be_large() -> None:
    large = "x" * MAX_SMALL_FRAME_BYTES
    assert parse_from_satellite(RunFinished.of("r", {**OUTCOME, "stdout": large}).encode()) is not None
    with pytest.raises(ProtocolError) as caught:
        parse_from_satellite(Heartbeat(capabilities={"padding": large}).encode())
    assert caught.value.code is CloseCode.TOO_LARGE


def test_nothing_is_large_before_authentication() -> None:
    text = RunFinished.of("r", {**OUTCOME, "stdout": "x" * 200}).encode()
    with pytest.raises(ProtocolError) as caught:
        parse_from_satellite(text, max_bytes=100)
    assert caught.value.code is CloseCode.TOO_LARGE


def test_a_token_is_not_shown_by_what_is_logged() -> None:
    assert "s3cret" not in repr(Authenticate(client_id="a", token="s3cret"))
    frame = RunScript(run_id="r", kind=ScriptKind.SHELL, script="true", secret_env={"KEY": "s3cret"})
    assert "s3cret" not in repr(frame)


def test_a_result_of_a_newer_satellite_keeps_what_this_core_does_not_know() -> None:
    newer = {**OUTCOME, "warmth": 7, "sandbox": {"requested": {"gpu": {"mode": "none"}}}}
    frame = parse_from_satellite(RunFinished.of("r", newer).encode())
    assert isinstance(frame, RunFinished)
    wire = frame.outcome().to_wire()
    assert wire["warmth"] == 7
    assert wire["sandbox"] == newer["sandbox"]


def test_a_result_without_a_report_is_no_result() -> None:
    frame = parse_from_satellite('{"type": "run_result", "runId": "r", "exitCode": 0}')
    assert isinstance(frame, RunFinished)
    with pytest.raises(ProtocolError, match="sandbox"):
        frame.outcome()


@given(anything_like_a_frame)
def test_no_text_makes_either_reader_fail_in_another_way_than_by_refusing(text: str) -> None:
    for parse in (parse_from_host, parse_from_satellite):
        with contextlib.suppress(ProtocolError):
            frame = parse(text)
            assert frame is None or isinstance(frame, Frame)
