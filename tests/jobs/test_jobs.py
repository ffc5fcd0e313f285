"""What a job is promised, on one instance."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel
from ringfence import Job, JobError, JobFailed, PluginContext, RunningJob
from ringfence.jobs import worker
from ringfence.testing import RunHost, eventually
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from tests.jobs.clerk import ALONE, LONG, PATIENT, SHORT, TASK, Clerk, Task


@pytest.fixture
async def clerk(run_host: RunHost) -> Clerk:
    made = Clerk()
    await run_host(plugins=[made])
    return made


async def ended(clerk: Clerk, count: int = 1) -> list[str]:
    """What the jobs are, once so many have ended."""

    async def all_ended() -> list[str]:
        found: list[str] = await clerk.rows("status", "ended_at IS NOT NULL")
        return found if len(found) >= count else []

    return await eventually(all_ended)


async def test_a_job_is_done_when_the_transaction_that_enqueued_it_commits(clerk: Clerk) -> None:
    async with clerk.context.sessions.begin() as session:
        await clerk.context.enqueue(TASK, Task(name="kept"), session=session)
        assert await clerk.rows() == []
    assert await ended(clerk) == ["succeeded"]
    assert await clerk.written() == ["kept"]


async def test_a_job_never_was_when_the_transaction_that_enqueued_it_rolls_back(clerk: Clerk) -> None:
    async with clerk.context.sessions() as session:
        await clerk.context.enqueue(TASK, Task(name="undone"), session=session)
        await session.rollback()
    await clerk.context.enqueue(TASK, Task(name="kept"))
    assert await ended(clerk) == ["succeeded"]
    assert await clerk.written() == ["kept"]


async def test_what_a_handler_wrote_before_it_failed_is_undone_and_the_job_is_tried_again(
    clerk: Clerk,
) -> None:
    async def fail_once(job: RunningJob[Task], session: AsyncSession) -> None:
        await clerk.write(job, session)
        if job.attempt == 1:
            raise ValueError("not yet")

    clerk.acts["fail once"] = fail_once
    await clerk.context.enqueue(TASK, Task(name="twice", how="fail once"))
    assert await ended(clerk) == ["succeeded"]
    assert await clerk.rows("attempts, failures, error") == [(2, 1, None)]
    assert await clerk.written() == ["twice"]


async def test_a_job_that_goes_on_failing_is_kept_with_its_error(clerk: Clerk) -> None:
    async def fail(job: RunningJob[Task], session: AsyncSession) -> None:
        raise ValueError("for a reason")

    async def fail_for_good(job: RunningJob[Task], session: AsyncSession) -> None:
        raise JobFailed("no such channel")

    clerk.acts |= {"fail": fail, "fail for good": fail_for_good}
    await clerk.context.enqueue(TASK, Task(name="a", how="fail"))
    await clerk.context.enqueue(TASK, Task(name="b", how="fail for good"))
    assert await ended(clerk, 2) == ["failed", "failed"]
    assert await clerk.rows("attempts, error") == [(3, "ValueError: for a reason"), (1, "no such channel")]


async def test_a_failed_job_waits_before_it_is_tried_again(clerk: Clerk) -> None:
    # A constraint that is only looked at when the transaction commits fails the attempt as any other error does.
    async with clerk.context.sessions.begin() as session:
        await session.execute(text("CREATE TABLE once (name text UNIQUE DEFERRABLE INITIALLY DEFERRED)"))

    async def write_twice(job: RunningJob[Task], session: AsyncSession) -> None:
        await session.execute(text("INSERT INTO once VALUES ('x'), ('x')"))

    clerk.acts["twice"] = write_twice
    await clerk.context.enqueue(SHORT, Task(name="late", how="twice"))
    assert await ended(clerk) == ["failed"]
    [error] = await clerk.rows("error")
    assert error.startswith("IntegrityError: duplicate key value violates unique constraint")


async def test_a_handler_that_ends_the_transaction_has_failed(clerk: Clerk) -> None:
    async def commit(job: RunningJob[Task], session: AsyncSession) -> None:
        await session.commit()

    clerk.acts["commit"] = commit
    await clerk.context.enqueue(SHORT, Task(name="a", how="commit"))
    assert await ended(clerk) == ["failed"]
    assert "leave commit and rollback to the host" in (await clerk.rows("error"))[0]


async def test_a_handler_is_cancelled_at_its_deadline(clerk: Clerk) -> None:
    clerk.acts["hang"] = hang
    await clerk.context.enqueue(SHORT, Task(name="a", how="hang"))
    assert await ended(clerk) == ["failed"]
    assert await clerk.rows("error") == ["TimeoutError: Clerk.act did not finish within 0.2 s"]


async def hang(job: RunningJob[Task], session: AsyncSession) -> None:
    await asyncio.Event().wait()


async def test_a_payload_that_fits_no_more_is_a_failed_job_that_says_so(clerk: Clerk) -> None:
    async with clerk.context.sessions.begin() as session:
        await clerk.context.enqueue(TASK, Task(name="a"), session=session)
        await session.execute(text("""UPDATE jobs SET payload = '{"nome": "a"}'"""))
    assert await ended(clerk) == ["failed"]
    assert await clerk.rows("error, attempts") == [("its payload does not fit Task: name: is missing", 1)]


async def test_jobs_of_a_key_are_done_one_after_another_in_the_order_of_enqueueing(clerk: Clerk) -> None:
    order: list[str] = []
    at_once = 0

    async def note(job: RunningJob[Task], session: AsyncSession) -> None:
        nonlocal at_once
        at_once += 1
        assert at_once == 1
        await asyncio.sleep(0)
        if job.payload.name == "1" and job.attempt == 1:
            at_once -= 1
            raise ValueError("keeps its place")
        order.append(job.payload.name)
        at_once -= 1

    clerk.acts["note"] = note
    async with clerk.context.sessions.begin() as session:
        for number in range(6):
            # Of two kinds: a key is the plugin's.
            job = TASK if number % 2 else LONG
            await clerk.context.enqueue(job, Task(name=f"{number}", how="note"), session=session, key="k")
        await clerk.context.enqueue(TASK, Task(name="later", how="note"), key="k", after_seconds=3600)
    assert await ended(clerk, 6) == ["succeeded"] * 6
    assert order == ["0", "1", "2", "3", "4", "5"]


async def test_one_that_waits_to_be_tried_again_keeps_its_place_also_before_those_that_come_then(
    clerk: Clerk,
) -> None:
    async def fail_once(job: RunningJob[Task], session: AsyncSession) -> None:
        if job.attempt == 1:
            raise ValueError("not yet")
        await clerk.write(job, session)

    async def move(due: str) -> None:
        async with clerk.context.sessions.begin() as session:
            await session.execute(text(f"UPDATE jobs SET due_at = {due} WHERE payload->>'name' = 'first'"))

    clerk.acts["fail once"] = fail_once
    await clerk.context.enqueue(PATIENT, Task(name="first", how="fail once"), key="k")
    await eventually(lambda: clerk.rows("id", "failures = 1"))
    await clerk.context.enqueue(PATIENT, Task(name="second"), key="k")
    await clerk.context.enqueue(PATIENT, Task(name="other"))
    assert await ended(clerk) == ["succeeded"]
    await move("now()")
    assert await ended(clerk, 3) == ["succeeded"] * 3
    assert await clerk.written() == ["other", "first", "second"]


async def test_a_job_for_later_holds_up_nobody_of_its_key(clerk: Clerk) -> None:
    await clerk.context.enqueue(TASK, Task(name="timer"), key="k", at=_in_an_hour())
    await clerk.context.enqueue(TASK, Task(name="now"), key="k")
    assert await ended(clerk) == ["succeeded"]
    assert await clerk.written() == ["now"]


def _in_an_hour() -> dt.datetime:
    return dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)


async def test_a_job_for_later_is_done_when_it_is_due_and_not_before(clerk: Clerk) -> None:
    await clerk.context.enqueue(TASK, Task(name="later"), after_seconds=0.3)
    await clerk.context.enqueue(TASK, Task(name="now"))
    assert await ended(clerk, 2) == ["succeeded"] * 2
    assert await clerk.written() == ["now", "later"]
    assert await clerk.rows("begun_at >= due_at") == [True, True]


async def test_while_a_unique_job_waits_there_is_no_second_one(clerk: Clerk) -> None:
    first = await clerk.context.enqueue(TASK, Task(name="first"), unique="u", at=_in_an_hour())
    async with clerk.context.sessions.begin() as session:
        # Due at once now, but not before this commits: its handler is to see what is written here.
        assert await clerk.context.enqueue(TASK, Task(name="second"), unique="u", session=session) == first
        await clerk.context.enqueue(TASK, Task(name="other"))
        await ended(clerk)
        await session.execute(text("INSERT INTO written VALUES ('before it', 0)"))
    assert await ended(clerk, 2) == ["succeeded"] * 2
    assert await clerk.written() == ["other", "before it", "first"]
    assert await clerk.context.enqueue(TASK, Task(name="third"), unique="u") != first


async def test_one_that_waits_does_also_for_one_of_its_name_that_was_begun_and_did_not_succeed(
    clerk: Clerk,
) -> None:
    go_on = asyncio.Event()

    async def fail(job: RunningJob[Task], session: AsyncSession) -> None:
        await go_on.wait()
        raise ValueError("no")

    clerk.acts |= {"fail": fail, "hang": hang}
    await clerk.context.enqueue(TASK, Task(name="first", how="fail"), unique="u")
    await clerk.begun.get()
    await clerk.context.enqueue(TASK, Task(name="second"), unique="u", at=_in_an_hour())
    go_on.set()
    assert await ended(clerk, 2) == ["failed", "succeeded"]
    assert await clerk.rows("error", "status = 'failed'") == ["ValueError: no"]
    assert await clerk.written() == ["second"]


async def test_a_waiting_job_that_is_cancelled_is_never_begun(clerk: Clerk) -> None:
    id = await clerk.context.enqueue(TASK, Task(name="no"), after_seconds=0.2)
    async with clerk.context.sessions() as session:
        assert await clerk.context.cancel_job(id, session=session)
        await session.rollback()
    assert await clerk.rows() == ["waiting"]
    assert await clerk.context.cancel_job(id)
    await clerk.context.enqueue(TASK, Task(name="yes"), after_seconds=0.3)
    assert await ended(clerk, 2) == ["cancelled", "succeeded"]
    assert await clerk.written() == ["yes"]
    assert not await clerk.context.cancel_job(id)


async def test_a_running_job_that_is_cancelled_ends_where_it_runs(clerk: Clerk) -> None:
    told: list[bool] = []
    under_way = asyncio.Event()

    async def tell(job: RunningJob[Task], session: AsyncSession) -> None:
        await clerk.write(job, session)
        try:
            under_way.set()
            await asyncio.Event().wait()
        finally:
            told.append(job.cancelled.is_set())

    clerk.acts["tell"] = tell
    id = await clerk.context.enqueue(LONG, Task(name="a", how="tell"))
    await under_way.wait()
    assert await clerk.context.cancel_job(id)
    assert await ended(clerk) == ["cancelled"]
    assert told == [True]
    assert await clerk.written() == []


async def test_how_far_a_job_is_can_be_seen_while_it_runs(clerk: Clerk) -> None:
    go_on = asyncio.Event()

    async def tell(job: RunningJob[Task], session: AsyncSession) -> None:
        await clerk.write(job, session)
        await job.progress(3, 10, "unpacking")
        await go_on.wait()

    clerk.acts["tell"] = tell
    await clerk.context.enqueue(TASK, Task(name="a", how="tell"))

    async def progress() -> list[dict[str, object]]:
        return await clerk.rows("progress", "progress IS NOT NULL")

    assert await eventually(progress) == [{"done": 3, "of": 10, "text": "unpacking"}]
    go_on.set()
    assert await ended(clerk) == ["succeeded"]


async def test_jobs_of_a_kind_with_a_limit_run_no_more_at_once_than_that(clerk: Clerk) -> None:
    at_once: list[int] = [0]

    async def count(job: RunningJob[Task], session: AsyncSession) -> None:
        at_once.append(at_once[-1] + 1)
        await asyncio.sleep(0.01)
        at_once.append(at_once[-1] - 1)

    clerk.acts["count"] = count
    async with clerk.context.sessions.begin() as session:
        for number in range(5):
            await clerk.context.enqueue(ALONE, Task(name=f"{number}", how="count"), session=session)
    assert await ended(clerk, 5) == ["succeeded"] * 5
    assert at_once == [0] + [1, 0] * 5


async def test_jobs_that_take_long_hold_up_no_other_kind(clerk: Clerk) -> None:
    clerk.acts["hang"] = hang
    for number in range(LONG.at_once_here + 2):
        await clerk.context.enqueue(LONG, Task(name=f"{number}", how="hang"))
    await clerk.context.enqueue(TASK, Task(name="quick"))
    assert await ended(clerk) == ["succeeded"]


async def test_handlers_share_two_connections(clerk: Clerk) -> None:
    connected: list[int] = []

    async def count(job: RunningJob[Task], session: AsyncSession) -> None:
        await session.execute(text("SELECT pg_backend_pid()"))
        await asyncio.sleep(0.01)
        pids = await session.execute(text("SELECT pg_backend_pid()"))
        connected.append(pids.scalar_one())

    clerk.acts["count"] = count
    async with clerk.context.sessions.begin() as session:
        for number in range(10):
            await clerk.context.enqueue(TASK, Task(name=f"{number}", how="count"), session=session)
    assert await ended(clerk, 10) == ["succeeded"] * 10
    assert len(set(connected)) <= 2


async def test_a_stop_gives_back_what_is_under_way_and_counts_no_failure(run_host: RunHost) -> None:
    clerk, other = Clerk(), Clerk()
    clerk.acts["hang"] = hang
    host = await run_host(plugins=[clerk])
    await clerk.context.enqueue(SHORT, Task(name="other"), after_seconds=3600)
    await clerk.context.enqueue(LONG, Task(name="a", how="hang"))
    await clerk.begun.get()
    # Of its name another one waits, and does for both.
    await clerk.context.enqueue(LONG, Task(name="b", how="hang"), unique="u")
    await clerk.begun.get()
    await clerk.context.enqueue(LONG, Task(name="c"), unique="u", at=_in_an_hour())
    await host.__aexit__()
    other.acts["hang"] = other.write
    await run_host(plugins=[other])
    assert sorted(await ended(other, 3)) == ["cancelled", "succeeded", "succeeded"]
    assert sorted(await other.written()) == ["a", "c"]
    assert await other.rows("failures, losses, attempts", "ended_at IS NOT NULL") == [
        (0, 0, 2),
        (0, 0, 1),
        (0, 0, 1),
    ]


async def test_a_job_of_a_plugin_that_is_not_there_waits(run_host: RunHost) -> None:
    gone, stays = Clerk(id="gone"), Clerk()
    host = await run_host(plugins=[gone, stays])
    await gone.context.enqueue(TASK, Task(name="a"), after_seconds=0.2)
    await host.__aexit__()
    back = Clerk()
    await run_host(plugins=[back])
    await back.context.enqueue(TASK, Task(name="b"), after_seconds=0.2)
    assert await ended(back) == ["succeeded"]
    assert await back.rows("kind, status") == [("gone.task", "waiting"), ("clerk.task", "succeeded")]


async def test_a_claim_that_was_never_heard_of_is_taken_back(
    clerk: Clerk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "BEAT_SECONDS", 0.05)
    await clerk.context.enqueue(TASK, Task(name="a"), at=_in_an_hour())
    async with clerk.context.sessions.begin() as session:
        await session.execute(
            text("UPDATE jobs SET status = 'running', instance = :me, attempts = 1"),
            {"me": clerk.context.instance_id},
        )
    assert await ended(clerk) == ["succeeded"]
    assert await clerk.rows("attempts, losses") == [(2, 0)]


async def test_what_cannot_work_is_refused_where_it_is_said(clerk: Clerk) -> None:
    class Other(BaseModel):
        pass

    undeclared = Job("task", Task)
    refused: list[tuple[Callable[[], object], str]] = [
        (lambda: Job("No", Task), "must be lower-case words"),
        (lambda: Job("a", dict), "not a pydantic model"),  # type: ignore[type-var]
        (lambda: Job("a", Task, at_once=0), "at_once must be 1 or more"),
        (lambda: clerk.context.on_job(undeclared, clerk.act), "without having declared it"),
        (lambda: clerk.context.on_job(TASK, clerk.act), "already has a handler"),
        (lambda: clerk.context.every("5m", TASK, Task(name="a"), name="late"), "too late"),
    ]
    for act, message in refused:
        with pytest.raises(JobError, match=message):
            act()
    with pytest.raises(JobError, match="carries Task, not Other"):
        await clerk.context.enqueue(TASK, cast("Any", Other()))
    with pytest.raises(JobError, match="`at` has a time zone"):
        await clerk.context.enqueue(TASK, Task(name="a"), at=dt.datetime(2030, 1, 1))
    with pytest.raises(JobError, match="its payload cannot be stored"):
        await clerk.context.enqueue(TASK, Task(name="\0"))


@pytest.mark.slow
async def test_a_timetable_enqueues_its_job_again_and_again(run_host: RunHost) -> None:
    async def plan(context: PluginContext) -> None:
        context.every("1s", TASK, Task(name="again"), name="often")

    clerk = Clerk(ready=plan)
    await run_host(plugins=[clerk])
    assert set(await ended(clerk, 2)) == {"succeeded"}


CLAIM = """
    SELECT id FROM ringfence_claim_jobs(:instance, ARRAY['clerk.task'], ARRAY[10], CAST(ARRAY[NULL] AS integer[]))
"""


async def test_a_job_behind_one_whose_end_is_not_committed_yet_is_not_held_for_ever(
    run_host: RunHost,
) -> None:
    clerk = Clerk()
    (await run_host(plugins=[clerk]))._jobs.take_no_more()
    sessions, instance = clerk.context.sessions, {"instance": uuid4()}

    async def claim() -> list[UUID]:
        async with sessions.begin() as session:
            return list((await session.execute(text(CLAIM), instance)).scalars())

    async with sessions.begin() as session:
        # Somebody who does not lose his jobs to the host of this test.
        await session.execute(
            text(
                "INSERT INTO job_workers (instance, kinds, seen_at) VALUES (:instance, '{}', now() + interval '1 h')"
            ),
            instance,
        )
    first = await clerk.context.enqueue(TASK, Task(name="first"), key="k")
    assert await claim() == [first]
    async with sessions.begin() as ending:
        # It looks for whom to release, and there is nobody yet.
        await ending.execute(
            text("UPDATE jobs SET status = 'succeeded', ended_at = now() WHERE id = :id"), {"id": first}
        )
        second = await clerk.context.enqueue(TASK, Task(name="second"), key="k")
        assert await claim() == []
    assert await claim() == [second]
