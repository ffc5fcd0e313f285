"""Jobs in a fleet: shared out, taken over from who is lost, and done once all the same."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from ringfence import RunningJob
from ringfence.jobs import worker
from ringfence.storage.embedded import EmbeddedPostgres
from ringfence.testing import RunHost, TestPostgres, eventually
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from tests.eventlog.stalling import StallingProxy
from tests.jobs.clerk import ALONE, LONG, TASK, Clerk, Task
from tests.jobs.instance_program import BEAT_SECONDS, GONE_SECONDS, UNMARKED_SECONDS
from tests.jobs.test_jobs import ended, hang
from tests.restoring import restorable

pytestmark = pytest.mark.slow


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have instances be taken for lost within seconds."""
    monkeypatch.setattr(worker, "BEAT_SECONDS", BEAT_SECONDS)
    monkeypatch.setattr(worker, "GONE_SECONDS", GONE_SECONDS)


async def test_three_instances_share_the_jobs_and_do_each_once_in_order(run_host: RunHost) -> None:
    clerks = [Clerk() for _ in range(3)]
    began: defaultdict[str, list[str]] = defaultdict(list)
    runs: Counter[str] = Counter()

    async def note(job: RunningJob[Task], session: AsyncSession) -> None:
        kind = job.key or "alone"
        runs[kind] += 1
        assert runs[kind] == 1
        began[kind].append(job.payload.name)
        await clerks[0].write(job, session)
        await asyncio.sleep(0.002)
        runs[kind] -= 1

    for clerk in clerks:
        clerk.acts["note"] = note
        await run_host(plugins=[clerk])
    wanted = [str(number) for number in range(20)]
    for number in wanted:
        for key in ("a", "b", "c", None):
            job = ALONE if key is None else TASK
            await clerks[0].context.enqueue(job, Task(name=number, how="note"), key=key)
    assert await ended(clerks[0], 80) == ["succeeded"] * 80
    assert began == dict.fromkeys(("a", "b", "c", "alone"), wanted)
    assert Counter(await clerks[0].written()) == dict.fromkeys(wanted, 4)
    assert all(clerk.seen for clerk in clerks)


@asynccontextmanager
async def another_process(
    url: str, directory: Path, *, gone_seconds: float = GONE_SECONDS
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A host in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.jobs.instance_program", url, str(directory), str(gone_seconds)),
        cwd=Path(__file__).parents[2],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.usefixtures("quick")
async def test_what_a_killed_instance_was_at_is_begun_anew_by_another(
    run_host: RunHost, database_url: str, tmp_path: Path
) -> None:
    async with another_process(database_url, tmp_path / "other") as process:
        assert process.stdout is not None
        clerk = Clerk()
        clerk.acts["hang"] = clerk.write
        # Only the other process does jobs until it is killed.
        host = await run_host(plugins=[clerk])
        host._jobs.take_no_more()
        await clerk.context.enqueue(LONG, Task(name="first", how="hang"), key="k")
        await clerk.context.enqueue(LONG, Task(name="second"), key="k")
        assert await process.stdout.readline() == b"first\n"
        process.send_signal(signal.SIGKILL)
        await process.wait()
        host._jobs._takes_new = True
        assert await ended(clerk, 2) == ["succeeded"] * 2
    assert await clerk.written() == ["first", "second"]
    assert await clerk.rows("attempts, failures, losses") == [(2, 0, 1), (1, 0, 0)]


HOLDERS = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted"
HOUR = 3600.0


async def test_the_end_of_a_killed_process_tells_that_its_jobs_are_free(
    run_host: RunHost, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "BEAT_SECONDS", BEAT_SECONDS)
    monkeypatch.setattr(worker, "GONE_SECONDS", HOUR)
    monkeypatch.setattr(worker, "UNMARKED_SECONDS", UNMARKED_SECONDS)
    async with another_process(database_url, tmp_path / "other", gone_seconds=HOUR) as process:
        assert process.stdout is not None
        clerk = Clerk()
        clerk.acts["hang"] = clerk.write
        host = await run_host(plugins=[clerk])
        host._jobs.take_no_more()
        await clerk.context.enqueue(LONG, Task(name="first", how="hang"))
        assert await process.stdout.readline() == b"first\n"
        # While it is silent and not dead, its sessions are there, and nobody takes what it is at.
        process.send_signal(signal.SIGSTOP)
        silent = (
            f"SELECT count(*) FROM job_workers WHERE seen_at < now() - interval '{2 * UNMARKED_SECONDS} s'"
        )

        async def is_silent() -> bool:
            async with clerk.context.sessions() as session:
                return bool((await session.execute(text(silent))).scalar_one())

        assert await eventually(is_silent)
        await host._jobs._beat()
        assert await clerk.rows("status, losses") == [("running", 0)]
        process.send_signal(signal.SIGKILL)
        await process.wait()
        host._jobs._takes_new = True
        assert await ended(clerk) == ["succeeded"]
    assert await clerk.rows("attempts, failures, losses") == [(2, 0, 1)]


async def test_an_instance_that_loses_its_mark_and_lives_keeps_its_jobs(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("GONE_SECONDS", HOUR), ("UNMARKED_SECONDS", 2.0), ("BEAT_SECONDS", HOUR)):
        monkeypatch.setattr(worker, name, seconds)
    clerk, go_on = Clerk(), asyncio.Event()

    async def wait(job: RunningJob[Task], session: AsyncSession) -> None:
        await go_on.wait()

    clerk.acts["wait"] = wait
    first = await run_host(plugins=[clerk])
    await clerk.context.enqueue(LONG, Task(name="a", how="wait"))
    await clerk.begun.get()

    async def holders() -> set[int]:
        async with clerk.context.sessions() as session:
            return set((await session.execute(text(HOLDERS))).scalars())

    async def is_marked() -> bool:
        async with clerk.context.sessions() as session:
            marked = (await session.execute(text("SELECT marked FROM job_workers"))).scalars().all()
        return marked == [True]

    assert await eventually(is_marked)
    before = await holders()
    async with clerk.context.sessions() as session:
        for pid in before:
            await session.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})

    async def has_another() -> bool:
        now = await holders()
        return bool(now) and not now & before and await is_marked()

    # It says both at once, without waiting for its next beat.
    assert await eventually(has_another)
    assert first._jobs.running == 1
    go_on.set()
    assert await ended(clerk) == ["succeeded"]
    assert await clerk.rows("attempts, losses") == [(1, 0)]


