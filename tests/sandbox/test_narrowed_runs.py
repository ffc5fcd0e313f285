"""A run that needs more than its policy gives does not take place, and says which line the policy lacks."""

from __future__ import annotations

import pytest
from ringfence.sandbox import DEFAULT_POLICY, Needs, PolicySnapshot, overlay
from ringfence.sandbox.capabilities.found import EgressRelay
from ringfence.sandbox.plan.decide import plan
from ringfence.sandbox.plan.model import Inputs, Interpreter, Plan
from ringfence.scripts import Format, Health, RunResult, ScriptKind, ScriptRequest, read, run_under
from ringfence.scripts.running.narrowing import NEEDS, Governed

from tests.sandbox.hosts import linux


def request(**needs: object) -> ScriptRequest:
    return ScriptRequest(ScriptKind.SHELL, "echo ran", needs=Needs.parse(needs))


@pytest.mark.parametrize("on_unavailable", ["fail", "degrade"])
async def test_what_needs_more_than_the_policy_gives_is_refused_with_the_line_that_is_missing(
    on_unavailable: str,
) -> None:
    policy = overlay(
        DEFAULT_POLICY,
        {"onUnavailable": on_unavailable, "network": {"allow": ["api.example.com:80"]}},
    )
    wanted = request(network=["api.example.com:80", "api.example.com:443"], memoryBytes=2**34)

    result = await run_under(PolicySnapshot(policy, revision=7), wanted)

    assert (result.refused, result.stdout) == (True, "")
    [downgrade] = result.sandbox.downgrades
    assert downgrade.layer == NEEDS
    assert downgrade.reason == (
        'this needs more than the policy allows; the policy lacks network.allow: "api.example.com:443"; '
        "resources.memoryBytes: 17179869184"
    )
    assert result.sandbox.requested == policy
    assert result.sandbox.needs == wanted.needs
    assert result.sandbox.origin.revision == 7
    verdict = read(result, Format.EXIT)
    assert verdict.status is Health.UNKNOWN
    assert "api.example.com:443" in verdict.message


async def test_of_many_lines_some_are_told() -> None:
    result = await run_under(
        PolicySnapshot(DEFAULT_POLICY), request(network=[f"10.0.0.{n}" for n in range(99)])
    )

    assert result.sandbox.downgrades[0].reason.endswith('network.allow: "10.0.0.9"; and 89 more')


async def test_a_report_with_needs_reads_back_and_one_without_says_nothing_of_them() -> None:
    policy = PolicySnapshot(DEFAULT_POLICY, revision=0)
    for needs in (None, Needs(), Needs(cpu_seconds=1)):
        result = await run_under(policy, ScriptRequest(ScriptKind.SHELL, "echo ran", needs=needs))
        wire = result.model_dump(mode="json", by_alias=True)

        assert result.stdout == "ran\n", result.sandbox.downgrades
        assert ("needs" in wire["sandbox"]) == (needs is not None)
        assert RunResult.model_validate(wire).sandbox.needs == needs
        assert wire["sandbox"]["requested"]["resources"]["cpuSeconds"] == 60


def test_what_was_not_understood_of_the_ceiling_is_not_understood_of_what_is_narrowed() -> None:
    ceiling = PolicySnapshot(DEFAULT_POLICY, not_understood=("gpu",))

    assert Governed.of(ceiling, Needs()).snapshot.not_understood == ("gpu",)


def test_of_the_names_of_a_policy_those_that_are_needed_are_ordered() -> None:
    allow = ["*.example.com:443", "db.internal:5432", "localhost:8080", "10.0.0.0/8:443"]
    ceiling = PolicySnapshot(overlay(DEFAULT_POLICY, {"network": {"allow": allow}}))
    needs = Needs(network=("api.example.com:443", "localhost:8080"))

    planned = plan(
        linux(relay=EgressRelay(pings=False)), Governed.of(ceiling, needs).snapshot, Inputs(Interpreter.SHELL)
    )

    assert isinstance(planned, Plan)
    assert planned.relay is not None
    orders = planned.relay.orders
    assert [(each.name, each.wildcard) for each in orders.names] == [("api.example.com", False)]
    assert (orders.local, orders.networks) == (((8080, 8080),), ())
