"""Nobody is told to be lost who was there all the time, whatever has paused meanwhile: the database or an instance."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from ringfence_satellite.protocol import CheckResult, Heartbeat
from ringfence_satellite.server import liveness
from sqlalchemy import text
from websockets.exceptions import ConnectionClosed

from tests.eventlog.stalling import StallingProxy, stalling_proxy
from tests.satellite.conftest import StartInstance
from tests.satellite.instances import Instance, Peer, Registered
from tests.satellite.test_fleet_state import events_of, killable, until_event

OFFLINE_AFTER_SECONDS = 3
HEARTBEAT_SECONDS = 0.2
FLEET = 12
LOST = "satellite-heartbeat-lost"


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "LOOK_SECONDS", 0.1)


@asynccontextmanager
async def heartbeats(peers: list[Peer]) -> AsyncIterator[None]:
    """Each of these satellites says again and again that it is there, until the block ends."""

    async def beat(peer: Peer) -> None:
        with suppress(ConnectionClosed):
            while True:
                await peer.say(Heartbeat())
                await asyncio.sleep(HEARTBEAT_SECONDS)

    async with asyncio.TaskGroup() as tasks:
        beating = [tasks.create_task(beat(peer)) for peer in peers]
        yield
        for task in beating:
            task.cancel()


@asynccontextmanager
async def fleet_on(
    registrar: Instance, instances: list[Instance]
) -> AsyncIterator[tuple[list[Registered], list[Peer]]]:
    """Satellites that are connected to these instances in turn."""
    satellites = [
        await registrar.register(f"s{n}", offlineAfterSeconds=OFFLINE_AFTER_SECONDS) for n in range(FLEET)
    ]
    async with AsyncExitStack() as stack:
        peers = []
        async with AsyncExitStack() as meanwhile:  # who has come is not silent until the last one comes
            for n, satellite in enumerate(satellites):
                peer = await stack.enter_async_context(instances[n % len(instances)].connected(satellite))
                await meanwhile.enter_async_context(heartbeats([peer]))
                peers.append(peer)
        yield satellites, peers


async def database_seconds(url: str, seconds: float) -> None:
    """Wait until so much time has passed on the database's clock, on a connection of the test's own."""
    async with await psycopg.AsyncConnection.connect(url.replace("+psycopg", "")) as connection:
        await connection.execute("SELECT pg_sleep(%s)", (seconds,))


async def heard_again(instance: Instance, satellites: list[Registered]) -> None:
    """Return when each satellite was written down as heard after this moment."""
    async with instance.host.runtime.database.sessions() as session:
        now = (await session.execute(text("SELECT clock_timestamp()"))).scalar_one()
    for satellite in satellites:
        await instance.until(
            satellite, lambda shown: shown["lastHeartbeatAt"] and shown["lastHeartbeatAt"] > now.isoformat()
        )


async def lost(instance: Instance, satellites: list[Registered]) -> list[str]:
    """Who was told to be lost, once for each time."""
    return [one.id for one in satellites for event in await events_of(instance, one) if event == LOST]


async def stall(proxy: StallingProxy, url: str) -> None:
    """The database says nothing for longer than a satellite may be silent, and then goes on."""
    proxy.stall()
    await database_seconds(url, OFFLINE_AFTER_SECONDS * 1.5)
    proxy.resume()


async def cut(proxy: StallingProxy, url: str) -> None:
    """The database is away for longer than a satellite may be silent: connections end, and new ones do not answer."""
    proxy.stall()
    await proxy.close()
    await database_seconds(url, OFFLINE_AFTER_SECONDS * 2.5)
    proxy.resume()


@pytest.mark.slow
@pytest.mark.parametrize("outage", [stall, cut])
async def test_an_outage_of_the_database_makes_nobody_lost(
    outage: object, database_url: str, start_instance: StartInstance
) -> None:
    assert callable(outage)
    async with stalling_proxy(database_url) as proxy:
        instances = [await start_instance(database_url=proxy.url) for _ in range(2)]
        async with fleet_on(instances[0], instances) as (satellites, peers):
            async with heartbeats(peers):
                await heard_again(instances[0], satellites)
                await outage(proxy, database_url)
                await heard_again(instances[0], satellites)
                await database_seconds(database_url, OFFLINE_AFTER_SECONDS * 1.5)
                assert await lost(instances[0], satellites) == []
                shown = [await instances[1].show(satellite) for satellite in satellites]
                assert {one["status"] for one in shown} == {"online"}
            # And those that are silent from now on are told to be lost, each once.
            for satellite in satellites:
                await until_event(instances[0], satellite, LOST)
            assert sorted(await lost(instances[0], satellites)) == sorted(one.id for one in satellites)


@pytest.mark.slow
async def test_an_instance_that_was_paused_takes_nobody_for_lost(
    start_instance: StartInstance, tmp_path: Path
) -> None:
    one = await start_instance()
    async with killable(one, tmp_path) as (process, other):
        paused = replace(one, url=other.url)
        async with fleet_on(one, [paused]) as (satellites, peers), heartbeats(peers):
            await heard_again(one, satellites)
            process.send_signal(signal.SIGSTOP)
            try:
                await database_seconds(one.host.database.url, OFFLINE_AFTER_SECONDS * 1.5)
            finally:
                process.send_signal(signal.SIGCONT)
            await heard_again(one, satellites)
            await database_seconds(one.host.database.url, OFFLINE_AFTER_SECONDS * 1.5)
            assert await lost(one, satellites) == []


async def test_a_fleet_that_starts_gives_its_satellites_time_to_come_back(
    start_instance: StartInstance,
) -> None:
    one = await start_instance()
    satellite = await one.register(offlineAfterSeconds=3600)
    async with one.connected(satellite):
        await one.until(satellite, lambda shown: shown["status"] == "online")
    async with one.host.runtime.database.sessions.begin() as session:
        # As if all instances had been away for a day, without having said goodbye to anybody.
        await session.execute(
            text("""UPDATE satellite_satellites
                       SET last_heartbeat_at = now() - interval '1 day', goodbye_at = NULL""")
        )
        await session.execute(text("DELETE FROM satellite_listeners"))
    two = await start_instance()
    async with two.host.runtime.database.sessions() as session:
        await session.execute(text("SELECT pg_sleep(1)"))
    assert await lost(two, [satellite]) == []


@pytest.mark.slow
async def test_a_satellite_is_not_silent_while_what_it_said_is_acted_on(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody reads what it says meanwhile, however often it says that it is there."""
    satellite = await instance.register(offlineAfterSeconds=OFFLINE_AFTER_SECONDS)
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def take_long(*_: object) -> bool:
        begun.set()
        await may_end.wait()
        return True

    monkeypatch.setattr(instance.plugin._work, "report", take_long)
    async with instance.connected(satellite) as peer, heartbeats([peer]):
        await peer.say(
            CheckResult(
                config_id="c",
                system_id="s",
                status="healthy",
                executed_at="2026-01-01",
                result_id=str(uuid.uuid4()),
            )
        )
        await begun.wait()
        await database_seconds(instance.host.database.url, OFFLINE_AFTER_SECONDS * 1.5)
        assert await lost(instance, [satellite]) == []
        assert (await instance.show(satellite))["status"] == "online"
        may_end.set()
        assert (await peer.hear("result_ack"))["accepted"]