@pytest.mark.usefixtures("quick")
async def test_a_frozen_instance_whose_job_was_taken_over_writes_nothing_when_it_wakes_up(
    run_host: RunHost, database_url: str, tmp_path: Path
) -> None:
    clerk = Clerk()
    go_on = asyncio.Event()

    async def wait(job: RunningJob[Task], session: AsyncSession) -> None:
        await clerk.write(job, session)
        if job.attempt == 1:
            await go_on.wait()

    clerk.acts["wait"] = wait
    host = await run_host(plugins=[clerk])
    await clerk.context.enqueue(LONG, Task(name="a", how="wait"))
    await clerk.begun.get()
    async with (
        host._jobs._turn
    ):  # so it neither says that it is there, nor looks at what has become of its job
        async with clerk.context.sessions.begin() as session:
            await session.execute(text("UPDATE jobs SET instance = gen_random_uuid(), attempts = 2"))
            await session.execute(
                text(
                    """UPDATE jobs SET status = 'succeeded', ended_at = clock_timestamp(), error = 'by another'"""
                )
            )
        go_on.set()
        await eventually(lambda: _at_rest(host._jobs))
    assert await clerk.rows("status, error, attempts") == [("succeeded", "by another", 2)]
    assert await clerk.written() == []


async def _at_rest(one: worker.Worker) -> bool:
    return one.running == 0


