"""The tailer survives what happens to its connection and its database, loses nothing, and knows when it is behind."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psycopg
import pytest
from ringfence import Event, PluginContext
from ringfence.eventlog import tail
from ringfence.host import Host
from ringfence.settings import HostSettings
from ringfence.storage.embedded import EmbeddedPostgres
from ringfence.testing import RunHost, client
from sqlalchemy.exc import SQLAlchemyError

from tests.eventlog.probe import Noted, Probe, emit, noted, query
from tests.eventlog.stalling import StallingProxy, stalling_proxy
from tests.waiting import in_time, until


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(tail, "LIVE_SECONDS", 1.5)


def hearing(heard: list[int]) -> Probe:
    async def hear(event: Event[Noted]) -> None:
        heard.append(event.payload.n)

    async def ready(context: PluginContext) -> None:
        context.on_hook(noted, hear)

    return Probe(ready)


def host_at(url: str, directory: Path, plugin: Probe) -> Host:
    return Host(HostSettings(database_url=url, data_dir=directory / "instance"), plugins=[plugin])


async def readiness(host: Host) -> dict[str, Any]:
    async with client(host) as http:
        answer = await http.get("/readyz")
    body: dict[str, Any] = answer.json()
    assert (answer.status_code == 200) == body["ready"]
    return body


async def cut_tailers(host: Host) -> int:
    """Terminate every connection that listens, and answer how many there were."""
    rows = await query(
        host,
        """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()
              AND (query LIKE '%LISTEN ringfence_events' OR query LIKE 'SELECT hash, position, stream, version%')""",
    )
    return len(rows)


async def test_a_cut_connection_loses_nothing(run_host: RunHost) -> None:
    heard: list[int] = []
    probe = hearing(heard)
    host = await run_host(plugins=[probe])
    for n in range(60):
        await emit(probe.context, n)
        if n % 10 == 5:
            async with in_time("the tailer is connected again"):
                # It may still be on its way back from the last time.
                while not await cut_tailers(host):
                    await asyncio.sleep(0.005)
    await until(lambda: len(heard) == 60)
    assert heard == list(range(60))
    await until(lambda: host.runtime.tailer.live)


async def test_a_lost_notification_costs_time_and_no_event(run_host: RunHost) -> None:
    heard: list[int] = []
    probe = hearing(heard)
    host = await run_host(plugins=[probe])
    await until(lambda: host.runtime.tailer.live)
    await query(
        host,
        """INSERT INTO events (stream, version, hook, plugin, payload, occurred_at, instance, hash, keep_forever)
           VALUES ('s', 1, 'noted', 'probe', '{"n": 5}', now(), :i, '', false)""",
        i=host.instance_id,
    )
    await until(lambda: heard == [5])


@pytest.mark.slow
async def test_a_stalled_network_is_noticed_and_made_up_for(
    run_host: RunHost, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []
    emitter = Probe()
    await run_host(plugins=[emitter])
    async with stalling_proxy(database_url) as proxy, host_at(proxy.url, tmp_path, hearing(heard)) as host:
        await emit(emitter.context, 1)
        await until(lambda: heard == [1] and host.runtime.tailer.live)
        with monkeypatch.context() as impatient:
            # Only while it cannot be reached: a slow machine may take longer to answer.
            impatient.setattr(tail, "READ_SECONDS", 0.3)
            proxy.stall()
            await emit(emitter.context, 2, 3)
            await until(lambda: not host.runtime.tailer.live)
            await until(lambda: host.runtime.tailer.error is not None)
            assert heard == [1]
        proxy.resume()
        await until(lambda: heard == [1, 2, 3] and host.runtime.tailer.live)


async def test_readiness_tells_how_far_behind_an_instance_is(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringfence.delivery.lanes.PATIENCE_SECONDS", 60.0)
    go_on = asyncio.Event()

    async def dawdle(_: Event[Noted]) -> None:
        await go_on.wait()

    async def ready(context: PluginContext) -> None:
        context.on_hook(noted, dawdle)

    probe = Probe(ready)
    host = await run_host(plugins=[probe])
    await until(lambda: host.runtime.tailer.live)
    assert (await readiness(host))["tail"]["eventsBehind"] == 0
    await emit(probe.context, 1, 2, 3)
    await until(lambda: not host.runtime.tailer.live)
    state = await readiness(host)
    assert (state["ready"], state["tail"]["live"], state["tail"]["eventsBehind"]) == (False, False, 3)
    assert state["tail"]["secondsSinceCaughtUp"] > 1.5
    go_on.set()
    await until(lambda: host.runtime.tailer.live and host.runtime.tailer.cursor >= 3)
    state = await readiness(host)
    assert (state["ready"], state["tail"]["eventsBehind"]) == (True, 0)


async def test_a_stalled_instance_says_that_it_is_not_ready_and_does_not_hang(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringfence.web.health.ANSWER_SECONDS", 0.2)
    async with stalling_proxy(database_url) as proxy, host_at(proxy.url, tmp_path, Probe()) as host:
        await until(lambda: host.runtime.tailer.live)
        proxy.stall()
        async with in_time("an answer"):
            state = await readiness(host)
        assert (state["ready"], state["database"]) == (False, "out of reach: TimeoutError")
        assert state["tail"]["eventsBehind"] is None
        proxy.resume()
        await until(lambda: host.runtime.tailer.live)


@pytest.mark.slow
async def test_a_database_that_is_restarted_under_load_loses_nothing(
    own_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    heard: dict[str, list[int]] = {"one": [], "two": []}
    committed: list[int] = []
    stop = asyncio.Event()

    async def load(context: PluginContext) -> None:
        n = 0
        while not stop.is_set():
            n += 1
            try:
                await emit(context, n)
            except (SQLAlchemyError, OSError):
                await asyncio.sleep(0.01)
            else:
                committed.append(n)

    probes = {name: hearing(heard[name]) for name in heard}
    settings = [HostSettings(database_url=own_server.url, data_dir=tmp_path / name) for name in probes]
    async with (
        Host(settings[0], plugins=[probes["one"]]) as one,
        Host(settings[1], plugins=[probes["two"]]) as two,
    ):
        task = asyncio.create_task(load(probes["one"].context))
        for _ in range(2):
            floor = len(committed) + 20
            await until(lambda floor=floor: len(committed) >= floor)  # type: ignore[misc]
            await own_server.stop()
            await until(lambda: not two.runtime.tailer.live)
            await own_server.start()
        floor = len(committed) + 20
        await until(lambda: len(committed) >= floor)
        stop.set()
        await task
        await until(lambda: one.runtime.tailer.live and two.runtime.tailer.live)
        stored = [n for (n,) in await query(one, "SELECT (payload->>'n')::int FROM events ORDER BY position")]
        await until(lambda: all(len(each) >= len(stored) for each in heard.values()))
    assert heard == {"one": stored, "two": stored}
    # A commit whose answer was lost may stand; one that was answered must.
    assert set(committed) <= set(stored)
    assert stored == sorted(set(stored))


async def test_the_proxy_of_these_tests_really_stalls(database_url: str) -> None:
    async def ask(proxy: StallingProxy) -> None:
        url = proxy.url.replace("+psycopg", "")
        async with await psycopg.AsyncConnection.connect(url) as connection:
            await connection.execute("SELECT 1")

    async with stalling_proxy(database_url) as proxy:
        await ask(proxy)
        proxy.stall()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await ask(proxy)
