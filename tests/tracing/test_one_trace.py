"""One trace: from a PUT of the policy through the event and the relay to the satellite's acknowledgement."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from ringfence_satellite.protocol import SandboxPolicyApplied
from ringfence_satellite.protocol.from_satellite import parse_from_satellite
from sqlalchemy import text

from tests.satellite.conftest import StartInstance, instance, own, plugins_under_test, start_instance
from tests.satellite.instances import POLICY, Instance
from tests.tracing.conftest import Spans
from tests.tracing.test_tracing import PARENT, SPAN, TRACE
from tests.waiting import until

__all__ = ["StartInstance", "instance", "own", "plugins_under_test", "start_instance"]

HEAR, ACKNOWLEDGED = "hear sandbox-policy-changed", "satellite has applied the policy"


async def put(instance: Instance, policy: dict[str, Any], traceparent: str) -> None:
    headers = {"If-Match": "*", "traceparent": traceparent}
    answer = await instance.api.put(POLICY, json={"policy": policy}, headers=headers)
    assert answer.status_code == 200, answer.text


async def test_a_put_is_followed_to_the_satellites_acknowledgement(instance: Instance, spans: Spans) -> None:
    satellite = await instance.register()
    async with instance.connected(satellite) as peer:
        await put(instance, {"resources": {"cpuSeconds": 7}}, PARENT)
        told = await peer.hear("sandbox_policy")
        await peer.say(SandboxPolicyApplied(revision=1, traceparent=told["traceparent"]))
        await until(lambda: ACKNOWLEDGED in spans.of(TRACE))
    found: dict[str, Any] = spans.of(TRACE)
    request, hear, acknowledged = found["HTTP PUT"], found[HEAR], found[ACKNOWLEDGED]
    assert f"{request.parent.span_id:016x}" == SPAN
    assert request.attributes["ringfence.route"] == POLICY
    assert hear.parent.span_id == request.context.span_id
    assert told["traceparent"] == f"00-{TRACE}-{hear.context.span_id:016x}-01"
    assert acknowledged.parent.span_id == hear.context.span_id
    assert acknowledged.attributes["ringfence.satellite"] == satellite.id
    async with instance.host.runtime.database.sessions() as session:
        rows = await session.execute(text("SELECT traceparent FROM events WHERE stream = 'sandbox-policy'"))
        assert rows.scalars().all() == [f"00-{TRACE}-{request.context.span_id:016x}-01"]


async def test_what_is_no_traceparent_costs_nothing_but_the_trace(instance: Instance, spans: Spans) -> None:
    satellite = await instance.register()
    async with instance.connected(satellite) as peer:
        await put(instance, {"resources": {"cpuSeconds": 7}}, "00-evil\t'; DROP TABLE events")
        told = await peer.hear("sandbox_policy")
        assert TRACE not in told["traceparent"]
        for wrong in ("x" * 1000, 7, None, ["00"], PARENT.upper()):
            frame = parse_from_satellite(
                f'{{"type": "sandbox_policy_applied", "revision": 1, "traceparent": {json.dumps(wrong)}}}'
            )
            assert isinstance(frame, SandboxPolicyApplied)
            assert frame.traceparent is None
        await peer.say('{"type": "sandbox_policy_applied", "revision": 1, "traceparent": "00-evil"}')
        await instance.until(satellite, lambda one: one["appliedRevision"] == 1)


async def test_without_traces_nothing_is_sent_and_nothing_is_stored(instance: Instance) -> None:
    satellite = await instance.register()
    async with instance.connected(satellite) as peer:
        await put(instance, {"resources": {"cpuSeconds": 7}}, PARENT)
        assert "traceparent" not in await peer.hear("sandbox_policy")
    async with instance.host.runtime.database.sessions() as session:
        assert (await session.execute(text("SELECT count(traceparent) FROM events"))).scalar_one() == 0


@pytest.mark.usefixtures("spans")
async def test_what_is_written_afterwards_is_of_no_trace(instance: Instance) -> None:
    """The connections of a pool are used by others, too."""
    for number in (7, 8):
        await put(instance, {"resources": {"cpuSeconds": number}}, PARENT)
    await asyncio.gather(*(instance.register(f"edge-{number}") for number in range(5)))
    async with instance.host.runtime.database.sessions() as session:
        statement = "SELECT current_setting('ringfence.traceparent', true)"
        assert (await session.execute(text(statement))).scalar_one() in (None, "")
