"""Events that take their whole process down: counted beforehand, and set aside like any other failure."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from pathlib import Path
from typing import Literal

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence import Event, backoff
from ringfence.eventlog.groups import presence
from ringfence.eventlog.groups.attempts import Begun, Count, Died, Try, next_move
from ringfence.eventlog.groups.consume import Consumer, Outcome
from ringfence.hooks import WorkGroup, WorkHandler
from ringfence.host import Host
from ringfence.testing import RunHost
from sqlalchemy.ext.asyncio import AsyncSession

from tests.eventlog.instance import TABLES, Instance
from tests.eventlog.probe import Noted, Probe, emit, noted, query
from tests.eventlog.test_processes import Counts, fleet_at
from tests.waiting import PATIENCE_SECONDS, in_time

RETRIES = 2


class Killed(BaseException):
    """The process is gone: nobody catches this."""


async def kill(_: Event[Noted], __: AsyncSession) -> None:
    raise Killed


async def nothing(_: Event[Noted], __: AsyncSession) -> None:
    return None


@given(st.integers(0, 9), st.booleans())
def test_what_to_do_next(attempts: int, trusted: bool) -> None:
    assert next_move(attempts, Begun.VANISHED, trusted=trusted) == Died(attempts)
    assert next_move(attempts, Begun.HERE, trusted=trusted) == Try(attempts), "counted once"
    assert next_move(attempts, Begun.LEFT, trusted=trusted) == Count(attempts), "held against nobody"
    assert next_move(attempts, Begun.NOT, trusted=False) == Count(attempts + 1)
    assert next_move(attempts, Begun.NOT, trusted=True) == Try(attempts + 1), "costs nothing"


class Turns:
    """The group `here`, without the fleet: the test says who takes a step, and who is not heard of any more."""

    def __init__(self, host: Host, *, max_retries: int) -> None:
        self.host = host
        self._max_retries = max_retries

    async def step(self, instance: uuid.UUID, handler: WorkHandler[Noted]) -> object:
        group = WorkGroup("probe", "here", noted, handler, self._max_retries)
        return await Consumer(self.host.database.work_sessions, group, instance=instance).step()

    async def die(self, *, replaying: bool = False) -> None:
        """A new instance takes a step, in which it is killed."""
        instance = uuid.uuid4()
        with pytest.raises(Killed):
            await self.step(instance, kill)
        table = "failed_events" if replaying else "event_cursors"
        assert await query(self.host, f"SELECT begun_by FROM {table}") == [(instance,)]
        await query(
            self.host, "INSERT INTO event_instances VALUES (:i, 0, now() - interval '1 day')", i=instance
        )

    async def cursor(self) -> tuple[int, int]:
        [(position, attempts)] = await query(self.host, "SELECT position, attempts FROM event_cursors")
        return position, attempts

    async def failed(self) -> list[tuple[int, int, bool]]:
        """What was set aside: where, after how many attempts, and whether it waits for a replay."""
        rows = await query(self.host, "SELECT position, attempts, replay, error FROM failed_events")
        for *_, error in rows:
            assert error.startswith("the process died, or stopped working, in the middle of attempt")
        return [(position, attempts, replay) for position, attempts, replay, _ in rows]


@pytest.fixture
async def turns(run_host: RunHost, monkeypatch: pytest.MonkeyPatch) -> Turns:
    """A group that may retry once, and one event for it."""
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(presence, "GONE_SECONDS", 0.2)
    probe = Probe()
    host = await run_host(plugins=[probe])
    await query(
        host,
        "INSERT INTO event_cursors (plugin, worker_group, position, served_at) VALUES ('probe', 'here', 0, now())",
    )
    await emit(probe.context, 1)
    return Turns(host, max_retries=1)


async def test_a_newcomers_attempt_is_counted_before_its_handler_runs(turns: Turns) -> None:
    seen: list[tuple[int, int]] = []

    async def look(_: Event[Noted], __: AsyncSession) -> None:
        seen.append(await turns.cursor())

    assert await turns.step(uuid.uuid4(), look) is Outcome.WORKED
    assert seen == [(0, 1)]
    assert await turns.cursor() == (1, 0)


async def test_who_has_handled_an_event_counts_no_more_beforehand(turns: Turns) -> None:
    instance = uuid.uuid4()
    await turns.step(instance, nothing)
    await emit_another(turns)
    seen: list[tuple[int, int]] = []

    async def look(_: Event[Noted], __: AsyncSession) -> None:
        seen.append(await turns.cursor())

    await turns.step(instance, look)
    assert seen == [(1, 0)]


async def emit_another(turns: Turns) -> None:
    [plugin] = [one.plugin for one in turns.host.plugins]
    assert isinstance(plugin, Probe)
    await emit(plugin.context, 2)


async def test_whoever_was_silent_while_the_database_was_down_is_not_taken_for_dead(
    turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    [(up,)] = await query(
        turns.host, "SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::float"
    )
    monkeypatch.setattr(presence, "GONE_SECONDS", up + 60)
    await turns.die()
    assert await turns.step(uuid.uuid4(), nothing) is Outcome.WORKED
    assert await turns.cursor() == (1, 0)


async def test_an_event_that_kills_each_time_is_set_aside_after_the_last_attempt(turns: Turns) -> None:
    await turns.die()
    assert await turns.step(uuid.uuid4(), kill) is Outcome.WORKED, "finds out that the last one died"
    await turns.die()
    assert await turns.failed() == []
    assert await turns.step(uuid.uuid4(), kill) is Outcome.WORKED
    assert await turns.failed() == [(1, 2, False)]
    assert await turns.cursor() == (1, 0)
    assert await turns.step(uuid.uuid4(), kill) is Outcome.IDLE


async def test_one_death_alone_sets_nothing_aside_even_without_retries(turns: Turns) -> None:
    group = Turns(turns.host, max_retries=0)
    await group.die()
    assert await group.step(uuid.uuid4(), kill) is Outcome.WORKED
    assert await group.failed() == []
    await group.die()
    assert await group.step(uuid.uuid4(), kill) is Outcome.WORKED
    assert await group.failed() == [(1, 2, False)]


async def test_a_replay_that_kills_is_listed_again(turns: Turns) -> None:
    for _ in range(2):
        await turns.die()
        await turns.step(uuid.uuid4(), kill)
    await query(turns.host, "UPDATE failed_events SET replay = true")
    await turns.die(replaying=True)
    assert await turns.step(uuid.uuid4(), kill) is Outcome.WORKED
    assert await turns.failed() == [(1, 3, False)]
    await query(turns.host, "UPDATE failed_events SET replay = true")
    assert await turns.step(uuid.uuid4(), nothing) is Outcome.WORKED
    assert await turns.failed() == []


async def test_who_left_in_good_order_or_is_still_there_has_not_failed(turns: Turns) -> None:
    with pytest.raises(Killed):
        await turns.step(uuid.uuid4(), kill)  # as when it is cancelled: it is in no table of instances
    alive = uuid.uuid4()
    heard_of = "INSERT INTO event_instances VALUES (:i, 0, now() + interval '1 hour')"
    await query(turns.host, heard_of, i=alive)
    for instance in (uuid.uuid4(), alive, uuid.uuid4(), uuid.uuid4()):
        with pytest.raises(Killed):
            await turns.step(instance, kill)
        assert await turns.cursor() == (0, 1)
    assert await turns.step(uuid.uuid4(), nothing) is Outcome.WORKED
    assert await turns.failed() == []


async def first(ended: asyncio.Task[int], other: asyncio.Task[Literal[True]]) -> None:
    """Return when one of them is done."""
    await asyncio.wait({ended, other}, return_when=asyncio.FIRST_COMPLETED)
    other.cancel()


@pytest.fixture
async def counts(database_url: str) -> Counts:
    counts = Counts(database_url)
    async with await psycopg.AsyncConnection.connect(counts._url) as connection:
        await connection.execute(TABLES)
    return counts


@pytest.mark.parametrize(
    "deadly",
    [pytest.param(-1, id="exits", marks=pytest.mark.slow), pytest.param(-2, id="segmentation fault")],
)
async def test_a_deadly_event_ends_no_more_processes_than_it_may_and_the_fleet_goes_on(
    database_url: str, counts: Counts, tmp_path: Path, deadly: int
) -> None:
    deaths = itertools.count()
    async with fleet_at(database_url, tmp_path) as start:

        async def supervised(stopped: asyncio.Event) -> None:
            """One place in the fleet, in which a process that has ended is replaced."""
            while not stopped.is_set():
                instance: Instance = await start(retries=RETRIES)
                ended = asyncio.create_task(instance.process.wait())
                await first(ended, asyncio.create_task(instance.ready.wait()))
                instance.tell("emit")
                await first(ended, asyncio.create_task(stopped.wait()))
                if ended.done():
                    next(deaths)
                else:
                    await instance.hush()

        # One after the other, several processes start and end in here.
        async with (
            in_time("several processes start and end", seconds=4 * PATIENCE_SECONDS),
            asyncio.TaskGroup() as places,
        ):
            stopped = asyncio.Event()
            for _ in range(2):
                places.create_task(supervised(stopped))
            await counts.reached(20)
            [(position,)] = await counts.rows(
                "SELECT r_position FROM ringfence_append_event('s', 'noted', 'p', "
                f"'{{\"n\": {deadly}}}', 'a', NULL, NULL, gen_random_uuid(), false)"
            )
            while not await counts.number("SELECT count(*) FROM failed_events"):
                await asyncio.sleep(0.05)
            await counts.reached(await counts.handled() + 40)
            stopped.set()
        assert RETRIES + 1 <= next(deaths) <= RETRIES + 2
        [(failed, group, attempts, error)] = await counts.rows(
            "SELECT position, worker_group, attempts, error FROM failed_events"
        )
        assert (failed, group, attempts) == (position, "steady", RETRIES + 1)
        assert error.startswith(f"the process died, or stopped working, in the middle of attempt {attempts}")
        everything = [n for (n,) in await counts.rows("SELECT position FROM events ORDER BY position")]
        await counts.reached(2 * len(everything) - 1)
        for name, expected in (
            ("flaky", everything),
            ("steady", [n for n in everything if n != position]),
        ):
            handled = await counts.rows(
                f"SELECT position FROM handled WHERE worker_group = '{name}' ORDER BY id"
            )
            assert [n for (n,) in handled] == expected
