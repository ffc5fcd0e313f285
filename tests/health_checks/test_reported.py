"""A satellite's word is not taken for more than what it tells beside it."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest
from ringfence.scripts import Health
from ringfence_health_checks.definitions.definition import Definition
from ringfence_health_checks.results.reported import reported
from ringfence_health_checks.results.results import Result
from ringfence_satellite.service import CheckResult

CHECK, SATELLITE = uuid.uuid4(), uuid.uuid4()
HELD = {"assertion": 'stdout contains "x"', "held": True, "state": "healthy", "actual": "x"}


SCRIPT = {"kind": "shell", "script": "echo x"}


CHANGED = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)


def told(
    status: str,
    *assertions: str,
    work: dict[str, Any] = SCRIPT,
    executed_at: str = "2026-01-01T00:00:00Z",
    **said: Any,
) -> Result:
    about = {"name": "disk", "system": "web", "assertions": assertions, "runsOn": {"core": True}}
    definition = Definition.model_validate({**about, **work})
    frame = CheckResult(
        config_id=str(CHECK), system_id="web", status=status, result=said, executed_at=executed_at
    )
    return reported(CHECK, definition, SATELLITE, frame, changed_at=CHANGED)


@pytest.mark.parametrize("state", ["degraded", "unhealthy", "unknown", "", None, "fine"])
def test_healthy_does_not_stand_beside_an_assertion_that_does_not_hold(state: str | None) -> None:
    outcome = {**HELD, "state": state}
    verdict = told("healthy", 'stdout contains "x"', format="exit", assertions=[outcome]).verdict
    assert verdict.status == (state if state in ("degraded", "unhealthy") else "unknown")
    # Nor in what an older agent would never say.
    assert told("healthy", stdout="x", assertions=[outcome]).verdict.status is not Health.HEALTHY


@pytest.mark.parametrize(
    "said",
    [
        {"format": "nagios", "assertions": [HELD]},
        {"format": None, "assertions": [HELD]},
        {"format": "exit"},
        {"format": "exit", "assertions": [HELD, HELD]},
        {"format": "exit", "assertions": {"a": 1}},
    ],
)
def test_healthy_is_for_what_was_asked_for(said: dict[str, Any]) -> None:
    verdict = told("healthy", 'stdout contains "x"', **said).verdict
    assert verdict.status is Health.UNKNOWN
    assert "and the check has" in verdict.message


def test_healthy_is_taken_for_what_was_asked_for() -> None:
    assert (
        told("healthy", 'stdout contains "x"', format="exit", assertions=[HELD]).verdict.status
        is Health.HEALTHY
    )
    assert told("healthy", format="exit").verdict.status is Health.HEALTHY


def test_what_is_worse_is_taken_as_it_is_said() -> None:
    for status in ("degraded", "unhealthy", "unknown"):
        assert told(status, 'stdout contains "x"', format="json").verdict.status == status


@pytest.mark.slow
def test_what_is_told_is_bounded_and_can_be_stored() -> None:
    notes, outcomes = ["\0" * 10_000] * 1000, [{"assertion": "\0" * 10_000, "actual": ["x"] * 10_000}] * 1000
    result = told("degraded", format="exit", notes=notes, assertions=outcomes, message={"a": 1}, metrics=[1])
    wire = str(result.verdict.to_wire())
    assert "\\x00" not in wire
    assert len(wire) < 100_000


@pytest.mark.parametrize("status", ["healthy", "degraded", "unhealthy"])
def test_a_command_that_an_older_agent_showed_the_sandbox_is_unknown(status: str) -> None:
    note = (
        "the script looks at the host, of which the sandbox shows nothing: check_procs needs processes in …"
    )
    command = {"command": ["/usr/lib/nagios/plugins/check_procs"]}
    verdict = told(status, work=command, format="nagios", notes=[note]).verdict
    assert (verdict.status, "check_procs needs processes" in verdict.message) == ("unknown", True)
    # A script may never have called it.
    assert told(status, format="exit", notes=[note]).verdict.status == status
    assert told(status, work=command, format="nagios", notes=["another"]).verdict.status == status


@pytest.mark.parametrize("executed_at", ["2024-12-31T23:59:00Z", "2025-01-01T00:00:05Z"])
def test_what_was_begun_before_the_check_was_changed_tells_of_the_check_as_it_was(executed_at: str) -> None:
    verdict = told("healthy", executed_at=executed_at, format="nagios").verdict
    assert (verdict.status, verdict.notes) == ("healthy", ("of the check as it was before it was changed",))
    assert (
        told("healthy", executed_at=executed_at, format="exit", assertions=[HELD]).verdict.status == "healthy"
    )
    # What no release reads by, and what does not hold, is doubted all the same.
    assert told("healthy", executed_at=executed_at, format="any").verdict.status == "unknown"
    broken = {**HELD, "state": "degraded"}
    assert (
        told("healthy", executed_at=executed_at, format="json", assertions=[broken]).verdict.status
        == "degraded"
    )
    assert told("healthy", executed_at="2025-01-01T00:00:11Z", format="nagios").verdict.status == "unknown"
