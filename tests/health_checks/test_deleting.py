"""A check that is deleted while a result of it comes in."""

from __future__ import annotations

import asyncio
import uuid

from ringfence.scripts import Health, Verdict
from ringfence_health_checks.plugin import HealthChecksPlugin
from ringfence_health_checks.results.results import Result
from sqlalchemy import text

from tests.health_checks.conftest import Checking
from tests.satellite.instances import Instance
from tests.waiting import until

WAITING = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()")


async def test_neither_waits_for_what_the_other_holds(instance: Instance, checking: Checking) -> None:
    check = await checking.create(intervalSeconds=3600, runsOn={"tags": ["nowhere"]})
    [plugin] = [one.plugin for one in instance.host.plugins if isinstance(one.plugin, HealthChecksPlugin)]
    assert instance.host.runtime is not None
    sessions = instance.host.runtime.database.sessions
    first, result = (
        Result(uuid.UUID(check["id"]), "core", "web-1", Verdict(Health.HEALTHY, "fine")) for _ in "12"
    )
    assert await plugin._results.store(first)

    async with sessions.begin() as deleting:
        row = {"id": check["id"]}
        await deleting.execute(
            text("SELECT FROM health_checks_checks WHERE id = CAST(:id AS uuid) FOR UPDATE"), row
        )
        storing = asyncio.create_task(plugin._results.store(result))
        while not (await deleting.execute(WAITING)).scalar():
            await asyncio.sleep(0.01)
        await deleting.execute(text("DELETE FROM health_checks_checks WHERE id = CAST(:id AS uuid)"), row)

    await until(storing.done, "the result to be stored, or to be of nothing")
    assert storing.exception() is None
