"""Timetables: once for the fleet, from one start to the next, and as clocks go."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from zoneinfo import ZoneInfo

import pytest
from ringfence import JobError, PluginContext
from ringfence.jobs.schedule import Clock, Interval, parse
from ringfence.testing import RunHost, eventually
from sqlalchemy import text

from tests.jobs.clerk import ALONE, TASK, Clerk, Task
from tests.jobs.test_jobs import ended

BERLIN = ZoneInfo("Europe/Berlin")


def planning(*timetables: tuple[str, str]) -> Clerk:
    """A clerk with timetables: schedules and names."""

    async def plan(context: PluginContext) -> None:
        for schedule, name in timetables:
            context.every(schedule, TASK, Task(name=name), name=name)

    return Clerk(ready=plan)


async def planned(clerk: Clerk) -> list[tuple[str, str]]:
    async with clerk.context.sessions() as session:
        rows = await session.execute(
            text("SELECT name, schedule FROM timetables WHERE plugin = 'clerk' ORDER BY name")
        )
        return [(row.name, row.schedule) for row in rows]


async def let_pass(clerk: Clerk, hours: float) -> None:
    """Have every timetable of the clerk have been due for so long."""
    async with clerk.context.sessions.begin() as session:
        await session.execute(
            text("""UPDATE timetables SET next_at = clock_timestamp() - make_interval(secs => :s)
                     WHERE plugin = 'clerk'"""),
            {"s": hours * 3600},
        )


async def test_a_time_is_there_once_however_many_instances_there_are(run_host: RunHost) -> None:
    clerks = [planning(("1h", "hourly")) for _ in range(3)]
    for clerk in clerks:
        await run_host(plugins=[clerk])
    # Three hours that nobody was there for are made up for once.
    await let_pass(clerks[0], 3.5)
    await ended(clerks[0])
    await let_pass(clerks[0], 0)
    await ended(clerks[0], 2)
    assert await clerks[0].written() == ["hourly", "hourly"]
    async with clerks[0].context.sessions() as session:
        ahead = await session.execute(
            text("""SELECT next_at - clock_timestamp() BETWEEN interval '1s' AND interval '1h' FROM timetables
                     WHERE plugin = 'clerk'""")
        )
        assert set(ahead.scalars()) == {True}
    told = sorted((job for clerk in clerks for job in clerk.seen), key=lambda job: job.enqueued_at)
    assert all(job.due_at <= job.enqueued_at for job in told)
    assert (told[0].enqueued_at - told[0].due_at) > dt.timedelta(hours=3)


async def test_timetables_go_on_from_one_start_to_the_next_and_are_forgotten_with_their_name(
    run_host: RunHost,
) -> None:
    first = planning(("1h", "kept"), ("1h", "changed"), ("1h", "gone"))
    host = await run_host(plugins=[first])
    async with first.context.sessions.begin() as session:
        await first.context.set_timetable("2h", ALONE, Task(name="d"), name="dynamic", session=session)
    await let_pass(first, -0.5)
    await host.__aexit__()
    second = planning(("1h", "kept"), ("0 3 * * *", "changed"))
    await run_host(plugins=[second])
    assert await planned(second) == [("changed", "0 3 * * *"), ("dynamic", "2h"), ("kept", "1h")]
    async with second.context.sessions.begin() as session:
        soon = "SELECT name FROM timetables WHERE plugin = 'clerk' AND next_at < now() + interval '31 min'"
        # What has not changed keeps its next time.
        assert set((await session.execute(text(soon))).scalars()) - {"changed"} == {"dynamic", "kept"}
        assert await second.context.remove_timetable("dynamic", session=session)
        assert not await second.context.remove_timetable("dynamic", session=session)
    assert await planned(second) == [("changed", "0 3 * * *"), ("kept", "1h")]


async def test_a_timetable_is_set_with_the_transaction_that_sets_it(run_host: RunHost) -> None:
    clerk = planning()
    await run_host(plugins=[clerk])
    async with clerk.context.sessions() as session:
        await clerk.context.set_timetable("1s", TASK, Task(name="a"), name="a", session=session)
        await session.rollback()
    assert await planned(clerk) == []
    async with clerk.context.sessions.begin() as session:
        await clerk.context.set_timetable("1s", TASK, Task(name="a"), name="a", session=session)
    await ended(clerk)


@pytest.mark.slow
async def test_while_one_of_a_timetable_waits_no_second_is_enqueued(run_host: RunHost) -> None:
    clerk = planning(("1h", "hourly"))
    host = await run_host(plugins=[clerk])
    # Nothing is begun from here on, and times pass all the same.
    host._jobs._room = dict  # type: ignore[method-assign]
    for _ in range(2):
        await let_pass(clerk, 0)

        async def moved_on() -> bool:
            async with clerk.context.sessions() as session:
                due = await session.execute(text("SELECT count(*) FROM timetables WHERE next_at <= now()"))
                return not due.scalar_one()

        await eventually(moved_on)
    assert await clerk.rows("kind, status", "plugin = 'clerk'") == [("clerk.task", "waiting")]


@pytest.mark.parametrize(
    "schedule", ["", "5", "0s", "0.5s", "400d", "* * * *", "99 * * * *", "5 minutes", "0 0 31 2 *"]
)
def test_what_is_no_schedule_is_refused(schedule: str) -> None:
    with pytest.raises(JobError):
        parse(schedule)


@pytest.mark.parametrize(
    ("schedule", "seconds"),
    [("90s", 90), ("1h30m", 5400), ("1s500ms", 1.5), ("1.5 h", 5400), ("2w", 1209600)],
)
def test_an_interval_is_written_in_the_units_that_it_is_made_of(schedule: str, seconds: float) -> None:
    assert parse(schedule) == Interval(seconds)


def test_a_schedule_has_a_zone_that_there_is() -> None:
    with pytest.raises(JobError, match="there is no time zone"):
        parse("0 3 * * *", "Europe/Atlantis")


def times(schedule: str, after: dt.datetime, count: int) -> Sequence[str]:
    """The next times of a schedule, as clocks in Berlin show them."""
    planned, moment, found = parse(schedule, "Europe/Berlin"), after.timestamp(), []
    for _ in range(count):
        moment = planned.next_after(moment, moment)
        found.append(dt.datetime.fromtimestamp(moment, BERLIN).strftime("%d %H:%M %z"))
    return found


def test_times_of_the_clock_are_as_cron_has_them_when_clocks_change() -> None:
    # On 29 March 2026 it is 3 o'clock after 2 o'clock; on 25 October there are two hours from 2 to 3.
    spring, autumn = dt.datetime(2026, 3, 28, 12, tzinfo=BERLIN), dt.datetime(2026, 10, 24, 12, tzinfo=BERLIN)
    assert times("30 2 * * *", spring, 2) == ["29 03:00 +0200", "30 02:30 +0200"]
    assert times("30 2 * * *", autumn, 2) == ["25 02:30 +0200", "26 02:30 +0100"]
    assert isinstance(parse("30 2 * * *"), Clock)


def test_an_interval_stays_on_its_grid_and_skips_what_has_passed() -> None:
    every = parse("5m")
    assert every == Interval(300.0)
    assert every.next_after(1000.0, 1000.0) == 1300.0
    assert every.next_after(1299.0, 1000.0) == 1300.0
    assert every.next_after(5001.0, 1000.0) == 5200.0
    # A clock that was set back does not stop it for as long as it was set back by.
    assert every.next_after(1000.0, 99_000.0) == 1300.0
