"""Automations: how many runs events start in a second, and how soon a script has started, beside bare jobs.

`python -m benchmarks.automations [--json] [--events N] [--rounds N]`. One host with PostgreSQL, and a real agent beside
it. The baseline in the same turn is procrastinate on a server like it, with jobs that do nothing, deferred in one
transaction as the events are: see `benchmarks.jobs`. A run that has started is recorded and begun; one that has ended
has also done a step that does nothing. The delay is from an event's commit to the script's own clock, so the start of a
sandbox is in it; `sandbox_ms` is that alone, for the same script without any event.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import structlog
from pydantic import BaseModel
from ringfence import Hook, PluginContext, PluginInfo, Registry, hookimpl
from ringfence.host import Host
from ringfence.scripts import ScriptKind, ScriptRequest, run
from ringfence.settings import HostSettings
from ringfence.testing import client, installed
from ringfence.web.server import listen, serving, url_of

from benchmarks.jobs import Engine, bare, ours
from benchmarks.relay import database

SCRIPT = "echo $EPOCHREALTIME"
DEFINITIONS = """
name: throughput
triggers: [{hook: bell-rang, filter: event.what == "throughput"}]
mode: parallel
max: 100
steps: [{stop: {}}]
---
name: here
triggers: [{hook: bell-rang, filter: event.what == "here"}]
mode: parallel
steps: [{id: look, run_script: {kind: bash, script: echo $EPOCHREALTIME}}]
---
name: there
triggers: [{hook: bell-rang, filter: event.what == "there"}]
mode: parallel
steps: [{id: look, run_script: {kind: bash, script: echo $EPOCHREALTIME, on: edge}}]
"""
DELAYS = 30
POLL_SECONDS = 0.01


class Rang(BaseModel):
    """What the event is for."""

    what: str


bell_rang = Hook("bell-rang", Rang)


@dataclass(frozen=True, slots=True)
class Figures:
    """Of automations. Rates in a second; delays are medians in milliseconds."""

    events: int
    started_per_second: int
    ended_per_second: int
    here_ms: float
    satellite_ms: float
    sandbox_ms: float


@dataclass(frozen=True, slots=True)
class Baseline:
    """Of bare jobs, whichever engine's: done in a second, and milliseconds from the commit to the handler."""

    engine: str
    jobs: int
    done_per_second: int
    delay_ms: float


class BellPlugin:
    """Emits the events."""

    info = PluginInfo("bell", "1.0")
    context: PluginContext

    @hookimpl
    def register(self, registry: Registry) -> None:
        registry.hook(bell_rang)

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        self.context = context

    async def ring(self, what: str, times: int = 1) -> float:
        """Emit events in one transaction; when it was committed."""
        async with self.context.sessions.begin() as session:
            for _ in range(times):
                await self.context.emit_hook(bell_rang, Rang(what=what), session=session)
        return time.time()


@dataclass
class Bench:
    """A running host, with what to ask it."""

    bell: BellPlugin
    api: httpx.AsyncClient
    connection: psycopg.AsyncConnection[Any]

    async def until(self, query: str, count: int) -> float:
        """When the query has come to so many."""
        while True:
            row = await (await self.connection.execute(query)).fetchone()
            if row is not None and row[0] >= count:
                return time.time()
            await asyncio.sleep(POLL_SECONDS)

    async def rates(self, events: int) -> tuple[int, int]:
        """Runs started, and ended, in a second, of events that are emitted together."""
        before = "SELECT count(*) FROM automations_runs WHERE automation = 'throughput'"
        row = await (await self.connection.execute(before)).fetchone()
        so_far = 0 if row is None else int(row[0])
        began = time.time()
        await self.bell.ring("throughput", events)
        started = await self.until(f"{before} AND started_at IS NOT NULL", so_far + events)
        ended = await self.until(f"{before} AND ended_at IS NOT NULL", so_far + events)
        return round(events / (started - began)), round(events / (ended - began))

    async def delay(self, what: str) -> float:
        """Milliseconds from an event's commit to its script, one event after the other."""
        found = []
        for _ in range(DELAYS):
            committed = await self.bell.ring(what)
            found.append((await self._started(what) - committed) * 1000)
        return round(statistics.median(found), 1)

    async def _started(self, what: str) -> float:
        query = {"automation": what, "limit": "1"}
        while True:
            runs = (await self.api.get("/api/automations/runs", params=query)).json()["runs"]
            if runs and runs[0]["id"] not in self._seen:
                break
            await asyncio.sleep(POLL_SECONDS)
        self._seen.add(runs[0]["id"])
        await self.api.get(f"/api/automations/runs/{runs[0]['id']}", params={"wait": 20}, timeout=30)
        steps = (await self.api.get(f"/api/automations/runs/{runs[0]['id']}/steps")).json()["steps"]
        return float(steps[0]["artifact"]["stdout"])

    def __post_init__(self) -> None:
        self._seen: set[str] = set()


