"""Timetables start automations: each time once for the fleet, and what was missed is told."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from ringfence.testing import eventually
from ringfence_automations.definitions.trigger import Trigger
from ringfence_automations.triggers.times import MOST_COUNTED, missed, schedule_of
from sqlalchemy import text

from tests.automations.triggers.machine import Machine


def trigger(**given: Any) -> Trigger:
    return Trigger.model_validate(given)


def at(written: str) -> float:
    return dt.datetime.fromisoformat(written).timestamp()


@pytest.mark.parametrize(
    ("given", "schedule"),
    [
        ({"every": "5m"}, ("5m", "UTC")),
        ({"every": "1500ms"}, ("1s500ms", "UTC")),
        ({"cron": "0 3 * * *"}, ("0 3 * * *", "UTC")),
        ({"cron": "0 3 * * *", "zone": "Europe/Berlin"}, ("0 3 * * *", "Europe/Berlin")),
        ({"webhook": True}, None),
    ],
)
def test_a_trigger_is_a_timetable_of_the_hosts(
    given: dict[str, Any], schedule: tuple[str, str] | None
) -> None:
    assert schedule_of(trigger(**given)) == schedule


def test_the_times_that_nobody_was_there_for_are_counted() -> None:
    hourly = trigger(cron="0 * * * *")
    due = at("2026-01-01T10:00:00Z")
    assert missed(hourly, due, due + 59 * 60) == 0
    assert missed(hourly, due, due + 3 * 3600) == 3
    assert missed(trigger(every="10s"), due, due + 9) == 0
    assert missed(trigger(every="10s"), due, due + 35) == 3
    assert missed(trigger(every="1s"), due, due + 1e9) == MOST_COUNTED
    assert missed(trigger(cron="* * * * *"), due, due + 1e9) == MOST_COUNTED
    # In the night in which clocks are put forward, a day has 23 hours and still one 3 o'clock.
    daily = trigger(cron="0 3 * * *", zone="Europe/Berlin")
    assert missed(daily, at("2026-03-28T03:00:00+01:00"), at("2026-03-29T03:00:00+02:00")) == 1


async def timetables(machine: Machine) -> dict[str, str]:
    async with machine.context.sessions() as session:
        rows = await session.execute(
            text("SELECT name, schedule FROM timetables WHERE kind = 'automations.start-by-timetable'")
        )
        return {row.name: row.schedule for row in rows}


async def until_they_are(machine: Machine, wanted: dict[str, str]) -> None:
    async def are() -> bool:
        return await timetables(machine) == wanted

    assert await eventually(are)


async def test_the_hosts_timetables_follow_the_definition(machine: Machine) -> None:
    await machine.apply("a", {"every": "1h"}, {"webhook": True}, {"cron": "0 3 * * *"})
    await until_they_are(machine, {"a/1": "1h", "a/3": "0 3 * * *"})
    await machine.apply("a", {"cron": "0 4 * * *"})
    await until_they_are(machine, {"a/1": "0 4 * * *"})
    await machine.apply("a", {"cron": "0 4 * * *"}, enabled=False)
    await until_they_are(machine, {})
    await machine.apply("a", {"cron": "0 4 * * *"})
    await until_they_are(machine, {"a/1": "0 4 * * *"})
    await machine.delete("a")
    await until_they_are(machine, {})


async def test_a_time_starts_one_run_that_says_which_others_were_missed(machine: Machine) -> None:
    await machine.apply("a", {"every": "1h"}, mode="parallel")
    await until_they_are(machine, {"a/1": "1h"})
    # As if no instance had been there for the last hours.
    await machine.do(
        "UPDATE timetables SET next_at = now() - interval '3 hours 5 minutes' WHERE name = 'a/1'"
    )
    [run] = await machine.begun_by("a", 1)
    assert run.trigger["kind"] == "timetable"
    assert run.event["missed"] == 3
    assert abs(run.event["lateSeconds"] - (3 * 3600 + 300)) < 120
    late = run.created_at - dt.datetime.fromisoformat(run.event["dueAt"])
    assert late > dt.timedelta(hours=3)
    assert run.trigger["time"] == run.event["dueAt"]
    assert len(await machine.shown("a")) == 1


@pytest.mark.slow
async def test_an_interval_starts_a_run_each_time(machine: Machine) -> None:
    await machine.apply("a", {"every": "1s"}, mode="parallel", max=100)
    first, second = (await machine.begun_by("a", 2))[:2]
    times = [dt.datetime.fromisoformat(one.event["dueAt"]) for one in (first, second)]
    # A moment that a busy machine has let pass is not made up for.
    passed = times[1] - times[0]
    assert passed >= dt.timedelta(seconds=1)
    assert not passed % dt.timedelta(seconds=1)
