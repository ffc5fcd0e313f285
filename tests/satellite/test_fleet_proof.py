"""Real processes, with everything that goes wrong.

Instances are killed, agents are cut off, and changes are made all the while. At the end every agent has the last
revision, none ever went down, and no run was looser than promised.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.primitives import requires
from tests.satellite.conftest import StartInstance
from tests.satellite.fleet import Killed, agent_behind, gateway
from tests.satellite.instances import Instance, Registered
from tests.waiting import in_time, until

AGENTS = 20
SECONDS = 6.0
CHANGE_SECONDS = 0.05
PATIENCE_SECONDS = 90.0
_APPLIED = re.compile(r"policy applied .*revision=(\d+)")


async def change_the_policy(instance: Instance) -> None:
    """Change it again and again, between strict and loose."""
    for number in itertools.count():
        network = (
            {"mode": "deny"} if number % 2 else {"mode": "unrestricted", "denyLinkLocalAndMetadata": False}
        )
        await instance.set_policy({"network": network, "resources": {"cpuSeconds": 10 + number % 50}})
        await asyncio.sleep(CHANGE_SECONDS)


async def run_scripts(instance: Instance, fleet: list[Registered], ran: list[tuple[int, int]]) -> None:
    """Run a script on one satellite after the other.

    Note which revision it had acknowledged, and what the run was under. The satellites are held by other instances,
    so each run crosses from one to another.
    """
    for satellite in itertools.cycle(fleet):
        acknowledged = (await instance.show(satellite))["appliedRevision"]
        answer = await instance.run(satellite, timeoutMs=1000)
        if answer["outcome"] == "finished" and acknowledged is not None:
            ran.append((acknowledged, answer["result"]["sandbox"]["origin"]["revision"]))


@requires("user namespaces")
@pytest.mark.slow
async def test_every_agent_has_the_last_revision_whatever_dies_on_the_way(
    start_instance: StartInstance, tmp_path: Path
) -> None:
    instance = await start_instance()
    fleet = [await instance.register(f"agent-{n}", offlineAfterSeconds=10) for n in range(AGENTS)]
    killed = [Killed(instance.host.database.url, tmp_path / f"instance-{n}") for n in range(2)]
    ran: list[tuple[int, int]] = []
    async with AsyncExitStack() as stack:
        for one in killed:
            stack.push_async_callback(one.kill)
            await one.start()
        front = await stack.enter_async_context(gateway([one.port for one in killed]))
        for satellite in fleet:
            await stack.enter_async_context(agent_behind(front, satellite, tmp_path))
        for satellite in fleet:
            await until_applied(instance, satellite, 0)

        chaos = [
            asyncio.create_task(change_the_policy(instance)),
            asyncio.create_task(run_scripts(instance, fleet, ran)),
        ]
        deadline = asyncio.get_running_loop().time() + SECONDS
        for turn in itertools.count():
            if asyncio.get_running_loop().time() > deadline and turn >= 4:
                break
            await killed[turn % 2].kill()
            front.cut(0.3)
            await killed[turn % 2].start()
            # The next blow falls only once a script has run after this one, however fast the machine is.
            so_far = len(ran)
            await until(lambda so_far=so_far: len(ran) > so_far, "another script has run")  # type: ignore[misc]
        for task in chaos:
            assert not task.done(), task.exception()
            task.cancel()
        await asyncio.gather(*chaos, return_exceptions=True)

        last = await instance.set_policy({"resources": {"cpuSeconds": 9}})
        for satellite in fleet:
            await until_applied(instance, satellite, last)
    assert last > 20
    assert len(ran) > 3
    assert all(under >= acknowledged for acknowledged, under in ran), "no run is looser than was acknowledged"
    for satellite in fleet:
        applied = [int(one) for one in _APPLIED.findall((tmp_path / f"{satellite.id}.log").read_text())]
        assert applied == sorted(applied), "a revision never goes down"
        assert applied[-1] == last


async def until_applied(instance: Instance, satellite: Registered, revision: int) -> None:
    async with in_time(f"{satellite.id} has applied revision {revision}", seconds=PATIENCE_SECONDS):
        while (await instance.show(satellite))["appliedRevision"] != revision:
            await asyncio.sleep(0.1)
