"""What is known of the fleet.

Who is online, who has fallen silent, what has happened, and how far a change has come.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from ringfence_satellite.protocol import Heartbeat, SandboxPolicyApplied, WireDowngrade
from ringfence_satellite.server import liveness
from sqlalchemy import text

from tests.satellite.conftest import StartInstance
from tests.satellite.instances import SATELLITES, Instance, Registered, another_policy
from tests.satellite.test_agent_process import agent
from tests.shared_hosts import OWN, SHARED
from tests.waiting import in_time, until, until_it

pytestmark = SHARED

ROLLOUT = "/api/satellite/rollout"


async def events_of(instance: Instance, satellite: Registered) -> list[str]:
    """The hooks of the satellite's stream, in order."""
    async with instance.host.runtime.database.sessions() as session:
        rows = await session.execute(
            text("SELECT hook FROM events WHERE stream = :stream ORDER BY version"),
            {"stream": f"satellite.{satellite.id}"},
        )
        return list(rows.scalars())


async def until_event(instance: Instance, satellite: Registered, hook: str, count: int = 1) -> list[str]:
    async def told() -> list[str] | None:
        events = await events_of(instance, satellite)
        return events if events.count(hook) >= count else None

    return await until_it(told, f"{count} times {hook}") or []


@asynccontextmanager
async def killable(
    instance: Instance, tmp_path: Path
) -> AsyncIterator[tuple[asyncio.subprocess.Process, Instance]]:
    """Another instance on the same database, in a process that a test may kill."""
    url = instance.host.database.url
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.satellite.instance_program", url, str(tmp_path / "other"), "0"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with in_time("the other instance says where it listens"):
            while not (line := (await process.stdout.readline()).decode()).startswith("http"):
                assert line, "the instance ended"
        yield process, replace(instance, url=line.split()[0])
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_every_step_of_a_satellites_life_is_an_event(instance: Instance) -> None:
    satellite = await instance.register()
    async with instance.connected(satellite):
        await until_event(instance, satellite, "satellite-connected")
    await until_event(instance, satellite, "satellite-disconnected")
    await instance.api.patch(f"{SATELLITES}/{satellite.id}", json={"region": "us"})
    await instance.api.post(f"{SATELLITES}/{satellite.id}/rotate-token")
    await instance.api.delete(f"{SATELLITES}/{satellite.id}")
    assert await events_of(instance, satellite) == [
        "satellite-registered",
        "satellite-connected",
        "satellite-disconnected",
        "satellite-changed",
        "satellite-token-rotated",
        "satellite-deleted",
    ]


@OWN
@pytest.mark.slow
async def test_a_silence_is_told_once_for_the_fleet_though_the_instance_that_held_the_satellite_was_killed(
    start_instance: StartInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "LOOK_SECONDS", 0.05)
    one, two = await start_instance(), await start_instance()
    satellite = await one.register(offlineAfterSeconds=1)
    async with killable(one, tmp_path) as (process, holder):
        async with holder.peer(satellite) as peer:
            await peer.hear("authenticated")
            await one.until(satellite, lambda shown: shown["status"] == "online")
            process.kill()
            await process.wait()
        await until_event(one, satellite, "satellite-heartbeat-lost")
        assert (await two.show(satellite))["status"] == "offline"
        # Both look again and again; another look of each must find nothing more.
        for instance in (one, two):
            assert await liveness.find_lost(instance.plugin._context) == 0
    assert (await events_of(one, satellite)).count("satellite-heartbeat-lost") == 1

    async with two.connected(satellite) as peer:
        await one.until(satellite, lambda shown: shown["status"] == "online")
        peer.socket.transport.abort()
        events = await until_event(one, satellite, "satellite-heartbeat-lost", count=2)
    assert events.count("satellite-heartbeat-lost") == 2, "another silence is another edge"


@pytest.mark.slow
async def test_a_satellite_whose_instance_dies_goes_to_another_that_it_was_told_of(
    instance: Instance, tmp_path: Path
) -> None:
    satellite = await instance.register(offlineAfterSeconds=20)
    async with (
        killable(instance, tmp_path / "a") as (first, one),
        killable(instance, tmp_path / "b") as (second, other),
        agent(instance, satellite, tmp_path, urls=(one.url, other.url)),
    ):
        shown = await instance.until(satellite, lambda shown: shown["instance"] is not None)
        died = shown["instance"]
        # Which one it began with was drawn; kill that one.
        holder = first if died == await id_of(one) else second
        holder.kill()
        await holder.wait()
        shown = await instance.until(satellite, lambda shown: shown["instance"] not in {None, died})
        assert shown["status"] == "online"
    assert "satellite-heartbeat-lost" not in await events_of(instance, satellite)


