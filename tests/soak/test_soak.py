"""Three hosts for a long time, under everything at once.

There is a database with faults, there are changes all the while, and a satellite that has gone bad. At the end the
honest ones have lost nothing, repeated nothing and missed nothing, and nobody was told of an edge that was none.

`RINGFENCE_SOAK_SECONDS` is how long (600), `RINGFENCE_SOAK_SEED` what decides the faults; it is printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import psycopg
import pytest
from ringfence_satellite.protocol import CloseCode

from tests.eventlog.stalling import StallingProxy, stalling_proxy
from tests.health_checks.conftest import CHECKS, Checking, agent
from tests.primitives import requires
from tests.satellite.conftest import StartInstance
from tests.satellite.instances import POLICY, Instance, Registered
from tests.soak.honest import RESULT_SECONDS, Honest
from tests.waiting import in_time

SECONDS = float(os.environ.get("RINGFENCE_SOAK_SECONDS", "600"))
OFFLINE_AFTER_SECONDS = 12
HONEST = 9
AGENTS = 2
NOT_THEIR_FAULT = {CloseCode.TRY_LATER}
"""How a host may close an honest satellite's connection when its database is away; never for what that one did."""
LOST = "satellite-heartbeat-lost"


async def faults(
    proxy: StallingProxy, url: str, spared: list[int], chance: random.Random, told: Counter[str]
) -> None:
    """One fault of the database after the other, shorter and longer than a satellite may be silent."""
    while True:
        await asyncio.sleep(chance.uniform(2, 15))
        kind = chance.choice(("stalls", "stalls for long", "cut", "away", "killed"))
        told[kind] += 1
        match kind:
            case "stalls" | "stalls for long":
                proxy.stall()
                await asyncio.sleep(
                    chance.uniform(0.2, 4) if kind == "stalls" else OFFLINE_AFTER_SECONDS * 1.5
                )
                proxy.resume()
            case "cut":
                await proxy.close()
            case "away":
                proxy.stall()
                await proxy.close()
                await asyncio.sleep(chance.uniform(1, OFFLINE_AFTER_SECONDS * 2))
                proxy.resume()
            case "killed":
                async with await psycopg.AsyncConnection.connect(url) as connection:
                    await connection.execute(
                        """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                            WHERE datname = current_database() AND random() < 0.5
                              AND pid <> ALL(%s) AND pid <> pg_backend_pid()""",
                        (spared,),
                    )


async def changes(api: httpx.AsyncClient, check: str, chance: random.Random, written: list[int]) -> None:
    """Change the policy and the check again and again; what is answered was written."""
    number = 0
    while True:
        number += 1
        with contextlib.suppress(httpx.HTTPError):
            partial = {"resources": {"cpuSeconds": 10 + number % 50}}
            answer = await api.put(POLICY, json={"policy": partial}, headers={"If-Match": "*"})
            assert answer.status_code in {200, 503}, answer.text
            if answer.status_code == 200:
                written.append(int(answer.json()["revision"]))
            answer = await api.patch(f"{CHECKS}/{check}", json={"script": f"echo {number}"})
            assert answer.status_code in {200, 503}, answer.text
        await asyncio.sleep(chance.uniform(0.2, 2))


@asynccontextmanager
async def hostile(urls: list[str], satellite: Registered, seed: int) -> AsyncIterator[None]:
    """A satellite that says anything at full speed, as a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "tests.soak.hostile",
            ",".join(urls),
            satellite.id,
            satellite.token,
            str(seed),
        )
    )
    try:
        yield
        assert process.returncode is None, "it was there to the end"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def rows(url: str, query: str, *values: object) -> list[tuple[object, ...]]:
    """What the database has, on a connection that has no faults."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        return await (await connection.execute(query, values)).fetchall()


