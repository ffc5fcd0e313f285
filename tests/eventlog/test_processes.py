"""Several host processes on one database: killed, frozen, and their database restarted. Everything is counted."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from ringfence.storage.embedded import EmbeddedPostgres
from ringfence.storage.migrating import HOST_MIGRATIONS, MigrationBranch, migrate

from tests.eventlog.instance import GROUPS, TABLES, Instance
from tests.primitives import requires
from tests.waiting import PATIENCE_SECONDS, in_time, until

DEADLINE_SECONDS = PATIENCE_SECONDS
SOLE_EVENTS = 60
"""At `PACE_SECONDS` that is more than a tick of the fleet, after which an instance knows that it has lost a group."""
DAY = 24 * 60 * 60
QUICK = {"membership__TICK_SECONDS": 0.2, "presence__GONE_SECONDS": 1.0, "backoff__FIRST_SECONDS": 0.01}

Start = Callable[..., Awaitable[Instance]]


class Counts:
    """What the database says, asked on a connection of the test's own."""

    def __init__(self, url: str) -> None:
        self._url = url.replace("+psycopg", "")

    async def rows(self, statement: str) -> list[tuple[Any, ...]]:
        async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as connection:
            return await (await connection.execute(statement)).fetchall()

    async def number(self, statement: str) -> int:
        [(number,)] = await self.rows(statement)
        return int(number)

    async def handled(self) -> int:
        return await self.number("SELECT count(*) FROM handled")

    async def one_group_is_served_only_by(self, instance: Instance) -> None:
        """Return once an instance has had a group to itself for longer than the one before it can think it its own."""
        newest = f"""SELECT worker_group FROM (
            SELECT worker_group, owner, row_number() OVER (PARTITION BY worker_group ORDER BY id DESC) AS age
              FROM handled) AS recent
             WHERE age <= {SOLE_EVENTS} GROUP BY worker_group
            HAVING count(*) = {SOLE_EVENTS} AND bool_and(owner = '{instance.owner}')"""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not await self.rows(newest):
            assert time.monotonic() < deadline, f"{instance.owner} has no group to itself"
            await asyncio.sleep(0.02)

    async def reached(self, count: int) -> None:
        """Return once so many events have been handled."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while await self.handled() < count:
            assert time.monotonic() < deadline, f"no {count} events handled within {DEADLINE_SECONDS:g} s"
            await asyncio.sleep(0.02)

    async def each_group_got_past(self, position: int) -> None:
        """Return once every group has handled an event after that one."""
        newest = f"SELECT count(DISTINCT worker_group) FROM handled WHERE position > {position}"
        deadline = time.monotonic() + DEADLINE_SECONDS
        while await self.number(newest) < len(GROUPS):
            assert time.monotonic() < deadline, f"a group stands still for {DEADLINE_SECONDS:g} s"
            await asyncio.sleep(0.02)

    async def check_ledger(self) -> list[int]:
        """Every row has its event and every event its row; each group handled each once and in order."""
        positions = [n for (n,) in await self.rows("SELECT position FROM events ORDER BY position")]
        await self.reached(len(positions) * len(GROUPS))
        emitted = await self.rows("SELECT (payload->>'n')::bigint, actor FROM events ORDER BY 1, 2")
        assert emitted == await self.rows("SELECT n, owner FROM ledger ORDER BY 1, 2")
        for group in GROUPS:
            handled = await self.rows(
                f"SELECT position FROM handled WHERE worker_group = '{group}' ORDER BY id"
            )
            assert [n for (n,) in handled] == positions, Counter(n for (n,) in handled).most_common(3)
        versions = [n for (n,) in await self.rows("SELECT version FROM events ORDER BY position")]
        assert versions == list(range(1, len(versions) + 1))
        assert await self.number("SELECT count(*) FROM failed_events") == 0
        return positions


async def check_heard(instance: Instance, positions: list[int]) -> None:
    """What the instance heard is everything from some position on, in order, each once."""
    await until(lambda: bool(instance.heard) and instance.heard[-1] == positions[-1])
    assert instance.heard == positions[positions.index(instance.heard[0]) :]


@contextlib.asynccontextmanager
async def fleet_at(url: str, directory: Path) -> AsyncIterator[Start]:
    """Starts instances; whatever still runs at the end is killed."""
    started: list[Instance] = []

    async def start(**options: Any) -> Instance:
        instance = await Instance.start(url, directory, f"i{len(started)}", **{**QUICK, **options})
        started.append(instance)
        return instance

    try:
        yield start
    finally:
        for instance in started:
            with contextlib.suppress(ProcessLookupError):
                instance.process.send_signal(signal.SIGCONT)
            await instance.kill()


@pytest.fixture
async def counts(database_url: str) -> Counts:
    counts = Counts(database_url)
    async with await psycopg.AsyncConnection.connect(counts._url) as connection:
        await connection.execute(TABLES)
    return counts


@pytest.fixture
async def start(database_url: str, tmp_path: Path) -> AsyncIterator[Start]:
    async with fleet_at(database_url, tmp_path) as start:
        yield start


async def all_ready(*instances: Instance) -> None:
    async with in_time("all instances are ready"):
        for instance in instances:
            await instance.ready.wait()


WRONG_CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    if (!failed && clock == CLOCK_REALTIME) now->tv_sec += atol(getenv("WRONG_BY_SECONDS"));
    return failed;
}
"""


