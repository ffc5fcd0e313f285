"""Work-queues: one instance per group, in order, in one transaction with the cursor; retries, and what is set aside."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from ringfence import Event, Mode, PluginContext, backoff, tasks
from ringfence.eventlog.groups import consume, membership, workers
from ringfence.eventlog.groups.consume import Consumer, Outcome, Waiting
from ringfence.hooks import HookError, WorkGroup, WorkHandler
from ringfence.host import Host
from ringfence.testing import RunHost, eventually
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from tests.eventlog.probe import Noted, Probe, emit, mentioned, noted, query
from tests.waiting import in_time, until

ROWS = "SELECT n FROM handled ORDER BY id"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.01)


async def write(event: Event[Noted], session: AsyncSession) -> None:
    """The plainest handler: one row per event."""
    await session.execute(text("INSERT INTO handled (n) VALUES (:n)"), {"n": event.payload.n})


def working(*groups: tuple[str, WorkHandler[Noted]], max_retries: int = 3) -> Probe:
    async def ready(context: PluginContext) -> None:
        async with context.sessions.begin() as session:
            # Two instances that start together must not both make it.
            await session.execute(text("SELECT pg_advisory_xact_lock(1)"))
            await session.execute(
                text("CREATE TABLE IF NOT EXISTS handled (id bigint GENERATED ALWAYS AS IDENTITY, n int)")
            )
        for name, handler in groups:
            context.on_hook(noted, handler, mode=Mode.WORK_QUEUE, worker_group=name, max_retries=max_retries)

    return Probe(ready)


async def rows(host: Host) -> list[int]:
    return [n for (n,) in await query(host, ROWS)]


async def handled(host: Host, count: int) -> list[int]:
    """The rows, once there are `count` of them."""
    found: list[int] = []
    async with in_time(lambda: f"{count} rows; there are {found}"):
        while len(found := await rows(host)) < count:
            await asyncio.sleep(0.02)
    return found


async def cursors(host: Host) -> dict[str, tuple[int, int]]:
    found = await query(host, "SELECT worker_group, position, attempts FROM event_cursors")
    return {name: (position, attempts) for name, position, attempts in found}


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


async def a_consumer(host: Host, handler: WorkHandler[Noted], *, max_retries: int = 2) -> Consumer:
    """A group without the fleet, trusted with what comes: the test takes its steps."""
    consumer = a_newcomer(host, handler, max_retries=max_retries, instance=host.instance_id)
    await query(
        host,
        "INSERT INTO event_cursors (plugin, worker_group, position, served_at, served_by) "
        "VALUES ('probe', 'here', 0, now(), :instance)",
        instance=host.instance_id,
    )
    return consumer


def a_newcomer(
    host: Host, handler: WorkHandler[Noted], *, max_retries: int = 2, instance: UUID | None = None
) -> Consumer:
    """Another instance, which tries itself at the same group."""
    group = WorkGroup("probe", "here", noted, handler, max_retries)
    return Consumer(host.database.work_sessions, group, instance=instance or uuid4())


async def test_what_a_failing_handler_wrote_is_undone_and_the_event_is_tried_again(run_host: RunHost) -> None:
    failures = iter([ValueError("first"), KeyError("second")])

    async def stumble(event: Event[Noted], session: AsyncSession) -> None:
        await write(event, session)
        if error := next(failures, None):
            raise error

    probe = working(("writer", stumble))
    host = await run_host(plugins=[probe])
    await emit(probe.context, 1, 2)
    assert await handled(host, 2) == [1, 2]
    assert list(failures) == []
    assert await query(host, "SELECT * FROM failed_events") == []


async def test_after_the_last_retry_the_event_is_set_aside_and_the_rest_goes_on(run_host: RunHost) -> None:
    tries = []

    async def refuse_two(event: Event[Noted], session: AsyncSession) -> None:
        tries.append(event.payload.n)
        await write(event, session)
        if event.payload.n == 2:
            raise ValueError("two\x00is wrong")

    probe = working(("writer", refuse_two), max_retries=2)
    host = await run_host(plugins=[probe])
    events = await emit(probe.context, 1, 2, 3)
    assert await handled(host, 2) == [1, 3]
    assert tries == [1, 2, 2, 2, 3]
    [kept] = await query(
        host, "SELECT plugin, worker_group, position, attempts, error, replay FROM failed_events"
    )
    assert kept == ("probe", "writer", events[1].position, 3, "ValueError: twois wrong", False)


async def test_a_failing_group_does_not_hold_up_another(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 1000.0)

    async def fail(_: Event[Noted], __: AsyncSession) -> None:
        raise ValueError

    async def hang(_: Event[Noted], __: AsyncSession) -> None:
        await asyncio.Event().wait()

    probe = working(("failing", fail), ("hanging", hang), ("writer", write))
    host = await run_host(plugins=[probe])
    await emit(probe.context, 1, 2, 3)
    assert await handled(host, 3) == [1, 2, 3]


async def test_a_retry_waits_for_its_time_by_the_databases_clock(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consume, "pause", lambda failures: 3600.0 * failures)

    async def fail(_: Event[Noted], __: AsyncSession) -> None:
        raise ValueError

    probe = working()
    host = await run_host(plugins=[probe])
    consumer = await a_consumer(host, fail)
    await emit(probe.context, 1)
    assert await consumer.step() is Outcome.WORKED
    waiting = await consumer.step()
    assert isinstance(waiting, Waiting)
    assert 3500 < waiting.seconds <= 3600
    await query(host, "UPDATE event_cursors SET retry_at = now()")
    assert await consumer.step() is Outcome.WORKED
    assert (await cursors(host))["here"] == (0, 2)


@pytest.mark.parametrize("way", ["commit", "rollback"])
async def test_a_handler_that_ends_the_transaction_has_failed(run_host: RunHost, way: str) -> None:
    async def end(_: Event[Noted], session: AsyncSession) -> None:
        await getattr(session, way)()

    probe = working()
    host = await run_host(plugins=[probe])
    consumer = await a_consumer(host, end, max_retries=0)
    await emit(probe.context, 1)
    assert await consumer.step() is Outcome.WORKED
    [(error,)] = await query(host, "SELECT error FROM failed_events")
    assert "ended the transaction that it was given" in error


async def test_what_is_checked_only_at_the_commit_is_the_handlers_failure_too(run_host: RunHost) -> None:
    async def duplicate(event: Event[Noted], session: AsyncSession) -> None:
        await write(event, session)
        await write(event, session)

    probe = working()
    host = await run_host(plugins=[probe])
    await query(host, "ALTER TABLE handled ADD UNIQUE (n) DEFERRABLE INITIALLY DEFERRED")
    consumer = await a_consumer(host, duplicate, max_retries=0)
    await emit(probe.context, 1)
    assert await consumer.step() is Outcome.WORKED
    [(error,)] = await query(host, "SELECT error FROM failed_events")
    assert "duplicate key" in error


async def test_a_handler_that_never_ends_has_failed(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consume, "WORK_SECONDS", 0.05)

    async def hang(_: Event[Noted], __: AsyncSession) -> None:
        await asyncio.Event().wait()

    probe = working()
    host = await run_host(plugins=[probe])
    consumer = await a_consumer(host, hang, max_retries=0)
    await emit(probe.context, 1)
    assert await consumer.step() is Outcome.WORKED
    [(error,)] = await query(host, "SELECT error FROM failed_events")
    assert error.startswith("TimeoutError")


async def test_a_handler_that_ignores_its_cancellation_is_left_behind_and_the_group_goes_on(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consume, "WORK_SECONDS", 0.05)
    monkeypatch.setattr(tasks, "CANCEL_SECONDS", 0.05)
    let_go = asyncio.Event()

    async def ignore(event: Event[Noted], session: AsyncSession) -> None:
        await write(event, session)
        while event.payload.n == 1 and not let_go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await let_go.wait()

    probe = working()
    host = await run_host(plugins=[probe])
    consumer = await a_consumer(host, ignore, max_retries=0)
    await emit(probe.context, 1, 2)
    async with in_time("both events are worked off"):
        assert [await consumer.step(), await consumer.step()] == [Outcome.WORKED, Outcome.WORKED]
    assert await rows(host) == [2], "what the one that was left behind has written is undone"
    [(error,)] = await query(host, "SELECT error FROM failed_events")
    assert error == "TimeoutError: the handler of worker group here did not finish within 0.05 s"
    let_go.set()


async def exits(_: Event[Noted], __: AsyncSession) -> None:
    raise SystemExit(3)


async def lets_out_a_cancellation(_: Event[Noted], __: AsyncSession) -> None:
    never = asyncio.create_task(asyncio.Event().wait())
    never.cancel()
    await never


@pytest.mark.parametrize(
    ("handler", "said"),
    [(exits, "tried to exit the process"), (lets_out_a_cancellation, "something that was cancelled")],
)
async def test_a_handler_that_exits_or_lets_a_cancellation_out_has_failed_and_no_more(
    run_host: RunHost, handler: WorkHandler[Noted], said: str
) -> None:
    probe = working()
    host = await run_host(plugins=[probe])
    consumer = await a_consumer(host, handler, max_retries=0)
    await emit(probe.context, 1)
    assert await consumer.step() is Outcome.WORKED
    [(error,)] = await query(host, "SELECT error FROM failed_events")
    assert said in error


async def test_an_event_that_does_not_fit_is_set_aside_without_quoting_its_payload(run_host: RunHost) -> None:
    probe = working()
    host = await run_host(plugins=[probe])
    consumer = await a_consumer(host, write, max_retries=0)
    await query(
        host,
        "SELECT ringfence_append_event('s', 'noted', 'p', '{\"n\": \"hunter2\"}', NULL, NULL, NULL, :i, false)",
        i=host.instance_id,
    )
    assert await consumer.step() is Outcome.WORKED
    [(error,)] = await query(host, "SELECT error FROM failed_events")
    assert error.startswith("the event does not fit Noted: n: must be a whole number")
    assert "hunter2" not in error


async def test_a_lost_connection_is_nobodys_failure(run_host: RunHost) -> None:
    async def cut(event: Event[Noted], session: AsyncSession) -> None:
        await write(event, session)
        [(pid,)] = (await session.execute(text("SELECT pg_backend_pid()"))).all()
        await query(host, "SELECT pg_terminate_backend(:pid, 5000)", pid=pid)
        await session.execute(text("SELECT 1"))

    probe = working()
    host = await run_host(plugins=[probe])
    consumer = await a_consumer(host, cut, max_retries=0)
    await emit(probe.context, 1)
    with pytest.raises(Exception, match=r"terminat|closed"):
        await consumer.step()
    assert (await rows(host), await cursors(host)) == ([], {"here": (0, 0)})


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


async def test_a_failure_is_not_recorded_once_another_has_got_on(run_host: RunHost) -> None:
    async def overtaken(_: Event[Noted], session: AsyncSession) -> None:
        # As when the server has ended this transaction, and another instance has handled the event since.
        await session.rollback()
        assert await other.step() is Outcome.WORKED
        raise ValueError

    probe = working()
    host = await run_host(plugins=[probe])
    consumer = await a_consumer(host, overtaken, max_retries=0)
    other = a_newcomer(host, write)
    [event] = await emit(probe.context, 1)
    assert await consumer.step() is Outcome.WORKED
    assert await query(host, "SELECT * FROM failed_events") == []
    assert (await cursors(host))["here"] == (event.position, 0)


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