async def id_of(instance: Instance) -> str:
    """Which instance it is that answers at this address."""
    async with httpx.AsyncClient(base_url=instance.url) as http:
        return str((await http.get("/healthz")).json()["instance"])


async def test_those_that_look_at_the_same_moment_tell_of_a_silence_once(
    instance: Instance, other: Instance
) -> None:
    fleet = [await instance.register(f"s{n}", offlineAfterSeconds=1) for n in range(20)]
    async with instance.host.runtime.database.sessions.begin() as session:
        await session.execute(
            text("UPDATE satellite_satellites SET last_heartbeat_at = now() - interval '1 hour'")
        )
    # Beside those that both instances make by themselves.
    contexts = [each.plugin._context for each in (instance, other)]
    await asyncio.gather(*(liveness.find_lost(context) for context in contexts * 3))
    for satellite in fleet:
        await until_event(instance, satellite, "satellite-heartbeat-lost")
        assert (await events_of(instance, satellite)).count("satellite-heartbeat-lost") == 1


@OWN
@pytest.mark.slow
async def test_a_move_to_another_instance_and_a_goodbye_are_no_silence(
    start_instance: StartInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "LOOK_SECONDS", 0.05)
    one = await start_instance()
    satellite = await one.register()
    async with killable(one, tmp_path) as (process, holder):
        async with holder.connected(satellite):
            await one.until(satellite, lambda shown: shown["status"] == "online")
            process.kill()
            await process.wait()
        async with one.connected(satellite) as peer:
            await one.until(satellite, lambda shown: shown["instance"] == str(one.host.instance_id))
            await one.api.patch(f"{SATELLITES}/{satellite.id}", json={"offlineAfterSeconds": 2})
            # Longer than the threshold, as the database counts, with heartbeats.
            since = (await one.show(satellite))["connectedAt"]
            async with in_time("the time has gone by in which the instance hears nothing else"):
                while not await _seconds_since(one, since, 2.5):
                    await peer.say(Heartbeat())
                    await asyncio.sleep(0.2)
    await one.until(satellite, lambda shown: shown["status"] == "offline")
    assert await liveness.find_lost(one.plugin._context) == 0
    assert "satellite-heartbeat-lost" not in await events_of(one, satellite)


async def _seconds_since(instance: Instance, moment: str, seconds: float) -> bool:
    async with instance.host.runtime.database.sessions() as session:
        statement = text(
            "SELECT now() > CAST(CAST(:moment AS text) AS timestamptz) + make_interval(secs => :seconds)"
        )
        return bool((await session.execute(statement, {"moment": moment, "seconds": seconds})).scalar_one())


async def test_a_satellite_that_sends_nothing_is_cut_off(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "LOOK_SECONDS", 0.05)
    satellite = await instance.register(offlineAfterSeconds=1)
    async with instance.connected(satellite) as peer:
        code, reason = await peer.closed()
    assert code == 4408
    assert "nothing was heard" in reason


async def test_a_rollout_names_those_that_lag_and_those_that_downgraded(instance: Instance) -> None:
    fleet = [await instance.register(f"s{n}") for n in range(4)]
    before = await instance.revision()
    assert await rollout(instance) >= {
        "revision": before,
        "online": 0,
        "percent": 100.0,
        "complete": True,
        "never": 4,
    }
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(instance.connected(one)) for one in fleet[:3]]
        for peer in peers:
            await peer.applied(before)
        await until_rollout(instance, applied=3)
        policy = another_policy()
        revision = await instance.set_policy(policy)
        began = await until_rollout(instance, revision=revision, online=3, applied=0)
        assert began >= {"percent": 0.0, "complete": False, "laggingCount": 3, "never": 1}
        await peers[0].applied(revision)
        downgrade = (WireDowngrade(layer="network", reason="no nft"),)
        await peers[1].say(SandboxPolicyApplied(revision=revision, downgrades=downgrade))
        shown = await until_rollout(instance, applied=2)
        assert shown["percent"] == 66.6
        assert [one["name"] for one in shown["lagging"]] == ["s2"]
        assert shown["lagging"][0]["appliedRevision"] == before
        assert [(one["name"], one["downgrades"]) for one in shown["downgraded"]] == [
            ("s1", [{"layer": "network", "reason": "no nft"}])
        ]
        await peers[2].applied(revision)
        done = await until_rollout(instance, applied=3)
        assert done >= {"percent": 100.0, "complete": True, "laggingCount": 0, "downgradedCount": 1}
        assert done["refusingCount"] == 1
        revision = await instance.set_policy({**policy, "onUnavailable": "degrade"})
        await peers[1].say(SandboxPolicyApplied(revision=revision, downgrades=downgrade))
        assert await until_rollout(instance, applied=1) >= {"downgradedCount": 1, "refusingCount": 0}