@pytest.mark.usefixtures("quick")
async def test_an_instance_that_is_cut_off_ends_its_jobs_before_another_takes_them_over(
    run_host: RunHost, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Long enough for two instances that start in one process.
    monkeypatch.setattr(worker, "BEAT_SECONDS", BEAT_SECONDS)
    monkeypatch.setattr(worker, "FENCE_SECONDS", 4.0)
    monkeypatch.setattr(worker, "GONE_SECONDS", 6.0)
    monkeypatch.setattr(worker, "ANSWER_SECONDS", 0.3)
    told: list[str] = []

    def at_work(clerk: Clerk, name: str) -> None:
        async def work(job: RunningJob[Task], session: AsyncSession) -> None:
            told.append(f"{name} begins attempt {job.attempt}")
            if name == "first":
                try:
                    await asyncio.Event().wait()
                finally:
                    told.append(f"{name} ends")

        clerk.acts["work"] = work

    proxy = StallingProxy(database_url, tmp_path)
    server = await asyncio.start_unix_server(proxy.serve, tmp_path / ".s.PGSQL.5432")
    try:
        first, second = Clerk(), Clerk()
        at_work(first, "first")
        at_work(second, "second")
        await run_host(plugins=[first], database_url=proxy.url)
        await first.context.enqueue(LONG, Task(name="a", how="work"))
        await first.begun.get()
        await run_host(plugins=[second])
        proxy.stall()
        assert await ended(second) == ["succeeded"]
        assert told == ["first begins attempt 1", "first ends", "second begins attempt 2"]
        proxy.resume()
    finally:
        server.close()
        await proxy.close()


async def test_a_job_goes_on_while_the_database_is_restarted(
    run_host: RunHost, own_server: EmbeddedPostgres
) -> None:
    clerk = Clerk()
    go_on = asyncio.Event()

    async def wait(job: RunningJob[Task], session: AsyncSession) -> None:
        await go_on.wait()
        await clerk.write(job, session)

    clerk.acts["wait"] = wait
    await run_host(plugins=[clerk], database_url=own_server.url)
    await clerk.context.enqueue(LONG, Task(name="a", how="wait"))
    await clerk.begun.get()
    await own_server.stop()
    go_on.set()
    await asyncio.sleep(0)
    await own_server.start()

    async def is_done() -> bool:
        try:
            return await clerk.written() == ["a"]
        except Exception:  # the pool has connections of before
            return False

    await eventually(is_done)
    assert await clerk.rows("status, failures") == [("succeeded", 0)]


@pytest.mark.usefixtures("quick")
async def test_jobs_follow_a_database_that_was_set_back(run_host: RunHost, postgres: TestPostgres) -> None:
    async with restorable(postgres) as database:
        clerk = Clerk()
        clerk.acts["hang"] = hang
        await run_host(plugins=[clerk], database_url=database.url)
        await clerk.context.enqueue(TASK, Task(name="done in both"), after_seconds=0.5)
        await clerk.context.enqueue(LONG, Task(name="runs", how="hang"))
        await clerk.begun.get()
        await database.back_up()
        assert await eventually(lambda: _written(clerk)) == ["done in both"]
        await eventually(lambda: _after_backup(clerk))
        clerk.acts["hang"] = clerk.write
        await database.restore()
        # What ran when the backup was made runs here all the time; what was done since is done again.
        assert await eventually(lambda: _written(clerk)) == ["done in both"]
        assert Counter(await clerk.rows("status")) == {"succeeded": 1, "running": 1}
        await clerk.context.enqueue(TASK, Task(name="new"))

        async def both() -> bool:
            return sorted(await clerk.written()) == ["done in both", "new"]

        await eventually(both)


async def _written(clerk: Clerk) -> list[str]:
    try:
        return await clerk.written()
    except Exception:  # the database is being restored
        return []


async def _after_backup(clerk: Clerk) -> bool:
    """Something that the backup does not have: a job that runs here and that the restored database knows not of."""
    try:
        await clerk.context.enqueue(LONG, Task(name="lost", how="hang"))
    except Exception:
        return False
    return (await asyncio.wait_for(clerk.begun.get(), 10)).payload.name in {"lost", "done in both"}


@pytest.mark.usefixtures("quick")
async def test_a_job_that_lost_three_instances_has_failed_unless_its_kind_says_otherwise(
    run_host: RunHost,
) -> None:
    clerk = Clerk()
    await run_host(plugins=[clerk])
    await clerk.context.enqueue(TASK, Task(name="deadly"), after_seconds=3600)
    await clerk.context.enqueue(LONG, Task(name="whatever happens"), after_seconds=3600)
    async with clerk.context.sessions.begin() as session:
        await session.execute(
            text("UPDATE jobs SET status = 'running', instance = :gone, attempts = 3, losses = 2"),
            {"gone": uuid.uuid4()},
        )
    assert await ended(clerk, 2) == ["failed", "succeeded"]
    [error] = await clerk.rows("error", "status = 'failed'")
    assert "was lost in the middle of attempt 3" in error


async def test_whatever_fails_and_is_cancelled_each_key_stays_in_order_and_nothing_is_left(
    run_host: RunHost,
) -> None:
    chance = random.Random(20)
    clerks = [Clerk() for _ in range(3)]
    began: defaultdict[str, list[int]] = defaultdict(list)
    under_way: Counter[str] = Counter()

    async def work(job: RunningJob[Task], session: AsyncSession) -> None:
        key = job.key or ""
        under_way[key] += 1
        assert under_way[key] == 1
        try:
            if job.attempt == 1:
                began[key].append(int(job.payload.name))
            await clerks[0].write(job, session)
            await asyncio.sleep(chance.choice((0, 0.001)))
            if chance.random() < 0.2:
                raise ValueError("bad luck")
        finally:
            under_way[key] -= 1

    for clerk in clerks:
        clerk.acts["work"] = work
        await run_host(plugins=[clerk])
    context = clerks[0].context
    for number in range(150):
        async with context.sessions.begin() as session:
            job, key = chance.choice((TASK, LONG)), chance.choice("abc")
            id = await context.enqueue(job, Task(name=f"{number}", how="work"), key=key, session=session)
            if number % 10 == 0:
                await context.enqueue(TASK, Task(name="timer"), key=key, after_seconds=3600, session=session)
        if chance.random() < 0.2:
            await context.cancel_job(id)
    statuses = Counter(await ended(clerks[0], 150))
    assert statuses.keys() <= {"succeeded", "failed", "cancelled"}
    for key, numbers in began.items():
        assert numbers == sorted(numbers), key
    written = Counter(await clerks[0].written())
    assert set(written.values()) == {1}
    assert len(written) == statuses["succeeded"]
    assert await clerks[0].rows("status", "status IN ('waiting', 'running')") == ["waiting"] * 15
