"""A database that is restored under running instances: they notice, and hear all of the history that holds then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence import Event, Mode, PluginContext
from ringfence.eventlog import (
    EventLogResumed,
    LogSetBackError,
    Tailer,
    event_log_resumed,
    tail,
)
from ringfence.eventlog.history.trail import DENSE, Mark, Trail
from ringfence.host import Host
from ringfence.testing import RunHost, TestPostgres, client, eventually
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from tests.eventlog.probe import Noted, Probe, emit, noted, query
from tests.eventlog.test_retention import trim
from tests.restoring import Restorable, restorable, until_reached
from tests.waiting import in_time, until

Logged = list[MutableMapping[str, Any]]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(tail, "RETRY_SECONDS", (0.05, 0.2))


@pytest.fixture
async def database(postgres: TestPostgres) -> AsyncIterator[Restorable]:
    async with restorable(postgres) as database:
        yield database


class Diary(list[object]):
    """What a listener hears: numbers, and "set back" between those of one history and those of the next."""

    async def hear(self, event: Event[Noted]) -> None:
        self.append(event.payload.n)

    async def hear_set_back(self, event: Event[EventLogResumed]) -> None:
        if event.payload.set_back:
            self.append("set back")

    async def ready(self, context: PluginContext) -> None:
        context.on_hook(noted, self.hear)
        context.on_hook(event_log_resumed, self.hear_set_back, mode=Mode.INSTANCE_LOCAL)


async def emitted(context: PluginContext, *numbers: int) -> int:
    """Emit as soon as the database can be reached; answers the last position."""
    for n in numbers:
        (event,) = await until_reached(lambda n=n: emit(context, n))  # type: ignore[misc]
    return event.position


def grown(*numbers: int) -> Callable[[str], Awaitable[None]]:
    """What others append to a database before the instance under test can look at it."""

    async def append(url: str) -> None:
        async with await psycopg.AsyncConnection.connect(url.replace("+psycopg", "")) as connection:
            for n in numbers:
                await connection.execute(
                    """SELECT ringfence_append_event('probe.noted', 'noted', 'probe',
                           jsonb_build_object('n', %s::int), NULL, NULL, NULL, gen_random_uuid(), false)""",
                    (n,),
                )

    return append


async def readiness(host: Host) -> dict[str, Any]:
    async with client(host) as http:
        body: dict[str, Any] = (await http.get("/readyz")).json()
        return body


async def test_listeners_hear_what_comes_after_the_restore_without_a_restart(
    run_host: RunHost, database: Restorable, logged: Logged
) -> None:
    diary = Diary()
    probe = Probe(diary.ready)
    host = await run_host(plugins=[probe], database_url=database.url)
    kept = await emitted(probe.context, 1, 2, 3)
    await database.back_up()
    lost = await emitted(probe.context, 4, 5)
    await until(lambda: diary == [1, 2, 3, 4, 5])
    assert (await readiness(host))["tail"]["setBack"] is None
    await database.restore()
    await until(lambda: diary[5:] == ["set back"])
    await emitted(probe.context, 6)
    await until(lambda: diary[6:] == [6])
    await until(lambda: host.runtime.tailer.live)

    async def ready() -> dict[str, Any] | None:
        # What kept the instance from writing counts until it has tried again, which it does each second.
        state = await readiness(host)
        return state if state["ready"] else None

    state = await eventually(ready)
    assert state is not None
    told = state["tail"]["setBack"]
    assert (told["times"], told["readUpTo"], told["resumedAfter"]) == (1, lost, kept)
    assert probe.context.tail_is_live
    (line,) = [one for one in logged if "set back" in one["event"]]
    assert (line["log_level"], line["read_up_to"], line["resumed_after"]) == ("error", lost, kept)
    assert host.runtime.tasks.failures == {}

    async def recorded() -> list[Any]:
        return list(await query(host, "SELECT payload FROM events WHERE hook = 'event-log-set-back'"))

    [(payload,)] = await eventually(recorded)
    assert (payload["readUpTo"], payload["resumedAfter"]) == (lost, kept)


async def test_a_log_that_has_grown_past_the_cursor_again_is_noticed_too(
    run_host: RunHost, database: Restorable
) -> None:
    diary = Diary()
    probe = Probe(diary.ready)
    await run_host(plugins=[probe], database_url=database.url)
    await emitted(probe.context, 1, 2)
    await database.back_up()
    await emitted(probe.context, 3, 4)
    await until(lambda: diary == [1, 2, 3, 4])
    await database.restore(grown(5, 6, 7, 8))
    await until(lambda: diary[4:] == ["set back", 5, 6, 7, 8])


async def test_a_log_that_loses_its_end_under_a_connection_that_stays_is_noticed_too(
    run_host: RunHost,
) -> None:
    diary = Diary()
    probe = Probe(diary.ready)
    host = await run_host(plugins=[probe])
    first = await emitted(probe.context, 1)
    await emitted(probe.context, 2)
    await until(lambda: diary == [1, 2])
    await query(host, "DELETE FROM events WHERE position > :p", p=first)
    await until(lambda: diary == [1, 2, "set back"])
    await emitted(probe.context, 3)
    await until(lambda: diary == [1, 2, "set back", 3])


async def test_it_may_happen_again(run_host: RunHost, database: Restorable) -> None:
    diary = Diary()
    probe = Probe(diary.ready)
    host = await run_host(plugins=[probe], database_url=database.url)
    await emitted(probe.context, 1)
    for n in (10, 20):
        await database.back_up()
        await emitted(probe.context, n)
        await until(lambda n=n: diary[-1] == n)  # type: ignore[misc]
        await database.restore(grown(n + 1))
        await until(lambda n=n: diary[-2:] == ["set back", n + 1])  # type: ignore[misc]
    assert host.runtime.tailer.set_back is not None
    assert host.runtime.tailer.set_back.times == 2


async def test_a_database_from_before_all_that_the_instance_knows_is_heard_from_its_beginning(
    run_host: RunHost, database: Restorable
) -> None:
    probe = Probe()
    await run_host(plugins=[probe], database_url=database.url)
    await database.back_up()
    await emitted(probe.context, 1, 2, 3)
    diary = Diary()
    late = Probe(diary.ready, id="late")
    await run_host(plugins=[late], database_url=database.url)
    await emitted(probe.context, 4)
    await until(lambda: diary == [4])
    await database.restore(grown(5, 6, 7, 8, 9))
    await until(lambda: diary[1:] == ["set back", 5, 6, 7, 8, 9])


async def test_what_was_there_before_the_instance_started_shows_the_place_as_well(
    run_host: RunHost, database: Restorable
) -> None:
    probe = Probe()
    await run_host(plugins=[probe], database_url=database.url)
    kept = await emitted(probe.context, 1, 2, 3)
    await database.back_up()
    await emitted(probe.context, 4)
    diary = Diary()
    host = await run_host(plugins=[Probe(diary.ready, id="late")], database_url=database.url)
    await database.restore(grown(5))
    await until(lambda: diary == ["set back", 5])
    assert (await readiness(host))["tail"]["setBack"]["resumedAfter"] == kept


async def test_a_plugin_that_is_behind_hears_it_between_the_old_history_and_the_new(
    run_host: RunHost, database: Restorable
) -> None:
    diary, go_on = Diary(), asyncio.Event()

    async def dawdle(event: Event[Noted]) -> None:
        await go_on.wait()
        await diary.hear(event)

    async def ready(context: PluginContext) -> None:
        context.on_hook(noted, dawdle)
        context.on_hook(event_log_resumed, diary.hear_set_back, mode=Mode.INSTANCE_LOCAL)

    probe = Probe(ready)
    host = await run_host(plugins=[probe], database_url=database.url)
    await emitted(probe.context, 1)
    await database.back_up()
    lost = await emitted(probe.context, 2, 3, 4)
    await until(lambda: host.runtime.tailer.cursor == lost and "probe" in host.runtime.delivery.lanes.behind)
    await database.restore()
    await until(lambda: host.runtime.tailer.set_back is not None and host.runtime.tailer.live)
    assert not probe.context.tail_is_live
    position = await emitted(probe.context, 5)
    waiting = asyncio.create_task(probe.context.wait_for_event(position))
    await until(lambda: host.runtime.tailer.cursor == position)
    done, _ = await asyncio.wait({waiting}, timeout=0.1)
    assert not done, "what waits of the old history has higher positions, and is heard first"
    go_on.set()
    await waiting
    assert diary == [1, 2, 3, 4, "set back", 5]
    await until(lambda: probe.context.tail_is_live)


async def test_a_plugin_that_does_not_listen_to_it_may_not_rely_on_its_copies_any_more(
    run_host: RunHost, database: Restorable
) -> None:
    diary, heard = Diary(), Diary()

    async def broadcasts_alone(context: PluginContext) -> None:
        context.on_hook(noted, heard.hear)

    told, untold, neither = Probe(diary.ready), Probe(broadcasts_alone, id="untold"), Probe(id="neither")
    host = await run_host(plugins=[told, untold, neither], database_url=database.url)
    await database.back_up()
    await emitted(told.context, 1)
    await until(lambda: heard == [1] and untold.context.tail_is_live)
    await database.restore(grown(2))
    await until(lambda: heard == [1, 2])
    await until(lambda: told.context.tail_is_live)
    assert neither.context.tail_is_live
    assert not untold.context.tail_is_live
    assert (await readiness(host))["tail"]["missed"] == {"untold": 0}


async def test_whoever_waits_for_an_event_that_may_be_lost_is_told(
    run_host: RunHost, database: Restorable
) -> None:
    probe = Probe()
    await run_host(plugins=[probe], database_url=database.url)
    await database.back_up()
    position = await emitted(probe.context, 1)
    await probe.context.wait_for_event(position)
    waiting = asyncio.create_task(probe.context.wait_for_event(position + 1))
    await database.restore()
    with pytest.raises(
        LogSetBackError, match=f"while somebody waited for position {position + 1} of the event log"
    ):
        async with in_time("whoever waits is told"):
            await waiting


async def test_worker_groups_handle_each_event_of_the_history_that_holds_once(
    run_host: RunHost, database: Restorable
) -> None:
    """One group's cursor goes back with the events; the other's is made again, since it is younger than the backup."""

    async def handle(event: Event[Noted], session: AsyncSession) -> None:
        await session.execute(text("INSERT INTO handled VALUES (:n, 'old')"), {"n": event.payload.n})

    async def handle_new(event: Event[Noted], session: AsyncSession) -> None:
        await session.execute(text("INSERT INTO handled VALUES (:n, 'new')"), {"n": event.payload.n})

    async def ready(context: PluginContext) -> None:
        context.on_hook(noted, handle, mode=Mode.WORK_QUEUE, worker_group="old")

    async def ready_new(context: PluginContext) -> None:
        context.on_hook(noted, handle_new, mode=Mode.WORK_QUEUE, worker_group="new")

    probe = Probe(ready)
    host = await run_host(plugins=[probe], database_url=database.url)
    await query(host, "CREATE TABLE handled (n int, worker_group text)")

    async def handled(group: str, *numbers: int) -> None:
        async with in_time(f"group {group} has handled {numbers}"):
            while True:
                try:
                    rows = await query(
                        host, "SELECT n FROM handled WHERE worker_group = :g ORDER BY n", g=group
                    )
                    if rows == [(n,) for n in numbers]:
                        return
                except SQLAlchemyError:
                    pass
                await asyncio.sleep(0.02)

    await emitted(probe.context, 1, 2)
    await handled("old", 1, 2)
    await database.back_up()
    await run_host(plugins=[Probe(ready_new, id="late")], database_url=database.url)
    await emitted(probe.context, 3, 4)
    await handled("old", 1, 2, 3, 4)
    await handled("new", 3, 4)
    await database.restore(grown(5, 6, 7))
    await emitted(probe.context, 8)
    await handled("old", 1, 2, 5, 6, 7, 8)
    await handled("new", 5, 6, 7, 8)


async def test_the_administrators_token_is_in_a_database_that_is_older_than_the_instance(
    run_host: RunHost, database: Restorable
) -> None:
    probe = Probe()
    await run_host(plugins=[probe], database_url=database.url)
    await database.back_up()
    host = await run_host(plugins=[Probe(id="late")], database_url=database.url)
    await emitted(probe.context, 1)
    await until(lambda: host.runtime.tailer.cursor > 0)
    await database.restore()
    await until(lambda: host.runtime.tailer.set_back is not None and host.runtime.tailer.live)
    async with client(host) as http:
        assert (await http.get("/api/host/events")).status_code == 200


async def test_whoever_waits_for_events_over_http_is_answered_so_that_they_look_again(
    run_host: RunHost, database: Restorable
) -> None:
    probe = Probe()
    host = await run_host(plugins=[probe], database_url=database.url)
    await database.back_up()
    position = await emitted(probe.context, 1)
    await probe.context.wait_for_event(position)
    async with client(host) as http:
        asked = http.get("/api/host/events", params={"after": position, "wait": 20}, timeout=30)
        waiting = asyncio.create_task(asked)
        tailer = host.runtime.tailer
        assert isinstance(tailer, Tailer)
        await until(lambda: bool(tailer._moved._waiters))
        await database.restore()
        async with in_time("the answer"):
            answer = await waiting
    assert answer.json() == {"events": []}


async def test_a_log_that_was_only_trimmed_was_not_set_back(run_host: RunHost) -> None:
    diary = Diary()
    probe = Probe(diary.ready)
    host = await run_host(plugins=[probe])
    await emitted(probe.context, 1, 2, 3)
    await until(lambda: diary == [1, 2, 3])
    assert await trim(host) == 2
    await emitted(probe.context, 4)
    await until(lambda: diary == [1, 2, 3, 4])
    assert host.runtime.tailer.set_back is None


def mark(n: int, history: int = 0) -> Mark:
    return Mark(n, f"{history}:{n}".encode())


@given(start=st.integers(0, 3), count=st.integers(0, 20 * DENSE), lost=st.integers(0, 20 * DENSE))
def test_the_trail_leads_back_to_within_a_hundredth_of_what_was_lost(
    start: int, count: int, lost: int
) -> None:
    trail = Trail([mark(n) for n in range(1, start + 1)])
    end = start + count
    for n in range(start + 1, end + 1):
        trail.add(mark(n))
    kept = max(0, end - lost)
    marks = trail.marks()
    assert marks == sorted(marks)
    found = max((one.position for one in marks if one.position <= kept), default=0)
    assert kept - found <= max(0, end - kept) / 100 or kept <= start
    trail.cut(found)
    assert trail.head == (mark(found) if found else None)
    assert all(one.position <= found for one in trail.marks())
    trail.add(mark(found + 1, history=1))
    assert trail.head == trail.marks()[-1] == mark(found + 1, history=1)


def test_the_trail_of_a_long_log_is_short() -> None:
    trail = Trail()
    for n in range(1, 200_001):
        trail.add(mark(n))
    assert len(trail.marks()) <= DENSE * 11
