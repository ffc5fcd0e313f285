"""Before a change of the policy holds, each satellite's runs are planned under it, from what the satellite has told."""

from __future__ import annotations

import json
from typing import Any

from ringfence.sandbox.capabilities.document import to_wire
from ringfence.sandbox.capabilities.found import EgressRelay, Missing
from ringfence.sandbox.capabilities.model import Capabilities
from ringfence_satellite.protocol import Authenticate

from tests.sandbox.hosts import linux, with_nothing
from tests.satellite.instances import POLICY, Instance, Registered
from tests.shared_hosts import SHARED

pytestmark = SHARED

PREVIEW = f"{POLICY}/preview"
UNRESTRICTED = {"policy": {"network": {"mode": "unrestricted"}}}
NO_LINK = linux(nft=Missing("nft is not installed"))


async def told(instance: Instance, name: str, capabilities: Capabilities | dict[str, Any]) -> Registered:
    """A satellite that has told of its capabilities, and is gone again."""
    satellite = await instance.register(name)
    document = to_wire(capabilities) if isinstance(capabilities, Capabilities) else capabilities
    async with instance.peer() as peer:
        await peer.say(
            Authenticate(
                client_id=satellite.id, token=satellite.token, capabilities=json.loads(json.dumps(document))
            )
        )
        await peer.hear("authenticated")
        await instance.until(satellite, lambda shown: shown["capabilities"] is not None)
    return satellite


async def preview(instance: Instance, body: dict[str, Any]) -> dict[str, Any]:
    """What would become of satellites."""
    answer = await instance.api.post(PREVIEW, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["unforeseen"] == []
    [found] = [one for one in answer.json()["prospects"] if one["kind"] == "satellite"]
    return dict(found)


async def test_satellites_that_could_not_enforce_a_change_are_named_with_the_reason(
    instance: Instance,
) -> None:
    await told(instance, "able", linux())
    unable = await told(instance, "unable", NO_LINK)
    found = await preview(instance, UNRESTRICTED)
    assert (found["total"], found["breaks"], found["fates"]) == (2, 1, {"run": 1, "refused": 1})
    [named] = found["named"]
    assert (named["name"], named["id"], named["fate"], named["was"]) == (
        "unable",
        unable.id,
        "refused",
        "run",
    )
    assert "nft is not installed" in named["reasons"][0]
    assert (await instance.api.get(POLICY)).json()["revision"] == 0


async def test_under_degrade_they_are_degraded(instance: Instance) -> None:
    await told(instance, "unable", NO_LINK)
    found = await preview(
        instance, {"policy": {"network": {"mode": "unrestricted"}, "onUnavailable": "degrade"}}
    )
    assert [one["fate"] for one in found["named"]] == ["degraded"]


async def test_one_that_refuses_runs_already_breaks_by_no_change(instance: Instance) -> None:
    await told(instance, "poor", with_nothing())
    found = await preview(instance, UNRESTRICTED)
    assert found["breaks"] == 0
    assert [(one["fate"], one["was"]) for one in found["named"]] == [("refused", "refused")]


async def test_of_one_that_has_told_nothing_nothing_is_known(instance: Instance) -> None:
    await instance.register("new")
    found = await preview(instance, UNRESTRICTED)
    assert (found["fates"], found["breaks"]) == ({"unknown": 1}, 0)


async def test_an_agent_of_the_first_release_is_taken_to_have_nothing(instance: Instance) -> None:
    await told(instance, "old", {"platform": "linux"})
    found = await preview(instance, UNRESTRICTED)
    assert found["fates"] == {"refused": 1}


async def test_what_a_satellite_makes_up_is_shown_as_text_within_bounds(instance: Instance) -> None:
    document = json.loads(json.dumps(to_wire(linux())))
    document["nft"] = {"available": False, "reason": "\x1b[2J" + "x" * 5000}
    document["wrapper"] = {"available": True, "path": 7}
    await told(instance, "hostile", document)
    found = await preview(instance, UNRESTRICTED)
    assert found["fates"] == {"refused": 1}
    assert all(len(reason) <= 500 and reason.isprintable() for reason in found["named"][0]["reasons"])


async def test_an_agent_that_does_not_know_what_is_asked_for_refuses_runs(instance: Instance) -> None:
    document = json.loads(json.dumps(to_wire(linux())))
    del document["relay"]
    await told(instance, "older", document)
    await told(instance, "newer", linux(relay=EgressRelay(pings=True)))
    for policy in (
        {"needsRequired": True},
        {"network": {"allow": ["api.example.com:443"]}},
        {"network": {"allow": ["10.0.0.5:443,8443"]}},
    ):
        found = await preview(instance, {"policy": policy})
        assert [one["name"] for one in found["named"]] == ["older"]
        assert "upgrade Ringfence on this machine" in found["named"][0]["reasons"][0]
    assert (await preview(instance, {"policy": {"network": {"allow": ["10.0.0.5:443"]}}}))["breaks"] == 0
