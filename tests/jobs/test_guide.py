"""What the guide shows of jobs works as it stands there, and the recorder tells of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import pytest
from ringfence import JobError
from ringfence.testing import Record

from tests.jobs.clerk import LONG, TASK, Clerk, Task

GUIDE = (Path(__file__).parents[2] / "docs" / "writing-a-plugin.md").read_text()


async def test_the_plugin_of_the_guide_plans_and_does_its_jobs(record: Record) -> None:
    [shown] = re.findall(r"^```python\n(import ringfence\n.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"__name__": "guide"}
    exec(shown, names)
    recorder = await record(names["Post"]())
    [weekly] = recorder.timetables
    assert (weekly.name, weekly.schedule, weekly.zone) == ("weekly", "0 8 * * MON", "Europe/Berlin")
    await recorder.run_job(names["SEND"], names["Letter"](to="ada"))


async def test_a_recorder_tells_what_was_enqueued_and_not_rolled_back(record: Record) -> None:
    clerk = Clerk()
    # A recorder cannot make tables.
    clerk.make_table = False
    recorder = await record(clerk)
    async with clerk.context.sessions.begin() as session:
        first = await clerk.context.enqueue(TASK, Task(name="a"), session=session, key="k", unique="u")
        assert await clerk.context.enqueue(TASK, Task(name="b"), session=session, unique="u") == first
        await clerk.context.set_timetable("5m", LONG, Task(name="c"), name="often", session=session)
    async with clerk.context.sessions() as session:
        await clerk.context.enqueue(TASK, Task(name="undone"), session=session)
        await session.rollback()
    [order] = recorder.enqueued(TASK)
    assert (order.payload, order.key) == (Task(name="a"), "k")
    assert [one.name for one in recorder.timetables] == ["often"]
    assert await clerk.context.cancel_job(first)
    assert recorder.enqueued(TASK) == []
    job = await recorder.run_job(TASK, Task(name="x"), attempt=3)
    assert (job.attempt, len(recorder.statements)) == (3, 1)
    with pytest.raises(JobError, match="carries Task"):
        await recorder.run_job(TASK, cast("Any", recorder))
