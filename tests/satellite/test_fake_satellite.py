"""The fake satellite that plugins' authors test with, against the real satellite plugin."""

from __future__ import annotations

import asyncio

from ringfence.testing import RunHost, client, eventually, served
from ringfence_satellite.protocol import CloseCode, SandboxPolicyPushed
from ringfence_satellite.testing import connect_satellite, fake_satellite

POLICY = "/api/script-packages/sandbox-policy"
SATELLITES = "/api/satellite/satellites"


async def test_a_policy_change_reaches_it_and_its_acknowledgement_is_recorded(run_host: RunHost) -> None:
    host = await run_host()
    async with fake_satellite(host) as satellite, client(host) as admin:
        assert (satellite.welcome.sandbox_policy_revision, satellite.welcome.assignments) == (0, [])
        changed = {"policy": {"network": {"mode": "deny"}}}
        await admin.put(POLICY, json=changed, headers={"If-Match": "*"})
        pushed = await satellite.apply_policy(enforced={"network": True})
        assert (pushed.revision, pushed.policy["network"]["mode"]) == (1, "deny")

        async def applied() -> bool:
            shown = (await admin.get(f"{SATELLITES}/{satellite.id}")).json()
            return bool(shown["appliedRevision"] == 1 and shown["enforced"] == {"network": True})

        await eventually(applied)


async def test_it_answers_a_run_without_running_anything(run_host: RunHost) -> None:
    host = await run_host()
    async with fake_satellite(host) as satellite, client(host) as admin:
        script = {"kind": "shell", "script": "echo hello"}
        waiting = {"wait": 30}
        asking = asyncio.create_task(
            admin.post(f"{SATELLITES}/{satellite.id}/runs", json=script, params=waiting)
        )
        asked = await satellite.answer_run(exit_code=3, stdout="made up\n")
        assert asked.script == "echo hello"
        answer = (await asking).json()["result"]
        assert (answer["exitCode"], answer["stdout"]) == (3, "made up\n")


async def test_it_is_told_when_it_is_not_wanted_any_longer_and_can_come_back_with_its_token(
    run_host: RunHost,
) -> None:
    host = await run_host()
    async with client(host) as admin, served(host) as url:
        made = (await admin.post(SATELLITES, json={"name": "edge", "region": "eu"})).json()
        for processes in (10, 20):
            policy = {"resources": {"maxProcesses": processes}}
            async with connect_satellite(url, id=made["satellite"]["id"], token=made["token"]) as satellite:
                await admin.put(POLICY, json={"policy": policy}, headers={"If-Match": "*"})
                await satellite.hear(SandboxPolicyPushed)
        async with connect_satellite(url, id=made["satellite"]["id"], token=made["token"]) as satellite:
            await admin.delete(f"{SATELLITES}/{satellite.id}")
            assert await satellite.closed() == CloseCode.DELETED