class Shown(dict[str, Any]):
    """What the API shows; `>=` asks whether it has these members."""

    def __ge__(self, other: dict[str, Any]) -> bool:
        return all(self[key] == value for key, value in other.items())


async def rollout(instance: Instance) -> Shown:
    answer = await instance.api.get(ROLLOUT)
    assert answer.status_code == 200, answer.text
    return Shown(answer.json())


async def until_rollout(instance: Instance, **members: object) -> Shown:
    async with in_time(lambda: f"{members}; the last answer was {shown}"):
        while not (shown := await rollout(instance)) >= members:
            await asyncio.sleep(0.02)
    return shown


async def test_a_fleet_that_comes_back_at_once_is_let_in_with_few_queries(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = [await instance.register(f"s{n}") for n in range(30)]
    loads: list[int] = []
    credentials = instance.plugin._credentials
    load = credentials._load

    async def counted(ids: Any) -> Any:
        loads.append(len(ids))
        return await load(ids)

    monkeypatch.setattr(credentials, "_load", counted)
    async with AsyncExitStack() as stack:
        peers = await asyncio.gather(
            *(stack.enter_async_context(instance.connected(satellite)) for satellite in fleet)
        )
        assert sum(loads) == len(fleet)
        assert len(loads) < len(fleet) / 2
        revision = await instance.set_policy(another_policy())
        for peer in peers:
            assert (await peer.hear("sandbox_policy"))["revision"] == revision


async def test_one_serialisation_serves_them_all(instance: Instance) -> None:
    fleet = [await instance.register(f"s{n}") for n in range(3)]
    async with AsyncExitStack() as stack:
        for satellite in fleet:
            await stack.enter_async_context(instance.connected(satellite))
        connections = [instance.plugin._relay.connection_of(uuid.UUID(one.id)) for one in fleet]
        sent: list[object] = []
        for connection in connections:
            assert connection is not None
            connection._direct = _Full(sent)
        await instance.set_policy(another_policy())
        await until(lambda: len(sent) >= 3)
    assert len({id(message) for message in sent}) == 1


class _Full:
    """Direct writes that take everything, and keep it."""

    def __init__(self, sent: list[object]) -> None:
        self._sent = sent

    def write_now(self, message: object) -> bool:
        self._sent.append(message)
        return True

    def abort(self) -> None:
        """Nothing to drop."""

    def limit_messages(self, most: int) -> None:
        """Nothing is read here."""


async def test_what_a_satellite_acknowledges_is_told_once(instance: Instance) -> None:
    satellite, revision = await instance.register(), await instance.revision()
    applied = "satellite-policy-applied"
    for _ in range(2):  # over another connection it says so anew
        async with instance.connected(satellite) as peer:
            await peer.applied(revision)
            await instance.until(satellite, lambda shown: shown["connectedAt"] and shown["enforced"])
            await until_event(instance, satellite, applied)
        await until_event(instance, satellite, "satellite-disconnected")
    async with instance.connected(satellite) as peer:
        lacking = WireDowngrade(layer="network", reason="no tun")
        await peer.say(
            SandboxPolicyApplied(revision=revision, enforced={"network": False}, downgrades=(lacking,))
        )
        assert (await until_event(instance, satellite, applied, count=2)).count(applied) == 2
    async with instance.host.runtime.database.sessions() as session:
        query = text("SELECT payload FROM events WHERE hook = :hook AND stream = :stream ORDER BY position")
        asked = {"hook": applied, "stream": f"satellite.{satellite.id}"}
        told = [row.payload for row in await session.execute(query, asked)]
    assert [one["lacking"] for one in told] == [[], ["network"]]


async def test_agents_that_are_refused_as_a_satellite_are_told_of_once_a_minute(instance: Instance) -> None:
    satellite = await instance.register()
    for _ in range(3):
        async with instance.peer(replace(satellite, token="wrong")) as peer:
            await peer.closed()
    async with instance.peer(Registered(str(uuid.uuid4()), "wrong")) as peer:
        await peer.closed()
    await until_event(instance, satellite, "satellite-refused")
    async with instance.connected(satellite):
        events = await until_event(instance, satellite, "satellite-connected")
    assert events.count("satellite-refused") == 1
    async with instance.host.runtime.database.sessions() as session:
        count = await session.execute(text("SELECT count(*) FROM events WHERE hook = 'satellite-refused'"))
        assert count.scalar_one() == 1
