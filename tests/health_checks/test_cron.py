"""Times by cron, also where clocks change; and checks that run by them. Mostly pure."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.scripts import Cron
from ringfence.scripts.schedule.when_due import SPREAD_SECONDS, Timetable
from ringfence_health_checks.definitions.definition import Definition
from ringfence_satellite.protocol import Assignment, ProtocolError

from tests.health_checks.conftest import CHECKS, Checking, agent, definition
from tests.satellite.instances import Instance

BERLIN = "Europe/Berlin"
HOUR = 3600.0
DAY = 24 * HOUR


def berlin(text: str) -> float:
    """A time that carries its offset, as seconds since 1970."""
    return dt.datetime.fromisoformat(text).timestamp()


def times(cron: Cron, begin: str, count: int) -> list[str]:
    """The next times, as the clocks of the zone show them, with their offsets."""
    moment, found = berlin(begin), []
    for _ in range(count):
        moment = cron.next_after(moment)
        found.append(dt.datetime.fromtimestamp(moment, ZoneInfo(cron.timezone)).isoformat())
    return found


def test_a_time_comes_by_the_clock_of_its_zone() -> None:
    cron = Cron("*/30 8-9 * * MON-FRI", BERLIN)
    assert times(cron, "2026-02-27T09:00:00+01:00", 3) == [
        "2026-02-27T09:30:00+01:00",
        "2026-03-02T08:00:00+01:00",  # after the weekend
        "2026-03-02T08:30:00+01:00",
    ]


def test_a_time_that_a_day_does_not_have_comes_once_the_clock_is_past_it() -> None:
    assert times(Cron("30 2 * * *", BERLIN), "2026-03-28T02:30:00+01:00", 2) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:00+02:00",
    ]


def test_a_fixed_time_that_a_day_has_twice_comes_once() -> None:
    cron = Cron("30 2 * * *", BERLIN)
    assert times(cron, "2026-10-24T12:00:00+02:00", 2) == [
        "2026-10-25T02:30:00+02:00",
        "2026-10-26T02:30:00+01:00",
    ]
    within = berlin("2026-10-25T02:10:00+01:00")
    assert cron.next_after(within) == berlin("2026-10-26T02:30:00+01:00"), (
        "also as seen from the hour that repeats"
    )


@pytest.mark.parametrize("day", ["2026-03-29T00:00:00+01:00", "2026-10-25T00:00:00+02:00"])
def test_what_comes_every_so_many_minutes_goes_on_evenly_when_clocks_change(day: str) -> None:
    cron, moment = Cron("*/20 * * * *", BERLIN), berlin(day)
    found = [moment := cron.next_after(moment) for _ in range(20)]
    assert {later - earlier for earlier, later in pairwise(found)} == {1200.0}


@given(
    st.sampled_from(["* * * * *", "*/7 * * * *", "30 2 * * *", "0 3 * * SUN", "15 1-3 * * *", "0 0 1 * *"]),
    st.integers(
        berlin_begin := int(dt.datetime(2026, 1, 1, tzinfo=dt.UTC).timestamp()), berlin_begin + 366 * 86_400
    ),
)
def test_time_goes_forward_and_no_gap_is_longer_than_the_longest(expression: str, moment: int) -> None:
    cron = Cron(expression, BERLIN)
    following = cron.next_after(moment)
    assert following > moment
    after = cron.next_after(following)
    assert 0 < after - following <= cron.longest_gap_seconds


@pytest.mark.parametrize(
    ("expression", "shortest", "longest"),
    [
        ("* * * * *", 60, 60),
        ("*/5 8-18 * * MON-FRI", 300, 2 * DAY + 13 * HOUR + 300),
        ("0 0 1 * *", 28 * DAY, 31 * DAY),
        ("0 0 29 2 *", 4 * 365 * DAY + DAY, 4 * 365 * DAY + DAY),
        ("0 12 * * *", DAY, DAY),
    ],
)
def test_gaps_are_known(expression: str, shortest: float, longest: float) -> None:
    cron = Cron(expression)
    assert (cron.shortest_gap_seconds, cron.longest_gap_seconds) == (shortest, longest)
    assert Cron(expression, BERLIN).longest_gap_seconds == longest + HOUR


@pytest.mark.parametrize(
    ("expression", "zone", "told"),
    [
        ("", "UTC", "is no schedule"),
        ("* * * * * *", "UTC", "is no schedule"),
        ("60 * * * *", "UTC", "Bad minute"),
        ("@daily", "UTC", "is no schedule"),
        ("0 0 30 2 *", "UTC", "Bad day-of-month"),
        ("* * * * MON#6", "UTC", "Bad day-of-week"),
        ("*/5 * * * *" + " " * 300, "UTC", "is no schedule"),
        ("* * * * *", "Europe/Nowhere", "no time zone"),
        ("* * * * *", "../etc/passwd", "no time zone"),
        ("* * * * *", "", "no time zone"),
    ],
)
def test_what_is_no_schedule_is_refused_by_name(expression: str, zone: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Cron(expression, zone)


def test_jobs_by_the_wall_are_due_at_their_times_and_always_as_much_later() -> None:
    draws: list[tuple[float, float]] = []

    def middle(low: float, high: float) -> float:
        draws.append((low, high))
        return (low + high) / 2

    cron = Cron("*/5 * * * *", BERLIN)
    table, noon = Timetable(middle), berlin("2026-03-28T12:00:00+01:00")
    table.replace({"a": cron, "b": 3600.0}, now=60.0, wall=noon + 60.0)
    assert draws == [(0.0, SPREAD_SECONDS)] * 2
    assert table.due(65.0, noon + 65.0) == ("b",), "by the other clock"
    assert table.next_due(65.0, noon + 65.0) == 305.0, "five seconds after five past"
    assert table.due(304.0, noon + 304.0) == ()
    assert table.due(305.0, noon + 305.0) == ("a",)
    table.finished("a")
    assert table.due(1000.0, noon + 1000.0) == ("a",), "times that were slept through are made up once"
    table.finished("a")
    table.replace({"a": cron}, now=1000.0, wall=noon + 1000.0)
    assert table.next_due(1000.0, noon + 1000.0) == 1205.0, "it keeps its place"


def test_a_clock_that_is_set_back_stops_no_job() -> None:
    table, noon = Timetable(lambda low, high: low), berlin("2026-03-28T12:00:00+01:00")
    table.replace({"a": Cron("0 * * * *")}, now=0.0, wall=noon)
    assert table.due(3600.0, noon + 3600.0) == ("a",)
    table.finished("a")
    assert table.due(3700.0, noon - 7000.0) == ()
    assert table.next_due(3700.0, noon - 7000.0) == 3700.0 + 3400.0


def test_a_check_has_an_interval_or_times_and_goes_from_one_to_the_other() -> None:
    by_times = Definition.model_validate(
        {**definition(cron="*/5 * * * *", timezone=BERLIN), "intervalSeconds": None}
    )
    assert by_times.schedule == Cron("*/5 * * * *", BERLIN)
    assert by_times.to_wire()["intervalSeconds"] is None, (
        "an older release does not take it for one of a minute"
    )
    assert by_times.grace_seconds == 3 * (300 + HOUR) + 10
    by_interval = by_times.amended({"intervalSeconds": 30})
    assert (by_interval.schedule, by_interval.cron, by_interval.timezone) == (30.0, None, None)
    again = by_interval.amended({"cron": "0 * * * *"})
    assert (again.schedule, again.interval_seconds) == (Cron("0 * * * *"), None)
    with pytest.raises(ValueError, match="not both"):
        Definition.model_validate(definition(cron="* * * * *", intervalSeconds=5))
    with pytest.raises(ValueError, match="only with times"):
        Definition.model_validate(definition(timezone="UTC"))


def test_an_assignment_by_cron_has_no_interval_which_older_agents_refuse() -> None:
    made = Assignment(
        config_id="c", system_id="s", kind="shell", script="true", cron="* * * * *", timezone=BERLIN
    )
    wire = made.to_wire()
    assert "intervalSeconds" not in wire
    assert (wire["cron"], wire["timezone"]) == ("* * * * *", BERLIN)
    assert Assignment.read(wire).schedule == Cron("* * * * *", BERLIN)
    for wrong in ({"cron": "x"}, {"timezone": "Nowhere"}, {"intervalSeconds": 5}):
        with pytest.raises(ProtocolError, match="cannot carry it out"):
            Assignment.read({**wire, **wrong})


@pytest.mark.slow
async def test_a_check_by_cron_runs_on_the_core_and_on_satellites(
    instance: Instance, checking: Checking, tmp_path: Path
) -> None:
    """Every minute, so this may take one."""
    satellite = await instance.register("berlin")
    check = await checking.create(
        intervalSeconds=None,
        cron="* * * * *",
        timezone=BERLIN,
        runsOn={"core": True, "satellites": [satellite.id]},
    )
    async with agent(instance.url, satellite, tmp_path):
        results = await checking.until(
            check, lambda found: {one["ranOn"] for one in found} == {"core", satellite.id}
        )
    for one in results:
        second = dt.datetime.fromisoformat(one["executedAt"]).second
        assert second <= SPREAD_SECONDS + 30, (
            "within ten seconds of the minute, on a machine that may be busy"
        )


async def test_times_that_are_none_are_refused_where_a_check_is_written(checking: Checking) -> None:
    for wrong in ({"cron": "61 * * * *"}, {"cron": "* * * * *", "timezone": "Europe/Nowhere"}):
        answer = await checking.api.post(CHECKS, json={**definition(), "intervalSeconds": None, **wrong})
        assert answer.status_code == 422, answer.text