@pytest.fixture
def wrong_clock(tmp_path: Path) -> Callable[[int], dict[str, str]]:
    """Environments in which a process sees a wall clock that is wrong by so many seconds."""
    source, library = tmp_path / "clock.c", tmp_path / "clock.so"
    source.write_text(WRONG_CLOCK)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)

    def environment(seconds: int) -> dict[str, str]:
        return {"LD_PRELOAD": str(library), "WRONG_BY_SECONDS": str(seconds)}

    look = [sys.executable, "-c", "import time; print(time.time())"]
    seen = subprocess.run(look, env=environment(7 * DAY), capture_output=True, check=True).stdout
    assert float(seen) - time.time() > 6 * DAY, "the clock is wrong indeed"
    return environment


@pytest.mark.slow
@requires("gcc")
async def test_processes_whose_clocks_differ_by_days_lose_and_repeat_nothing(
    counts: Counts, start: Start, wrong_clock: Callable[[int], dict[str, str]]
) -> None:
    behind, right, ahead = [await start(environment=wrong_clock(days * DAY)) for days in (-3, 0, 3)]
    await all_ready(behind, right, ahead)
    for instance in (behind, right, ahead):
        instance.tell("emit")
    await counts.reached(40)
    await ahead.kill()
    await counts.reached(await counts.handled() + 40)
    for instance in (behind, right):
        await instance.hush()
    positions = await counts.check_ledger()
    await check_heard(behind, positions)
    await check_heard(right, positions)


@pytest.mark.slow
async def test_processes_that_are_killed_at_random_lose_and_repeat_nothing(
    counts: Counts, start: Start
) -> None:
    chance = random.Random()
    running = [await start() for _ in range(3)]
    await all_ready(*running)
    for instance in running:
        instance.tell("emit")
    for _ in range(5):
        await counts.reached(await counts.handled() + chance.randrange(5, 40))
        victim = running.pop(chance.randrange(3))
        await victim.kill()
        newcomer = await start()
        newcomer.tell("emit")
        running.append(newcomer)
    await all_ready(*running)
    await counts.reached(await counts.handled() + 20)
    for instance in running:
        await instance.hush()
    for instance in running[1:]:
        assert await instance.stop() == 0
    positions = await counts.check_ledger()
    await check_heard(running[0], positions)
    # The least that the draws above can come to: 5 rounds of 5, and 20 more, by two groups.
    assert len(positions) > 20