@asynccontextmanager
async def running(url: str, directory: Path) -> AsyncIterator[Bench]:
    """A host with automations, and an agent that is called edge."""
    async with AsyncExitStack() as stack:
        bell = BellPlugin()
        settings = HostSettings(database_url=url, data_dir=directory / "host")
        host = await stack.enter_async_context(Host(settings, plugins=[*installed("automations"), bell]))
        listener = stack.enter_context(listen("127.0.0.1", 0))
        await stack.enter_async_context(serving(host.app, listener))
        api = await stack.enter_async_context(client(host))
        made = (await api.post("/api/satellite/satellites", json={"name": "edge", "region": "here"})).json()
        (directory / "token").write_text(made["token"])
        agent = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ringfence", "agent", "--url", url_of(listener)),
            *("--client-id", made["satellite"]["id"], "--token-file", str(directory / "token")),
            env={**os.environ, "RINGFENCE_DATA_DIR": str(directory / "agent")},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        stack.push_async_callback(agent.wait)
        stack.callback(agent.terminate)
        while (await api.get("/api/satellite/satellites")).json()["satellites"][0]["status"] != "online":
            await asyncio.sleep(0.1)
        (await api.post("/api/automations/apply", json={"text": DEFINITIONS})).raise_for_status()
        connection = await stack.enter_async_context(
            await psycopg.AsyncConnection.connect(url.replace("+psycopg", ""), autocommit=True)
        )
        yield Bench(bell, api, connection)


async def sandbox_alone() -> float:
    """Milliseconds from asking for the same script to its own clock, without an automation."""
    found = []
    for _ in range(DELAYS):
        asked = time.time()
        result = await run(ScriptRequest(ScriptKind.BASH, SCRIPT))
        found.append((float(result.stdout) - asked) * 1000)
    return round(statistics.median(found), 1)


async def measured(url: str, events: int) -> Figures:
    """All of automations."""
    with tempfile.TemporaryDirectory() as directory:
        async with running(url, Path(directory)) as bench:
            await bench.rates(20)
            started, ended = await bench.rates(events)
            here = await bench.delay("here")
            there = await bench.delay("there")
            return Figures(events, started, ended, here, there, await sandbox_alone())


async def baseline(engine: Engine, jobs: int) -> Baseline:
    """Of one engine's jobs that do nothing."""
    await engine.throughput(20, writes=False)
    _, rate = await engine.throughput(jobs, writes=False)
    return Baseline(engine.name, jobs, round(rate), round(statistics.median(await engine.delays()), 1))


async def main(events: int, rounds: int) -> list[Figures | Baseline]:
    """Each in turn, on one server, with a database of its own for procrastinate."""
    found: list[Figures | Baseline] = []
    for _ in range(rounds):
        async with database() as server:
            found.append(await measured(server.url, events))
            with tempfile.TemporaryDirectory() as directory:
                async with ours(server.url, Path(directory)) as engine:
                    found.append(await baseline(engine, events))
        if importlib.util.find_spec("procrastinate") is None:
            print("procrastinate is not installed: ours alone")
            continue
        async with database() as server, bare(server.url) as engine:
            found.append(await baseline(engine, events))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--events", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    for one in asyncio.run(main(given.events, given.rounds)):
        print(json.dumps(asdict(one)) if given.json else one)
