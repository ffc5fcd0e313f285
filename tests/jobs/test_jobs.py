"""What a job is promised, on one instance."""

from __future__ import annotations

import pytest
from ringfence import PluginContext
from ringfence.testing import RunHost, eventually

from tests.jobs.clerk import TASK, Clerk, Task


@pytest.fixture
async def clerk(run_host: RunHost) -> Clerk:
    made = Clerk()
    await run_host(plugins=[made])
    return made


async def ended(clerk: Clerk, count: int = 1) -> list[str]:
    """What the jobs are, once so many have ended."""

    async def all_ended() -> list[str]:
        found = await clerk.rows("status", "ended_at IS NOT NULL")
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


async def test_a_timetable_enqueues_its_job_again_and_again(run_host: RunHost) -> None:
    async def plan(context: PluginContext) -> None:
        context.every("1s", TASK, Task(name="again"), name="often")

    clerk = Clerk(ready=plan)
    await run_host(plugins=[clerk])
    assert set(await ended(clerk, 2)) == {"succeeded"}
