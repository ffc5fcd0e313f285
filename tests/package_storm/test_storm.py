"""A fleet whose machines and database are killed at any point of what they do for packages: all stays whole.

Two instances, which resolve from a registry of the test's own, a satellite, and a PostgreSQL of theirs. Each round
changes what is wanted, and kills one of them at a point of the work on that, or at any moment.

`RINGFENCE_KILLS` says how many rounds (3), `RINGFENCE_STORM_SEED` which; it is printed.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from ringfence.scripts.packages.lock import Lock
from ringfence.scripts.packages.platform import Platform
from ringfence.scripts.packages.trees import tree_key
from ringfence_script_packages.addresses import PACKAGES

from tests import warm_start
from tests.package_storm import looking
from tests.package_storm.fleet import Database, Machine
from tests.package_storm.machine import SETS
from tests.package_storm.publisher import Publisher
from tests.primitives import requires
from tests.satellite.instances import SATELLITES
from tests.script_packages.resolving.registry import Registry
from tests.waiting import in_time, until, until_it

ROUNDS = int(os.environ.get("RINGFENCE_KILLS", "3"))
GRACE_DAYS = 40 / 86_400
"""Long enough for who fetches files before a lock names them, and short enough for what is old to go in the storm."""
POINTS = {
    "host": {
        "resolve": 2.0,
        "download": 0.1,
        "store": 0.2,
        "announce": 0.03,
        "told": 0.05,
        "fetch": 0.2,
        "unpack": 0.2,
        "name": 0.02,
        "swap": 0.02,
        "collect": 0.1,
        "clear": 0.02,
    },
    "agent": {"told": 0.05, "fetch": 0.5, "unpack": 0.2, "name": 0.02, "swap": 0.02, "clear": 0.02},
    "database": {
        "resolve": 1.0,
        "store": 0.1,
        "announce": 0.01,
        "told": 0.05,
        "fetch": 0.2,
        "collect": 0.05,
    },
}
"""Where each may die, and within how many seconds after it has come there."""
BLOW_SECONDS = 8.0
"""How long a round waits for the point. Then the blow falls at any moment."""
LONG_SECONDS = 300.0
"""How long it may take until a fleet is there again that was killed several times, on a machine that is busy."""
NOT_READY = "packages are not ready here"


@dataclass
class Storm:
    """The fleet, and what is known of it."""

    database: Database
    hosts: list[Machine]
    agent: Machine
    publisher: Publisher
    packages: dict[str, Path]
    chance: random.Random
    others: frozenset[int] = frozenset()
    """The processes that this one had before."""
    locks: dict[str, Lock] = field(default_factory=dict)
    platforms: dict[str, Platform] = field(default_factory=dict)
    runs: Counter[str] = field(default_factory=Counter)
    blows: Counter[str] = field(default_factory=Counter)

    @property
    def machines(self) -> list[Machine]:
        """All of them."""
        return [*self.hosts, self.agent]

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """A request to any instance that answers."""

        async def answered() -> tuple[int, Any] | None:
            for host in self.chance.sample(self.hosts, len(self.hosts)):
                if host.pid is not None and host.ready.is_set():
                    status, told = await host.ask(method, path, body)
                    if status not in (0, 500, 503):
                        return status, told
            return None

        found = await until_it(answered, f"an instance answers {method} {path}", seconds=LONG_SECONDS)
        assert found is not None
        return found

    async def change(self, *whats: str) -> None:
        """Want something else than before, by one of these ways."""
        match self.chance.choice(whats):
            case "newer":
                self.publisher.publish("alpha")
                await self.install("default")
            case "much":
                self.publisher.publish("beta")
                await self.install("default")
            case "forms":
                # Another version than now, which is often one that the set has had before.
                wanted = self.chance.randint(
                    max(1, self.publisher.versions["alpha"] - 5), self.publisher.versions["alpha"]
                )
                await self.allow("forms", f"alpha=={wanted}.0")
                await self.install("forms")
            case "extra":
                await self.ask("DELETE", f"{PACKAGES}/sets/extra")
                self.publisher.publish("gamma")
                await self.allow("extra", "gamma")
                await self.install("extra")
            case "collect":
                await self.ask("POST", f"{PACKAGES}/gc")

    async def allow(self, name: str, *packages: str) -> None:
        """Change what a set may have."""
        status, told = await self.ask("POST", f"{PACKAGES}/entries", {"packages": packages, "set": name})
        assert status == 200, told

    async def install(self, name: str) -> None:
        """Have a set installed, without waiting."""
        status, told = await self.ask("POST", f"{PACKAGES}/sets/{name}/install", {"upgrade": True})
        assert status in (202, 404), told

    async def blow(self) -> None:
        """Kill somebody, at a point of what it does or at any moment, and have it come back."""
        kind = self.chance.choice(("host", "host", "host", "agent", "database"))
        point, within = self.chance.choice([*POINTS[kind].items()])
        after = self.chance.uniform(0, within)
        armed = [self.agent] if kind == "agent" else self.hosts
        for machine in armed:
            machine.reached.clear()
            machine.order(doom=point, after=after, dies=kind != "database")
        ways = ["newer", "newer", "much"] if kind == "agent" else ["newer", "much", "forms", "forms", "extra"]
        change = asyncio.create_task(self.change(*(ways if point != "collect" else ["collect"])))
        struck = await self.struck(armed, at_point=kind != "database")
        if struck is None:
            point = "any moment"
            await asyncio.sleep(self.chance.uniform(0, 1))
        if kind == "database":
            await asyncio.sleep(after)
            await self.database.kill()
            await self.database.start()
        elif struck is None:
            await self.chance.choice(armed).kill()
        self.blows[f"{kind}: {point}"] += 1
        for machine in armed:
            machine.order(doom="", after=0, dies=False)
        await change

    async def keep_up(self) -> None:
        """Start whoever is dead, as a service manager does, until cancelled: one also dies that finds no database."""
        while True:
            for machine in self.machines:
                if machine.pid is None:
                    await machine.gone()
                    await machine.start()
            await asyncio.sleep(0.2)

    async def struck(self, armed: list[Machine], *, at_point: bool) -> Machine | None:
        """Which of these has come to its point, and is dead of it or has told; None if none did in time."""
        waiting: dict[asyncio.Task[object], Machine] = {
            asyncio.create_task(machine.gone() if at_point else machine.reached.wait()): machine
            for machine in armed
        }
        done, late = await asyncio.wait(waiting, timeout=BLOW_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for task in late:
            task.cancel()
        return waiting[done.pop()] if done else None

    async def look(self) -> None:
        """Whatever has happened, all that is there is whole, and every run had what it says or nothing."""
        # What has run by now names no lock that is not known then.
        ran = [(machine, machine.runs) for machine in self.machines]
        for machine in self.machines:
            machine.runs = []
        await looking.note_locks(self.database.url, self.locks, self.platforms)
        await looking.check_database(self.database.url)
        for packages in self.packages.values():
            await asyncio.to_thread(
                looking.check_directory, packages, self.locks, self.platforms.values(), self.publisher
            )
        for machine, runs in ran:
            for run in runs:
                self.runs[f"{machine.name}: {self.judged(run)}"] += 1

    def judged(self, run: dict[str, Any]) -> str:
        """What a run came to, if that is one of the things that it may come to."""
        if run["refused"]:
            assert run["exit"] == -1, run
            assert run["packages"] is None, run
            return NOT_READY if any(NOT_READY in each for each in run["refused"]) else run["refused"][0]
        assert run["exit"] == 0, run
        assert run["packages"] is not None, run
        assert run["packages"]["set"] == run["set"], run
        assert run["printed"] == self.publisher.expected(self.locks[run["packages"]["lock"]]), run
        return "had its lock"

    async def settle(self) -> dict[str, str]:
        """Wait until every set is installed, and everybody has it; the locks."""
        await until(
            lambda: all(machine.ready.is_set() for machine in self.machines),
            "all are there",
            seconds=LONG_SECONDS,
        )

        async def installed() -> dict[str, str] | None:
            status, told = await self.ask("GET", f"{PACKAGES}/sets")
            assert status == 200, told
            sets = {one["name"]: one for one in told["sets"]}
            if any(one["state"] != "current" for one in sets.values()):
                return None
            return {name: str(one["lockHash"]) for name, one in sets.items()}

        current = await until_it(installed, "every set is installed", pause=0.5, seconds=LONG_SECONDS)
        assert current is not None
        for host in self.hosts:
            await until_it(lambda host=host: self.has(host, current), f"{host.name} has {current}")  # type: ignore[misc]

        async def held() -> bool:
            _, told = await self.ask("GET", f"{PACKAGES}/sets/default")
            return bool(told["held"] == {"counts": {"ready": 1}, "lacking": []})

        await until_it(held, "the satellite has the default set", pause=0.5)
        await until_it(
            lambda: self.has(self.agent, {"default": current["default"]}), f"the satellite has {current}"
        )
        return current

    async def has(self, machine: Machine, current: dict[str, str]) -> bool:
        """Whether runs there have had the current lock of each set lately."""
        await asyncio.sleep(0.2)
        lately = {run["set"]: (run["packages"] or {}).get("lock") for run in machine.runs}
        return all(lately.get(name) == lock for name, lock in current.items())

    async def until_no_orphans(self) -> None:
        """Wait until no process is left of those that are dead."""

        def left() -> dict[int, str]:
            known = self.others | {self.database.pid} | {machine.pid or 0 for machine in self.machines}
            return looking.orphans(known)

        async with in_time(lambda: f"these are left of machines that were killed: {left()}"):
            while left():
                await asyncio.sleep(0.05)


def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def fleet(directory: Path, chance: random.Random) -> AsyncIterator[Storm]:
    """The fleet, with the sets installed for the first time."""
    others = frozenset(looking.orphans(()))
    async with AsyncExitStack() as stack:
        registry = stack.enter_context(Registry())
        publisher = Publisher(registry, directory / "expected")
        for name in ("alpha", "beta", "gamma"):
            publisher.publish(name)
        database = Database(directory / "postgres")
        await database.start()
        stack.push_async_callback(database.stop)
        environment = {
            "RINGFENCE_SCRIPT_PACKAGES_UNUSED_DAYS": str(GRACE_DAYS),
            "RINGFENCE_SCRIPT_PACKAGES_REGISTRIES": json.dumps(
                {"pythonIndexes": [f"{registry.url}/simple"], "npmRegistry": f"{registry.url}/npm"}
            ),
        }
        ports = [free_port(), free_port()]
        hosts = [
            Machine(
                f"host-{number}",
                "tests.package_storm.host_program",
                (database.url, str(directory / f"data-{number}"), str(port)),
                directory,
                environment,
            )
            for number, port in enumerate(ports)
        ]
        for host in hosts:
            stack.push_async_callback(host.kill)
            await host.start()
            await until(host.ready.is_set, f"{host.name} serves")
        status, made = await hosts[0].ask("POST", SATELLITES, {"name": "edge", "region": "eu"})
        assert status == 201, made
        id, token = made["satellite"]["id"], directory / "token"
        token.write_text(made["token"])
        token.chmod(0o600)
        urls = [word for port in ports for word in ("--url", f"http://127.0.0.1:{port}")]
        agent = Machine(
            "satellite",
            "tests.package_storm.agent_program",
            (*urls, "--client-id", id, "--token-file", str(token), "--heartbeat", "0.5"),
            directory,
        )
        packages = {host.name: directory / f"data-{number}" / "packages" for number, host in enumerate(hosts)}
        packages[agent.name] = directory / f"packages-{id}"
        storm = Storm(database, hosts, agent, publisher, packages, chance, others)
        await storm.allow("default", "alpha", "beta")
        await storm.allow("forms", "alpha==1.0")
        await storm.allow("extra", "gamma")
        for name in SETS:
            await storm.install(name)
        stack.push_async_callback(agent.kill)
        await agent.start()
        await storm.settle()
        # Until then there was no default set, and runs without packages were right.
        for machine in storm.machines:
            machine.runs.clear()
        yield storm


@requires("user namespaces", "relay")
@pytest.mark.slow
async def test_whoever_is_killed_wherever_all_is_whole_and_all_converge(open_directory: Path) -> None:
    seed = int(os.environ.get("RINGFENCE_STORM_SEED", random.SystemRandom().randrange(2**32)))
    print(f"RINGFENCE_STORM_SEED={seed}")
    looking.adopt_orphans(adopts=True)
    try:
        # What tests are forked from is no machine, and would be taken for what one has left.
        with warm_start.cold():
            await blows(open_directory, random.Random(seed))
    finally:
        looking.adopt_orphans(adopts=False)


async def blows(directory: Path, chance: random.Random) -> None:
    """All rounds of a storm, and what has to be true after each, and in the end."""
    async with fleet(directory, chance) as storm:
        keeping_up = asyncio.create_task(storm.keep_up())
        try:
            for number in range(ROUNDS):
                await storm.blow()
                await storm.until_no_orphans()
                await storm.look()
                if number % 20 == 19:
                    await storm.settle()
            current = await storm.settle()
            await storm.look()
        finally:
            keeping_up.cancel()
            await asyncio.wait([keeping_up])
            print(f"{dict(sorted(storm.blows.items()))}\n{dict(sorted(storm.runs.items()))}")
        await nothing_is_left(storm, current)


async def nothing_is_left(storm: Storm, current: dict[str, str]) -> None:
    """Wait until nothing is anywhere that no set has; and once all have ended, no process and no temporary file."""
    await looking.let_all_be_old(storm.database.url)
    status, told = await storm.ask("POST", f"{PACKAGES}/gc")
    assert status == 200, told
    assert await looking.nobodys(storm.database.url) == {}
    await looking.check_database(storm.database.url)
    for name, packages in storm.packages.items():
        has = current if name.startswith("host") else {"default": current["default"]}

        keys = {tree_key(lock, platform) for lock in has.values() for platform in storm.platforms.values()}
        await until(
            lambda packages=packages, keys=keys: set(os.listdir(packages / "trees")) <= keys,  # type: ignore[misc]
            f"{name} has no trees but those of {has}",
        )
        there = looking.check_directory(packages, storm.locks, storm.platforms.values(), storm.publisher)
        assert there == set(has.values())
        async with in_time(lambda name=name, packages=packages: f"{name} has no {looking.left_in(packages)}"):  # type: ignore[misc]
            while looking.left_in(packages):
                await asyncio.sleep(0.1)
    for machine in storm.machines:
        await machine.stop()
    await storm.until_no_orphans()
    left = {machine.name: os.listdir(machine.temporary) for machine in storm.machines}
    assert not any(left.values()), left
    with psycopg.connect(storm.database.url.replace("+psycopg", "")) as connection:
        [[waiting]] = connection.execute("SELECT count(*) FROM pg_prepared_xacts").fetchall()
    assert waiting == 0
