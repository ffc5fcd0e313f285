"""Checks that run on the core: on one instance of the fleet, and on the next one within seconds of its death."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ringfence.testing import eventually
from ringfence_health_checks.leadership import Leadership
from ringfence_health_checks.results import CORE
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from tests.health_checks.conftest import SECONDS, Checking, StartInstance
from tests.primitives import requires
from tests.satellite.instances import Instance

SECRET = "correct-horse-battery-staple"
INTERVAL = 0.5


@requires("user namespaces")
async def test_a_check_runs_on_one_of_several_instances_and_never_beside_itself(
    start_instance: StartInstance,
) -> None:
    first = await start_instance()
    await start_instance()
    checking = Checking(first.api)
    check = await checking.create(script="sleep 0.3; echo fine", intervalSeconds=INTERVAL)
    found = await checking.until(check, lambda results: len(results) >= 5)
    assert {one["ranOn"] for one in found} == {CORE}
    starts = sorted(dt.datetime.fromisoformat(one["executedAt"]) for one in found)
    # Twice as many instances would halve this; a run that was started beside another would too.
    assert all((later - earlier).total_seconds() > 0.3 for earlier, later in itertools.pairwise(starts))


@requires("user namespaces")
async def test_it_stops_when_it_is_disabled_and_starts_again(instance: Instance, checking: Checking) -> None:
    check = await checking.create(intervalSeconds=0.1)
    await checking.until(check, len)
    await checking.change(check, enabled=False)
    marker = await checking.create(name="marker", intervalSeconds=0.1)
    await checking.until(marker, lambda results: len(results) >= 2)
    count = len(await checking.results(check))
    await checking.until(marker, lambda results: len(results) >= 6)
    assert len(await checking.results(check)) <= count + 1
    await checking.change(check, enabled=True)
    await checking.until(check, lambda results: len(results) >= count + 3)


@requires("user namespaces")
async def test_it_has_its_secrets_and_they_are_masked(instance: Instance, checking: Checking) -> None:
    await checking.set_secret("API_TOKEN", SECRET)
    check = await checking.create(script='echo "$API_TOKEN has ${#API_TOKEN}"', secrets=["API_TOKEN"])
    [newest, *_] = await checking.until(check, len)
    assert newest["message"] == f"*** has {len(SECRET)}"
    lacking = await checking.create(name="lacking", secrets=["GONE"])
    [newest, *_] = await checking.until(lacking, len)
    assert newest["status"] == "unhealthy"
    assert "there is no secret GONE" in newest["message"]


LEADER = """
import asyncio, sys
from ringfence_health_checks.leadership import Leadership
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

async def lead():
    print("leads", flush=True)
    await asyncio.Event().wait()

async def main():
    sessions = async_sessionmaker(create_async_engine(sys.argv[1]))
    await Leadership(sessions, "a test").serve(lead)

asyncio.run(main())
"""


@asynccontextmanager
async def candidate(url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that stands for leader."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", LEADER, url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def leads(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(SECONDS):
        # Whatever a log prints comes before or after on lines of its own.
        while (line := await process.stdout.readline()) != b"leads\n":
            assert line, "the candidate has died"


async def test_when_the_leader_is_killed_another_leads_within_seconds(database_url: str) -> None:
    async with candidate(database_url) as first:
        await leads(first)
        async with candidate(database_url) as second:
            await waits(database_url)
            first.kill()
            loop = asyncio.get_running_loop()
            died = loop.time()
            await leads(second)
            assert loop.time() - died < 5.0


WAITING = text("""
    SELECT count(*) FROM pg_stat_activity
     WHERE query LIKE '%pg_try_advisory_lock%' AND pid <> pg_backend_pid()
""")
CUT = text("""
    SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()
""")


async def waits(url: str) -> None:
    """Return once somebody has stood for leader, and is not it."""
    engine = create_async_engine(url)
    try:

        async def somebody() -> bool:
            async with engine.connect() as connection:
                return int((await connection.execute(WAITING)).scalar_one()) > 0

        await eventually(somebody, seconds=SECONDS)
    finally:
        await engine.dispose()


async def test_a_leader_whose_connection_is_cut_stops_its_work_and_may_lead_again(database_url: str) -> None:
    engine = create_async_engine(database_url)
    sessions: async_sessionmaker[AsyncSession] = async_sessionmaker(engine)
    began, ended = 0, 0

    async def work() -> None:
        nonlocal began, ended
        began += 1
        try:
            await asyncio.Event().wait()
        finally:
            ended += 1

    async def has_begun_again() -> bool:
        return began == 2

    async def has_begun() -> bool:
        return began == 1

    leadership = Leadership(sessions, "another test")
    task = asyncio.create_task(leadership.serve(work))
    try:
        await eventually(has_begun, seconds=SECONDS)
        async with sessions() as session:
            await session.execute(CUT)
        await eventually(has_begun_again, seconds=SECONDS)
        assert ended == 1
        assert leadership.leads
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await engine.dispose()
    assert ended == 2


async def test_a_lock_does_not_go_back_to_the_pool_with_its_connection(database_url: str) -> None:
    engine = create_async_engine(database_url)
    sessions: async_sessionmaker[AsyncSession] = async_sessionmaker(engine)

    async def work() -> None:
        await asyncio.Event().wait()

    leadership = Leadership(sessions, "a third test")
    task = asyncio.create_task(leadership.serve(work))

    async def is_leading() -> bool:
        return leadership.leads

    await eventually(is_leading, seconds=SECONDS)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with sessions() as session:
        held = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        assert (await session.execute(held)).scalar_one() == 0
    await engine.dispose()
