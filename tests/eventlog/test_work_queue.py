"""Work-queues: one instance per group, in order, in one transaction with the cursor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from ringfence import Event, Mode, PluginContext, backoff
from ringfence.eventlog.groups import consume, membership, workers
from ringfence.eventlog.groups.consume import Outcome
from ringfence.hooks import HookError, WorkHandler
from ringfence.host import Host
from ringfence.testing import RunHost, eventually
from sqlalchemy.ext.asyncio import AsyncSession

from tests.eventlog.probe import Noted, Probe, emit, mentioned, noted, query
from tests.eventlog.working import a_consumer, a_newcomer, cursors, handled, rows, working, write
from tests.waiting import in_time, until


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.01)


async def test_of_several_instances_one_handles_each_event_in_order(run_host: RunHost) -> None:
    probes = [working(("writer", write)) for _ in range(3)]
    hosts = [await run_host(plugins=[probe]) for probe in probes]
    await asyncio.gather(
        *(emit(probe.context, *range(100 * k, 100 * k + 10)) for k, probe in enumerate(probes))
    )
    stored = [
        n for (n,) in await query(hosts[0], "SELECT (payload->>'n')::int FROM events ORDER BY position")
    ]
    assert await handled(hosts[0], 30) == stored


async def test_each_group_gets_every_event_of_its_hook(run_host: RunHost) -> None:
    seen: dict[str, list[int]] = {"one": [], "two": []}

    def noting(name: str) -> WorkHandler[Noted]:
        async def note(event: Event[Noted], _: AsyncSession) -> None:
            seen[name].append(event.payload.n)

        return note

    probe = working(("one", noting("one")), ("two", noting("two")))
    await run_host(plugins=[probe])
    await emit(probe.context, 1, 2)
    await emit(probe.context, 9, hook=mentioned)
    await emit(probe.context, 3)
    await until(lambda: seen == {"one": [1, 2, 3], "two": [1, 2, 3]})


async def test_groups_are_shared_out_evenly_and_move_when_the_fleet_does(run_host: RunHost) -> None:
    names = ("a", "b", "c", "d", "e", "f")

    async def holders(host: Host) -> list[int]:
        found = await query(
            host, "SELECT count(*) FROM event_workers WHERE holds GROUP BY instance ORDER BY 1"
        )
        return [count for (count,) in found]

    async def settled(host: Host, loads: list[int]) -> None:
        async with in_time(f"the groups are held {loads}"):
            while await holders(host) != loads:
                await asyncio.sleep(0.02)

    first = await run_host(plugins=[working(*((name, write) for name in names))])
    await settled(first, [6])
    second = Host(
        first.settings.model_copy(update={"data_dir": first.settings.data_dir / "second"}),
        plugins=[working(*((name, write) for name in names))],
    )
    async with second:
        await settled(first, [3, 3])
        third = await run_host(plugins=[working(*((name, write) for name in names))])
        await settled(third, [2, 2, 2])
    await settled(first, [3, 3])


async def test_an_instance_that_drains_leaves_its_groups_to_the_others_at_once(run_host: RunHost) -> None:
    names = ("a", "b")
    leaving = await run_host(plugins=[working(*((name, write) for name in names))])
    staying = await run_host(plugins=[working(*((name, write) for name in names))])

    leaving.runtime.drain.ask()
    await leaving.runtime.drain.over()

    rows = await query(staying, "SELECT instance FROM event_workers")
    assert {instance for (instance,) in rows} == {staying.instance_id}
    async with in_time("the other one holds both groups"):
        while await query(staying, "SELECT count(*) FROM event_workers WHERE holds") != [(2,)]:
            await asyncio.sleep(0.02)


async def test_the_handler_writes_and_the_cursor_moves_in_one_transaction(run_host: RunHost) -> None:
    probe = working()
    host = await run_host(plugins=[probe])
    inside: list[Any] = []

    async def look(event: Event[Noted], session: AsyncSession) -> None:
        await write(event, session)
        inside.append((await rows(host), await cursors(host)))

    consumer = await a_consumer(host, look)
    [event] = await emit(probe.context, 1)
    assert await consumer.step() is Outcome.WORKED
    assert inside == [([], {"here": (0, 0)})], "from outside, nothing has happened yet"
    assert (await rows(host), await cursors(host)) == ([1], {"here": (event.position, 0)})
    [(same,)] = await query(host, "SELECT handled.xmin = event_cursors.xmin FROM handled, event_cursors")
    assert same, "PostgreSQL says that one transaction has written both"
    assert await consumer.step() is Outcome.IDLE


async def test_while_one_works_another_leaves_the_group_alone(run_host: RunHost) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(event: Event[Noted], session: AsyncSession) -> None:
        begun.set()
        await go_on.wait()
        await write(event, session)

    probe = working()
    host = await run_host(plugins=[probe])
    consumer = await a_consumer(host, slow)
    other = a_newcomer(host, write)
    await emit(probe.context, 1, 2)
    step = asyncio.create_task(consumer.step())
    await begun.wait()
    assert await other.step() is Outcome.BUSY
    go_on.set()
    await step
    assert await other.step() is Outcome.WORKED
    assert await rows(host) == [1, 2]


async def test_the_server_gives_up_the_lock_of_an_instance_that_has_fallen_silent(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consume, "SILENT_SECONDS", 0.1)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def frozen(event: Event[Noted], session: AsyncSession) -> None:
        await write(event, session)
        begun.set()
        await go_on.wait()

    probe = working()
    host = await run_host(plugins=[probe])
    consumer = await a_consumer(host, frozen)
    other = a_newcomer(host, write)
    await emit(probe.context, 1)
    step = asyncio.create_task(consumer.step())
    await begun.wait()
    async with in_time("the other is given the lock"):
        while await other.step() is not Outcome.WORKED:
            await asyncio.sleep(0.01)
    go_on.set()
    with pytest.raises(Exception, match=r"idle-in-transaction|closed"):
        await step
    assert await rows(host) == [1], "what the silent one had written is gone with its transaction"


async def test_a_group_starts_where_the_first_instance_that_has_it_starts(run_host: RunHost) -> None:
    before = Probe()
    await run_host(plugins=[before])
    await emit(before.context, 1)
    probe = working(("writer", write))
    host = await run_host(plugins=[probe])
    await emit(probe.context, 2)
    assert await handled(host, 1) == [2]


async def test_a_group_goes_on_where_it_was_when_the_fleet_comes_back(run_host: RunHost) -> None:
    probe = working(("writer", write))
    bystander = Probe()
    keeper = await run_host(plugins=[bystander])
    settings = keeper.settings.model_copy(update={"data_dir": keeper.settings.data_dir / "other"})
    async with Host(settings, plugins=[probe]):
        await emit(probe.context, 1)
        await handled(keeper, 1)
    await emit(bystander.context, 2, 3)
    async with Host(settings, plugins=[working(("writer", write))]):
        assert await handled(keeper, 3) == [1, 2, 3]


async def test_an_event_wakes_its_group_which_need_not_look_for_it(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "POLL_SECONDS", 3600.0)
    probe = working(("writer", write))
    host = await run_host(plugins=[probe])
    for n in (1, 2, 3):
        await emit(probe.context, n)
        assert await handled(host, n) == [*range(1, n + 1)]


async def test_a_group_that_is_served_counts_as_served_though_it_has_nothing_to_do(run_host: RunHost) -> None:
    probe = working(("writer", write))
    host = await run_host(plugins=[probe])
    await emit(probe.context, 1)
    await handled(host, 1)
    await query(host, "UPDATE event_cursors SET served_at = now() - interval '31 days'")

    async def served() -> bool:
        [(recently,)] = await query(host, "SELECT served_at > now() - interval '1 h' FROM event_cursors")
        return bool(recently)

    assert await eventually(served), "or retention would take the group to be nobody's"


async def test_a_group_of_a_plugin_that_was_left_out_is_left_to_the_other_instances(
    run_host: RunHost,
) -> None:
    broken = working(("writer", write))
    subscribe = broken.ready

    async def subscribe_and_fail(context: PluginContext) -> None:
        await subscribe(context)
        raise ValueError("only here")

    broken.ready = subscribe_and_fail
    broken.info = replace(broken.info, optional=True)
    without = await run_host(may_fail=True, plugins=[broken])
    assert without.runtime.bus.groups() == {}
    probe = working(("writer", write))
    host = await run_host(plugins=[probe])
    await emit(probe.context, 1)
    assert await handled(host, 1) == [1]
    held = await query(host, "SELECT instance FROM event_workers")
    assert held == [(host.instance_id,)]


async def test_a_group_moves_past_events_that_are_not_its_own(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consume, "SKIP_EVENTS", 3)
    probe = working()
    host = await run_host(plugins=[probe])
    consumer = await a_consumer(host, write)
    events = await emit(probe.context, 1, 2, hook=mentioned)
    assert await consumer.step() is Outcome.IDLE
    assert (await cursors(host))["here"] == (0, 0)
    events += await emit(probe.context, 3, hook=mentioned)
    assert await consumer.step() is Outcome.IDLE
    assert (await cursors(host))["here"] == (events[-1].position, 0)


@pytest.mark.parametrize(
    ("subscribe", "said"),
    [
        (
            lambda c: c.on_hook(noted, write, mode=Mode.WORK_QUEUE),
            "without a worker group: pass worker_group=",
        ),
        (lambda c: c.on_hook(noted, write, worker_group="a"), "with a worker group: only work-queue has one"),
        (lambda c: c.on_hook(noted, write, mode=Mode.WORK_QUEUE, worker_group="A b"), "lower-case words"),
        (
            lambda c: c.on_hook(noted, write, mode=Mode.WORK_QUEUE, worker_group="a", max_retries=-1),
            "max_retries must be 0 or more",
        ),
        (
            lambda c: [
                c.on_hook(hook, write, mode=Mode.WORK_QUEUE, worker_group="a") for hook in (noted, mentioned)
            ],
            "probe already has the worker group a, for noted",
        ),
    ],
)
async def test_a_worker_group_that_cannot_work_is_refused(
    run_host: RunHost, subscribe: Callable[[Any], object], said: str
) -> None:
    probe = Probe()
    await run_host(plugins=[probe])
    with pytest.raises(HookError, match=said):
        subscribe(probe.context)
