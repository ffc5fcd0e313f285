"""How the pools of connections stand is counted, so that one that is too small shows."""

from __future__ import annotations

import asyncio

from ringfence.storage.counted_pool import PoolStanding
from ringfence.storage.database import JOB_CONNECTIONS, Database
from ringfence.testing import eventually
from sqlalchemy import text


def of_jobs(database: Database) -> PoolStanding:
    [standing] = [one for one in database.pools() if one.name == "jobs"]
    return standing


async def test_who_waits_for_a_connection_is_counted_with_how_long(database_url: str) -> None:
    database, go_on = Database(database_url), asyncio.Event()

    async def work() -> None:
        async with database.job_sessions.begin() as session:
            await session.execute(text("SELECT 1"))
            await go_on.wait()

    async def is_used() -> bool:
        return of_jobs(database).used == JOB_CONNECTIONS

    async def is_waited_for() -> bool:
        return of_jobs(database).waits == 1

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(JOB_CONNECTIONS):
                tasks.create_task(work())
            await eventually(is_used)
            assert (of_jobs(database).waits, of_jobs(database).waited_seconds) == (0, 0)
            tasks.create_task(work())
            await eventually(is_waited_for)
            go_on.set()
        assert of_jobs(database).waits == 1
        assert of_jobs(database).waited_seconds > 0
        assert (of_jobs(database).used, of_jobs(database).free) == (0, JOB_CONNECTIONS)
    finally:
        await database.close()
