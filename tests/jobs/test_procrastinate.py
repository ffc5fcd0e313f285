"""Why jobs do not stand on procrastinate: what its release 3.10 does otherwise than jobs of plugins are promised.

Each test states one promise, and is expected to fail. One that passes one day says that it is time to look again.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from typing import Any

import procrastinate
import psycopg
import pytest
from procrastinate.jobs import Status
from ringfence.testing import TestPostgres

MISSING = pytest.mark.xfail(strict=True, reason="procrastinate 3.10 does not promise it")
DEFER = """
    SELECT procrastinate_defer_jobs_v1(
        ARRAY[ROW('default', 'work', 0, 'key', NULL, '{}'::jsonb, NULL)]::procrastinate_job_to_defer_v1[])
"""
FETCH = "SELECT id FROM procrastinate_fetch_job_v2(NULL, %s)"


@pytest.fixture
async def url(postgres: TestPostgres) -> AsyncIterator[str]:
    url = await postgres.create([])
    yield url.replace("+psycopg", "")
    await postgres.drop(url)


@pytest.fixture
async def app(url: str) -> AsyncIterator[procrastinate.App]:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url, min_size=1, max_size=3))
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        yield app


async def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        cursor = await connection.execute(statement)
        return await cursor.fetchall() if cursor.description else []


async def defer(app: procrastinate.App, **options: Any) -> None:
    await app.configure_task("work", **options).defer_async()


@MISSING
async def test_whoever_lost_a_job_to_another_worker_cannot_end_it(app: procrastinate.App) -> None:
    await defer(app)
    frozen, other = await app.job_manager.register_worker(), await app.job_manager.register_worker()
    job = await app.job_manager.fetch_job(queues=None, worker_id=frozen)
    assert job is not None
    await app.job_manager.retry_job(job)
    again = await app.job_manager.fetch_job(queues=None, worker_id=other)
    assert again is not None

    with pytest.raises(procrastinate.exceptions.ProcrastinateException):
        await app.job_manager.finish_job(job, Status.SUCCEEDED, delete_job=False)


@MISSING
async def test_a_job_is_ended_in_the_transaction_of_what_it_wrote(app: procrastinate.App, url: str) -> None:
    """A handler has no session whose commit is the job's end."""
    parts = set(inspect.signature(procrastinate.JobContext).parameters)
    assert parts & {"session", "connection", "transaction"}


@MISSING
async def test_a_job_for_later_does_not_hold_up_its_key(app: procrastinate.App) -> None:
    await defer(app, lock="key", schedule_in={"hours": 1})
    await defer(app, lock="key")
    worker = await app.job_manager.register_worker()
    assert await app.job_manager.fetch_job(queues=None, worker_id=worker) is not None


@MISSING
async def test_a_failed_job_is_kept_with_its_error(app: procrastinate.App, url: str) -> None:
    @app.task(name="work")
    async def work() -> None:
        raise ValueError("the reason")

    await defer(app)
    await app.run_worker_async(wait=False, install_signal_handlers=False)

    kept = await rows(url, "SELECT procrastinate_jobs::text FROM procrastinate_jobs")
    kept += await rows(url, "SELECT procrastinate_events::text FROM procrastinate_events")
    assert any("the reason" in row for (row,) in kept)


@MISSING
async def test_two_of_a_key_may_be_committed_in_another_order_than_they_were_numbered_in(
    app: procrastinate.App, url: str
) -> None:
    worker = await app.job_manager.register_worker()
    async with (
        await psycopg.AsyncConnection.connect(url) as first,
        await psycopg.AsyncConnection.connect(url) as second,
        await psycopg.AsyncConnection.connect(url, autocommit=True) as third,
    ):
        await first.execute(DEFER)
        await second.execute(DEFER)
        await second.commit()
        await second.execute(FETCH, (worker,))
        await first.commit()
        fetching = asyncio.create_task(third.execute(FETCH, (worker,)))

        async def waits() -> bool:
            return bool(await rows(url, "SELECT 1 FROM pg_locks WHERE NOT granted"))

        async with asyncio.timeout(30):
            while not (fetching.done() or await waits()):
                await asyncio.sleep(0.01)
        await second.commit()
        assert await (await fetching).fetchone() == (None,)


@MISSING
async def test_a_worker_goes_on_with_a_database_that_was_set_back(app: procrastinate.App, url: str) -> None:
    """Its own row is gone then, as in a backup of before its start."""

    @app.task(name="work")
    async def work() -> None:
        pass

    working = asyncio.create_task(
        app.run_worker_async(install_signal_handlers=False, fetch_job_polling_interval=0.1)
    )

    async def registered() -> bool:
        return bool(await rows(url, "SELECT 1 FROM procrastinate_workers"))

    async with asyncio.timeout(30):
        while not await registered():
            await asyncio.sleep(0.01)
    await rows(url, "DELETE FROM procrastinate_workers")
    await defer(app)

    async def is_done() -> bool:
        return bool(await rows(url, "SELECT 1 FROM procrastinate_jobs WHERE status = 'succeeded'"))

    try:
        async with asyncio.timeout(30):
            while not (working.done() or await is_done()):
                await asyncio.sleep(0.01)
        assert not working.done()
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


@MISSING
def test_a_kind_of_job_can_be_limited_for_the_fleet_beside_its_keys() -> None:
    options = set(inspect.signature(procrastinate.App.task).parameters)
    assert options & {"max_concurrency", "concurrency", "at_once", "limit"}


@MISSING
def test_a_timetable_has_a_zone() -> None:
    assert {"zone", "timezone", "tz"} & set(inspect.signature(procrastinate.App.periodic).parameters)
