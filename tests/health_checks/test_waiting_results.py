"""What the core has found out is stored when the database is back, in order, and one that cannot be is alone lost."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from ringfence.scripts import Health, Verdict
from ringfence_health_checks.results.results import Result
from ringfence_health_checks.running import core_runner
from ringfence_health_checks.running.core_runner import CoreRunner
from sqlalchemy.exc import OperationalError

from tests.waiting import until


class Leader:
    """Leads, and has nothing to do for it."""

    leads = True

    async def serve(self, work: object) -> None:
        await asyncio.Event().wait()


class Database:
    """Takes results, but for a while none, and sets that of a check without a name aside."""

    def __init__(self) -> None:
        self.failures = 3
        self.stored: list[str] = []

    async def store(self, result: Result) -> bool:
        if self.failures:
            self.failures -= 1
            raise OperationalError("INSERT", {}, ConnectionError("away"))
        if not result.system:
            return False
        self.stored.append(result.system)
        return True


async def test_results_wait_for_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_runner, "RETRY_SECONDS", 0.01)
    database = Database()
    runner = CoreRunner(
        cast("Any", None),
        cast("Any", Leader()),
        cast("Any", database),
        also_lead=cast("Any", None),
    )

    async def run(check: str) -> Result:
        return Result(cast("Any", check), "core", check, Verdict(Health.HEALTHY, ""))

    monkeypatch.setattr(runner, "run", run)
    names = ["first", "", "second", "third"]
    runner._checks = {str(number): cast("Any", name) for number, name in enumerate(names)}
    serving = asyncio.create_task(runner.serve())
    for number in range(len(names)):
        await runner._scheduled(str(number))
    await until(lambda: database.stored == ["first", "second", "third"], "every result that can be is stored")
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
