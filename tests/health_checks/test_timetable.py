"""Steady: no drift, a jittered start, never two runs of one job at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from ringfence.scripts.schedule.scheduler import Scheduler
from ringfence.scripts.schedule.when_due import SPREAD_SECONDS, Slot, Timetable
from ringfence.testing import eventually

from tests.waiting import in_time


async def until(holds: Callable[[], bool]) -> None:
    async def check() -> bool:
        return holds()

    await eventually(check)


def at_once(low: float, high: float) -> float:
    return low


def test_a_late_start_does_not_shift_the_next_one() -> None:
    times = Timetable(at_once)
    times.replace({"a": 10.0}, now=100.0)
    assert times.due(103.7) == ("a",)
    times.finished("a")
    assert times.next_due() == 110.0
    assert times.due(109.9) == ()
    assert times.due(110.2) == ("a",)


def test_the_start_is_jittered_within_the_interval() -> None:
    drawn: list[tuple[float, float]] = []

    def dice(low: float, high: float) -> float:
        drawn.append((low, high))
        return high

    times = Timetable(dice)
    times.replace({"often": 2.0, "seldom": 3600.0}, now=0.0)
    assert drawn == [(0.0, 2.0), (0.0, SPREAD_SECONDS)]
    assert times.due(1.9) == ()
    assert times.due(2.0) == ("often",)


def test_a_run_that_takes_longer_than_its_interval_is_not_run_beside_itself_and_its_times_are_skipped() -> (
    None
):
    times = Timetable(at_once)
    times.replace({"slow": 1.0}, now=0.0)
    assert times.due(0.0) == ("slow",)
    assert [times.due(now) for now in (1.0, 2.0, 3.0)] == [(), (), ()]
    assert times.finished("slow") == 3
    assert times.due(3.5) == ()
    assert times.due(4.0) == ("slow",)


def test_after_a_standstill_one_run_is_made_and_not_all_that_were_missed() -> None:
    times = Timetable(at_once)
    times.replace({"a": 1.0}, now=0.0)
    assert times.due(3600.5) == ("a",)
    times.finished("a")
    assert times.next_due() == 3601.0


def test_changing_one_job_leaves_the_others_where_they_are() -> None:
    times = Timetable(at_once)
    times.replace({"a": 60.0, "b": 60.0}, now=0.0)
    times.due(0.0)
    times.finished("a")
    assert times.replace({"a": 60.0, "c": 5.0}, now=30.0) == ("b",)
    assert times.due(30.0) == ("c",)
    assert times.due(59.9) == ()
    assert "a" in times.due(60.0)


@given(
    interval=st.floats(0.001, 1e6),
    due=st.floats(0, 1e9),
    late=st.floats(0, 1e9),
)
def test_the_next_time_is_ahead_and_no_further_than_one_interval(
    interval: float, due: float, late: float
) -> None:
    now = due + late
    after = Slot(interval, due).advanced(now).due
    assert after > now
    assert after - now <= interval * (1 + 1e-6) + 1e-6 * now


async def test_the_scheduler_never_runs_a_job_beside_itself_and_cancels_one_that_is_taken_away() -> None:
    running = 0
    most = 0
    runs = 0
    cancelled = asyncio.Event()
    release = asyncio.Event()

    async def work(_: str) -> None:
        nonlocal running, most, runs
        running, runs = running + 1, runs + 1
        most = max(most, running)
        try:
            await release.wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        finally:
            running -= 1

    scheduler = Scheduler(work, timetable=Timetable(at_once))
    task = asyncio.create_task(scheduler.run_until_cancelled())
    try:
        scheduler.replace({"a": 0.01})
        await until(lambda: runs == 1)
        release.set()
        await until(lambda: runs >= 3)
        release.clear()
        await until(lambda: running == 1)
        assert most == 1
        scheduler.replace({})
        async with in_time("the work is cancelled"):
            await cancelled.wait()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert running == 0


async def test_a_job_that_raises_is_run_again() -> None:
    runs = 0

    async def work(_: str) -> None:
        nonlocal runs
        runs += 1
        raise RuntimeError("no")

    scheduler = Scheduler(work, timetable=Timetable(at_once))
    scheduler.replace({"a": 0.01})
    task = asyncio.create_task(scheduler.run_until_cancelled())
    await until(lambda: runs >= 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_is_to_finish_ends_what_runs_and_starts_nothing_more() -> None:
    begun = ended = 0
    release = asyncio.Event()

    async def work(_: str) -> None:
        nonlocal begun, ended
        begun += 1
        await release.wait()
        ended += 1

    scheduler = Scheduler(work, timetable=Timetable(at_once))
    scheduler.replace({"a": 0.01, "b": 0.01})
    task = asyncio.create_task(scheduler.run_until_cancelled())
    await until(lambda: begun == 2)
    finishing = asyncio.create_task(scheduler.finish())
    await asyncio.sleep(0)
    assert not finishing.done()

    release.set()
    async with in_time("what runs has ended"):
        await finishing
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert (begun, ended) == (2, 2)
