"""Checks whose runs are refused, or ended for a forbidden system call: told when it begins, and when it is over."""

from __future__ import annotations

import datetime as dt
from typing import Any
from uuid import UUID

from ringfence.scripts import Health, Verdict
from ringfence_health_checks.hooks import Stop
from ringfence_health_checks.plugin import HealthChecksPlugin
from ringfence_health_checks.results.results import Result, Results
from ringfence_health_checks.results.stops import stop_of

from tests.health_checks.conftest import Checking
from tests.health_checks.test_states import SLOW
from tests.satellite.instances import Instance

BEGIN = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=30)


async def test_it_is_told_when_runs_begin_to_be_stopped_and_when_they_run_again(
    instance: Instance, checking: Checking
) -> None:
    check = await checking.create(runsOn={"tags": ["nowhere"]}, **SLOW)
    (plugin,) = (one.plugin for one in instance.host.plugins if isinstance(one.plugin, HealthChecksPlugin))
    results = Results(plugin._context)
    details: list[dict[str, Any]] = [
        {"exitCode": 0},
        {"exitCode": -1, "stopped": "refused"},
        {"exitCode": -1, "stopped": "refused"},
        {"exitCode": -31},
        {"exitCode": 1},
    ]
    for minute, detail in enumerate(details):
        at = BEGIN + dt.timedelta(minutes=minute)
        verdict = Verdict(Health.UNKNOWN, f"minute {minute}")
        await results.store(
            Result(UUID(check["id"]), "core", "web-1", verdict, detail=detail, executed_at=at)
        )
    late = BEGIN + dt.timedelta(minutes=0.5)
    await results.store(
        Result(
            UUID(check["id"]),
            "core",
            "web-1",
            Verdict(Health.UNKNOWN, ""),
            detail=details[1],
            executed_at=late,
        )
    )
    answer = await checking.api.get(
        "/api/host/events", params={"stream": f"health-check.{check['id']}", "limit": 500}
    )
    events = answer.json()["events"]
    told = [one["payload"] for one in events if one["hook"] == "health-check-stopped"]
    assert [(one["stopped"], one["message"]) for one in told] == [
        ("refused", "minute 1"),
        ("forbidden-call", "minute 3"),
        (None, "minute 4"),
    ]
    assert (told[0]["checkName"], told[0]["place"], told[0]["silenced"]) == ("disk", "core", False)


def test_only_a_refusal_and_the_end_for_a_forbidden_call_are_stops() -> None:
    assert stop_of({"exitCode": -31}) is Stop.FORBIDDEN_CALL
    assert stop_of({"exitCode": -1, "stopped": "refused"}) is Stop.REFUSED
    for other in ({"exitCode": -9, "stopped": "memory"}, {"exitCode": -1}, {"exitCode": "-31"}, {}):
        assert stop_of(other) is None
