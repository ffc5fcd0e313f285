"""Checks that run on the core: on one instance of the fleet, and on the next one within seconds of its death."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest
from ringfence.fleet import leadership
from ringfence.fleet.leadership import (
    _GIVE_BACK,
    LEASE_SECONDS,
    LOOK_SECONDS,
    RENEW_SECONDS,
    STOP_SECONDS,
    Leadership,
)
from ringfence.storage.answering import answer_within
from ringfence.testing import eventually
from ringfence_health_checks.definitions.checks import Check
from ringfence_health_checks.definitions.definition import CORE
from ringfence_health_checks.plugin import HealthChecksPlugin
from ringfence_health_checks.results.results import Result
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from tests.eventlog.stalling import stalling_proxy
from tests.health_checks.conftest import SECONDS, Checking
from tests.primitives import requires
from tests.satellite.instances import Instance
from tests.shared_hosts import SHARED
from tests.waiting import in_time

SECRET = "correct-horse-battery-staple"
INTERVAL = 0.5


@requires("user namespaces")
@SHARED
async def test_a_check_runs_on_one_of_several_instances_and_never_beside_itself(
    instance: Instance, other: Instance, checking: Checking
) -> None:
    check = await checking.create(script="sleep 0.3; echo fine", intervalSeconds=INTERVAL)
    found = await checking.until(check, lambda results: len(results) >= 5)
    assert {one["ranOn"] for one in found} == {CORE}
    starts = sorted(dt.datetime.fromisoformat(one["executedAt"]) for one in found)
    # Twice as many instances would halve this; a run that was started beside another would too.
    assert all((later - earlier).total_seconds() > 0.3 for earlier, later in itertools.pairwise(starts))


@requires("user namespaces")
@SHARED
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
@SHARED
async def test_it_has_its_secrets_and_they_are_masked(instance: Instance, checking: Checking) -> None:
    await checking.set_secret("API_TOKEN", SECRET)
    check = await checking.create(script='echo "$API_TOKEN has ${#API_TOKEN}"', secrets=["API_TOKEN"])
    [newest, *_] = await checking.until(check, len)
    assert newest["message"] == f"*** has {len(SECRET)}"
    lacking = await checking.create(name="lacking", secrets=["GONE"])
    [newest, *_] = await checking.until(lacking, len)
    assert newest["status"] == "unknown"
    assert "secret GONE does not exist" in newest["message"]


LEADER = """
import asyncio, sys
from ringfence.storage.answering import answer_within
from ringfence.fleet.leadership import Leadership
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

async def lead():
    print("leads", flush=True)
    await asyncio.Event().wait()

async def main():
    sessions = async_sessionmaker(create_async_engine(sys.argv[1]))
    await Leadership(sessions, "a test", answer_within=answer_within).serve(lead)

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
    async with in_time("the candidate leads"):
        # Whatever a log prints comes before or after on lines of its own.
        while (line := await process.stdout.readline()) != b"leads\n":
            assert line, "the candidate has died"


@dataclass(slots=True)
class Standing:
    """One who stands for leader in this process: when its work has begun and ended, by one clock for all."""

    leadership: Leadership
    began: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)

    async def work(self) -> None:
        self.began.append(time.monotonic())
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.append(time.monotonic())

    async def begins(self, times: int = 1) -> None:
        async def has_begun() -> bool:
            return len(self.began) >= times

        await eventually(has_begun, seconds=SECONDS)

    async def ends(self) -> None:
        async def has_ended() -> bool:
            return len(self.ended) == len(self.began)

        await eventually(has_ended, seconds=SECONDS)

    async def has_looked(self) -> None:
        """Return once it knows that somebody else leads."""

        async def has_seen() -> bool:
            return self.leadership._seen is not None

        await eventually(has_seen, seconds=SECONDS)


@asynccontextmanager
async def standing(url: str) -> AsyncIterator[Standing]:
    engine = create_async_engine(url)
    sessions: async_sessionmaker[AsyncSession] = async_sessionmaker(engine)
    one = Standing(Leadership(sessions, "a test", answer_within=answer_within))
    task = asyncio.create_task(one.leadership.serve(one.work))
    try:
        yield one
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await engine.dispose()


