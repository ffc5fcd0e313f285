"""What a run's end and its value say about the system."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ringfence.sandbox import DEFAULT_POLICY, Downgrade, PolicyOrigin, PolicySource, SandboxReport
from ringfence.scripts import Health, RunResult, ScriptKind, Stopped, judge
from ringfence.scripts.verdict import MAX_MESSAGE, MAX_METRICS

REPORT = SandboxReport(
    requested=DEFAULT_POLICY,
    origin=PolicyOrigin(source=PolicySource.DEFAULT),
    downgrades=(Downgrade(layer="network", reason="no namespaces"),),
)


def result(exit_code: int = 0, **fields: Any) -> RunResult:
    return RunResult(exit_code=exit_code, sandbox=REPORT, **fields)


def python(exit_code: int = 0, **fields: Any) -> tuple[Health, str, dict[str, float]]:
    verdict = judge(ScriptKind.PYTHON, result(exit_code, **fields))
    return verdict.status, verdict.message, dict(verdict.metrics)


def test_a_script_that_ends_well_is_healthy_with_its_last_line_as_message() -> None:
    assert python(stdout="checking\nall good\n\n") == (Health.HEALTHY, "all good", {})


@pytest.mark.parametrize("status", list(Health))
def test_the_value_says_the_status_the_message_and_the_metrics(status: Health) -> None:
    value = {"status": status.value, "message": "so it is", "metrics": {"lag": 1.5, "ok": True, "text": "x"}}
    assert python(value=value, stdout="noise") == (status, "so it is", {"lag": 1.5, "ok": 1.0})


def test_a_shell_script_says_it_in_its_last_line() -> None:
    said = judge(ScriptKind.SHELL, result(stdout='working\n{"status": "degraded", "metrics": {"n": 3}}\n'))
    assert (said.status, dict(said.metrics)) == (Health.DEGRADED, {"n": 3.0})
    assert judge(ScriptKind.PYTHON, result(stdout='{"status": "degraded"}')).status is Health.HEALTHY


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"exit_code": 2, "stderr": "a\nno route\n"}, "no route"),
        ({"exit_code": 2}, "exit status 2"),
        ({"exit_code": -9}, "signal 9"),
        ({"exit_code": 1, "value": {"status": "healthy", "message": "I insist"}}, "I insist"),
        ({"exit_code": -9, "stopped": Stopped.TIMEOUT}, "stopped: it did not end within its timeout"),
        ({"exit_code": -9, "stopped": Stopped.MEMORY}, "stopped: it used more than memoryBytes"),
        ({"exit_code": -1, "stopped": Stopped.REFUSED}, "refused by the sandbox: network: no namespaces"),
        ({"value_error": "not JSON"}, "its value cannot be taken: not JSON"),
        (
            {"value": {"status": "fine"}},
            "it gave the status 'fine'; it may give healthy, degraded, unhealthy",
        ),
        (
            {"value": {"status": ["healthy"]}},
            "it gave the status \"['healthy']\"; it may give healthy, degraded, unhealthy",
        ),
    ],
)
def test_everything_else_is_unhealthy_and_says_why(fields: dict[str, Any], message: str) -> None:
    assert python(**fields) == (Health.UNHEALTHY, message, {})


def test_half_a_character_is_replaced() -> None:
    _, message, metrics = python(value={"message": "a\ud800", "metrics": {"\ud800": 1}})
    assert (message, metrics) == ("a?", {"?": 1.0})


def test_a_message_and_metrics_are_bounded() -> None:
    value = {"message": "m" * 9999, "metrics": {f"m{n}": n for n in range(999)} | {"inf": float("inf")}}
    status, message, metrics = python(value=value)
    assert (status, len(message), len(metrics)) == (Health.HEALTHY, MAX_MESSAGE, MAX_METRICS)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["status", "metrics"]), inner)
    ),
)


@settings(max_examples=50)
@given(value=json_values, stdout=st.text(), kind=st.sampled_from(ScriptKind))
def test_whatever_a_script_gives_back_there_is_a_verdict(value: Any, stdout: str, kind: ScriptKind) -> None:
    verdict = judge(kind, result(value=value, stdout=stdout))
    assert verdict.status in Health
    assert len(verdict.message) <= MAX_MESSAGE