@requires("user namespaces")
@pytest.mark.slow
async def test_the_honest_lose_repeat_and_miss_nothing_whatever_goes_on_around_them(
    database_url: str, start_instance: StartInstance, tmp_path: Path
) -> None:
    seed = int(os.environ.get("RINGFENCE_SOAK_SEED", random.SystemRandom().randrange(2**32)))
    print(f"RINGFENCE_SOAK_SEED={seed}")
    chance, url = random.Random(seed), database_url.replace("+psycopg", "")
    happened: Counter[str] = Counter()
    written: list[int] = []
    # The test kit's own connection, which holds the database.
    ours = await rows(url, "SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(stalling_proxy(database_url))
        host = await start_instance(database_url=proxy.url)
        others = [
            await stack.enter_async_context(instance(proxy.url, tmp_path / f"host-{number}"))
            for number in range(2)
        ]
        urls = [host.url, *others]
        checking = Checking(host.api)
        check = await checking.create(runsOn={"tags": ["honest"]}, intervalSeconds=RESULT_SECONDS)
        on_agents = await checking.create(name="agents", runsOn={"tags": ["agent"]}, intervalSeconds=1)
        fleet = [await registered(host, f"honest-{number}", "honest") for number in range(HONEST)]
        on_agent = [await registered(host, f"agent-{number}", "agent") for number in range(AGENTS)]
        bad = await registered(host, "hostile", "honest")
        honest = [Honest(one, urls, random.Random(chance.random())) for one in fleet]
        for number, satellite in enumerate(on_agent):
            (tmp_path / satellite.id).mkdir()
            await stack.enter_async_context(agent(urls[number % 3], satellite, tmp_path / satellite.id))
        living = [asyncio.create_task(one.live()) for one in honest]
        stack.callback(lambda: [task.cancel() for task in living])
        await until(lambda: all(one.assigned for one in honest), "every satellite knows its check")
        chaos = [
            asyncio.create_task(faults(proxy, url, [int(str(pid)) for (pid,) in ours], chance, happened)),
            asyncio.create_task(changes(host.api, check["id"], chance, written)),
        ]
        async with hostile(urls, bad, seed):
            done, _ = await asyncio.wait(
                [*chaos, *living], timeout=SECONDS, return_when=asyncio.FIRST_EXCEPTION
            )
            for task in done:
                task.result()
            for task in chaos:
                task.cancel()
            await asyncio.gather(*chaos, return_exceptions=True)
            proxy.resume()
            # Still with the bad one there.
            last = await set_policy(host)
            await until(lambda: all(one.held == last for one in honest), f"everybody has revision {last}")
            for one in honest:
                one.makes = False
            await until(lambda: not any(one.waiting for one in honest), "every result is acknowledged")
        print(
            f"{dict(happened)}; {len(written)} revisions; closed: {sum((o.closed for o in honest), Counter())}"
        )

        for one in honest:
            assert one.went_down == [], "no revision went down"
            assert one.refused == [], "no result was refused"
            assert set(one.closed) <= NOT_THEIR_FAULT, "nobody was thrown out"
            found = await rows(
                url, "SELECT id, message FROM health_checks_results WHERE ran_on = %s", one.satellite.id
            )
            assert Counter(str(message) for _, message in found) == Counter(one.sent.values())
            assert {str(result_id) for result_id, _ in found} == set(one.sent)
        assert last > max(written)
        assert len(written) == len(set(written))
        for satellite in on_agent:
            results = await rows(
                url,
                "SELECT status, executed_at FROM health_checks_results WHERE check_id = %s AND ran_on = %s",
                on_agents["id"],
                satellite.id,
            )
            assert {status for status, _ in results} == {"healthy"}
            assert len({at for _, at in results}) == len(results)
        streams = [f"satellite.{satellite.id}" for satellite in [*fleet, *on_agent]]
        streams = [f"satellite.{satellite.id}" for satellite in [*fleet, *on_agent]]
        told = await rows(
            url, "SELECT stream FROM events WHERE stream = ANY(%s) AND hook = %s", streams, LOST
        )
        assert told == [], "nobody was told to be lost"
        for address in urls:
            answer = await host.api.get(f"{address}/readyz")
            assert answer.json()["ready"], answer.text


@asynccontextmanager
async def instance(database_url: str, directory: Path) -> AsyncIterator[str]:
    """The address of another host on that database, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "tests.satellite.instance_program",
            database_url,
            str(directory),
            "0",
            "checks",
        ),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with in_time("the other host says where it listens"):
            while not (line := (await process.stdout.readline()).decode()).startswith("http"):
                assert line, "it ended"
        yield line.split()[0]
        assert process.returncode is None, "it was there to the end"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def registered(host: Instance, name: str, tag: str) -> Registered:
    """A satellite that may not be silent for long."""
    return await host.register(name, tags=[tag], offlineAfterSeconds=OFFLINE_AFTER_SECONDS)


async def set_policy(host: Instance) -> int:
    """Write the policy as soon as the database is back; its revision."""
    found: list[int] = []

    async def is_written() -> bool:
        with contextlib.suppress(httpx.HTTPError, AssertionError):
            found.append(await host.set_policy({"resources": {"cpuSeconds": 9}}))
        return bool(found)

    await until_true(is_written, "the policy can be written again")
    return found[0]


async def until(holds: Callable[[], bool], what: str) -> None:
    """Wait until that is so."""

    async def is_so() -> bool:
        return holds()

    await until_true(is_so, what)


async def until_true(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait until that is so, with patience for what the faults have held up."""
    async with in_time(what):
        while not await holds():
            await asyncio.sleep(0.1)