@pytest.mark.slow
async def test_what_was_announced_before_a_kill_is_in_the_log_and_nothing_twice(
    counts: Counts, start: Start
) -> None:
    chance = random.Random()
    for _ in range(4):
        announcers = [await start(), await start()]
        await all_ready(*announcers)
        for instance in announcers:
            instance.tell("announce")
        for instance in announcers:
            await instance.announces(chance.randrange(20, 200))
            await instance.kill()
        for instance in announcers:
            rows = await counts.rows(
                f"SELECT (payload->>'n')::bigint FROM events WHERE actor = '{instance.owner}' ORDER BY position"
            )
            logged = [n for (n,) in rows]
            # One may have been committed of which the process could say nothing any more.
            assert instance.announced in (logged, logged[:-1])
    versions = [n for (n,) in await counts.rows("SELECT version FROM events ORDER BY position")]
    assert versions == list(range(1, len(versions) + 1))


@pytest.mark.slow
async def test_a_dead_instances_groups_are_taken_over(counts: Counts, start: Start) -> None:
    # The shipped settings: what is shown is what operators get.
    shipped = {"membership__TICK_SECONDS": 1.0, "presence__GONE_SECONDS": 4.0}
    first, second = await start(**shipped), await start(**shipped)
    await all_ready(first, second)
    first.tell("emit")
    await counts.one_group_is_served_only_by(second)
    await second.kill()
    await counts.each_group_got_past(await counts.number("SELECT max(position) FROM events"))
    await first.hush()
    await counts.check_ledger()


@pytest.mark.slow
async def test_an_instance_that_leaves_in_good_order_gives_its_groups_up_at_once(
    counts: Counts, start: Start
) -> None:
    # Nobody is ever taken to be dead: whoever takes over has been left the group.
    first, second = [await start(presence__GONE_SECONDS=3600.0) for _ in range(2)]
    await all_ready(first, second)
    first.tell("emit")
    await counts.one_group_is_served_only_by(second)
    assert await second.stop() == 0
    await counts.each_group_got_past(await counts.number("SELECT max(position) FROM events"))
    await first.hush()
    await counts.check_ledger()
    assert await counts.number("SELECT count(*) FROM event_instances") == 1


@pytest.mark.slow
async def test_an_instance_that_is_frozen_in_a_handler_and_resumed_repeats_nothing(
    counts: Counts, start: Start
) -> None:
    frozen = await start(linger=0.3, consume__SILENT_SECONDS=1.0)
    await all_ready(frozen)
    frozen.tell("emit")
    async with in_time("a handler lingers"):
        await frozen.lingering.wait()
    await frozen.hush()
    other = await start(consume__SILENT_SECONDS=1.0)
    await all_ready(other)
    frozen.lingering.clear()
    other.tell("emit")
    async with in_time("a handler lingers"):
        await frozen.lingering.wait()
    frozen.process.send_signal(signal.SIGSTOP)
    handled = await counts.handled()
    await counts.reached(handled + 40)
    await other.hush()
    frozen.process.send_signal(signal.SIGCONT)
    positions = await counts.check_ledger()
    await check_heard(frozen, positions)


@pytest.mark.slow
async def test_a_database_that_is_restarted_under_load_loses_and_repeats_nothing(
    own_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    await migrate(own_server.url, [MigrationBranch("host", HOST_MIGRATIONS)])
    counts = Counts(own_server.url)
    async with await psycopg.AsyncConnection.connect(counts._url) as connection:
        await connection.execute(TABLES)
    async with fleet_at(own_server.url, tmp_path) as start:
        running = [await start(), await start()]
        await all_ready(*running)
        for instance in running:
            instance.tell("emit")
        for _ in range(2):
            await counts.reached(await counts.handled() + 60)
            await own_server.stop()
            await own_server.start()
        await counts.reached(await counts.handled() + 60)
        for instance in running:
            await instance.hush()
        positions = await counts.check_ledger()
        for instance in running:
            await check_heard(instance, positions)