async def holder_in(url: str) -> object:
    """Who holds the lease, as the database says."""
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        holder = (await connection.execute(text("SELECT holder FROM leases"))).scalar_one()
    await engine.dispose()
    return holder


@pytest.mark.slow
async def test_when_the_leader_is_killed_another_leads_once_its_lease_is_over(database_url: str) -> None:
    async with candidate(database_url) as first:
        await leads(first)
        async with standing(database_url) as second:
            await second.has_looked()
            first.kill()
            died = time.monotonic()
            await second.begins()
            # It cannot know that the first is not merely cut off: whose work would go on for so long.
            assert second.began[0] - died > LEASE_SECONDS - RENEW_SECONDS


async def test_when_the_leader_stops_by_itself_another_leads_at_once(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(standing(database_url))
        await first.begins()
        async with standing(database_url) as second:
            await second.has_looked()
            await stack.aclose()
            # It has given its lease back, so that nobody waits for the end of that.
            assert await holder_in(database_url) != first.leadership._me
            await second.begins()
            assert first.ended[0] <= second.began[0]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["silent", "cut"])
async def test_a_leader_that_is_cut_off_has_stopped_before_another_begins(
    database_url: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection falls silent, or is ended and cannot be made again: in either case its work ends in time."""
    for name in ("LEASE_SECONDS", "RENEW_SECONDS", "STOP_SECONDS", "LOOK_SECONDS"):
        monkeypatch.setattr(leadership, name, getattr(leadership, name) / 3)
    async with stalling_proxy(database_url) as proxy, standing(proxy.url) as first:
        await first.begins()
        async with standing(database_url) as second:
            await second.has_looked()
            proxy.stall()
            if how == "cut":
                await proxy.close()
            await second.begins()
            assert first.ended, "two lead at once"
            assert first.ended[0] < second.began[0]
            assert not first.leadership.leads
            # Back again, it sees that it is not the leader, and does not become it.
            proxy.resume()
            first.leadership._seen = None
            await first.has_looked()
            assert len(first.began) == 1


async def test_a_short_silence_is_no_reason_to_stop(database_url: str) -> None:
    async with standing(database_url) as first:
        await first.begins()
        async with standing(database_url) as second:
            held_until = first.leadership._held_until

            async def is_renewed() -> bool:
                return first.leadership._held_until > held_until + LEASE_SECONDS + STOP_SECONDS + LOOK_SECONDS

            await eventually(is_renewed, seconds=SECONDS)
            assert (first.ended, second.began) == ([], [])


async def test_a_leader_whose_lease_has_gone_to_another_stops(database_url: str) -> None:
    async with standing(database_url) as first:
        await first.begins()
        engine = create_async_engine(database_url)
        async with engine.begin() as connection:
            taken = text("UPDATE leases SET holder = gen_random_uuid(), beat = beat + 100")
            await connection.execute(taken)
        await engine.dispose()
        await first.ends()
        assert not first.leadership.leads


async def test_a_lease_that_is_given_back_late_ends_no_later_one(database_url: str) -> None:
    async with standing(database_url) as first:
        await first.begins()
        held = first.leadership
        await held._write(_GIVE_BACK, me=held._me, beat=held._beat - 1)
        assert await holder_in(database_url) == held._me


async def test_no_run_is_begun_by_who_does_not_lead(
    instance: Instance, checking: Checking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However late the timer is that ends a lost leadership."""
    check = await checking.create(intervalSeconds=3600.0)
    (core,) = (
        one.plugin._core for one in instance.host.plugins if isinstance(one.plugin, HealthChecksPlugin)
    )

    async def is_scheduled() -> bool:
        return check["id"] in core._checks and core._leadership.leads

    await eventually(is_scheduled, seconds=SECONDS)
    ran = []

    async def run(check: Check) -> Result:
        ran.append(check.id)
        raise OSError("this run is not really made")

    monkeypatch.setattr(core, "run", run)
    with pytest.raises(OSError, match="not really"):
        await core._scheduled(check["id"])
    monkeypatch.setattr(core._leadership, "_held_until", 0.0)
    monkeypatch.setattr(core._leadership, "_hold", lambda *_: True)
    await core._scheduled(check["id"])
    assert len(ran) == 1
