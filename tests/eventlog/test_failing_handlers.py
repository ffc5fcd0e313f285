"""Handlers of work-queues that fail, hang or end the transaction: undone, tried again, and set aside in the end."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from ringfence import Event, backoff, tasks
from ringfence.eventlog.groups import consume, membership
from ringfence.eventlog.groups.consume import Outcome, Waiting
from ringfence.hooks import WorkHandler
from ringfence.testing import RunHost
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from tests.eventlog.probe import Noted, emit, query
from tests.eventlog.working import a_consumer, a_newcomer, cursors, handled, rows, working, write
from tests.waiting import in_time


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.01)


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
