"""What a channel is told, when, and in how many messages: decided without a database, and without a clock."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ringfence_notifications.deciding import Allowance, Kind, Phase, QuietHours, Why
from ringfence_notifications.severity import Severity

from tests.notifications.desk import NOON, TIMING, Desk, seconds

MINUTE, HOUR = dt.timedelta(minutes=1), dt.timedelta(hours=1)
BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = QuietHours(dt.time(22), dt.time(7), BERLIN, Severity.CRITICAL)


def test_a_failure_is_told_once_and_its_end_to_those_who_were_told() -> None:
    desk = Desk()
    desk.raised("disk")
    [failed] = desk.wait(MINUTE)
    assert (failed.title, failed.text, failed.kind) == ("disk fails", "because", Kind.FAILED)
    desk.raised("disk")
    assert desk.wait(MINUTE) == []
    desk.cleared("disk")
    [recovered] = desk.wait(MINUTE)
    assert recovered.title == "Recovered: disk fails"
    assert "over after 2 minutes" in recovered.text
    assert desk.wait(24 * HOUR) == []
    assert desk.suppressed == {Why.ALREADY_TOLD: 1}


def test_what_is_over_before_anybody_was_told_is_told_to_nobody_and_counted() -> None:
    desk = Desk()
    desk.raised("disk")
    desk.wait(seconds(10))
    desk.cleared("disk")
    assert desk.wait(HOUR) == []
    assert desk.suppressed == {Why.PASSED: 2}


def test_fifty_at_once_are_one_message_which_names_some_and_counts_the_rest() -> None:
    desk = Desk()
    for number in range(50):
        desk.raised(f"web-{number}", group="eu")
        desk.wait(seconds(0.5))
    [message] = desk.wait(MINUTE)
    assert message.title == "50 things"
    assert message.text.splitlines()[0] == "- web-0 fails: because"
    assert message.text.splitlines()[-1] == "and 30 more"
    assert len(message.told) == 50
    for number in range(50):
        desk.cleared(f"web-{number}", group="eu")
    [over] = desk.wait(MINUTE)
    assert over.title == "50 things recovered"


def test_what_belongs_to_other_groups_gets_a_message_of_its_own() -> None:
    desk = Desk()
    desk.raised("web-1", group="eu")
    desk.raised("web-2", group="us")
    assert len(desk.wait(MINUTE)) == 2


def test_it_is_told_again_while_it_lasts_until_somebody_acknowledges_it() -> None:
    desk = Desk()
    desk.raised("disk")
    desk.wait(MINUTE)
    [again] = desk.wait(4 * HOUR)
    assert (again.title, again.text) == ("Still: disk fails", "because\nSince 2030-06-03 12:00 UTC.")
    assert len(desk.wait(8 * HOUR)) == 2
    desk.ack("disk")
    assert desk.wait(24 * HOUR) == []
    desk.cleared("disk")
    assert [one.title for one in desk.wait(MINUTE)] == ["Recovered: disk fails"]
    desk.raised("disk")
    assert len(desk.wait(5 * HOUR)) == 2, "a new failure is acknowledged by nobody yet"


def test_it_is_told_again_at_once_when_it_gets_worse_and_not_when_it_gets_better() -> None:
    desk = Desk()
    desk.raised("disk", Severity.WARNING)
    desk.wait(MINUTE)
    desk.ack("disk")
    desk.raised("disk", Severity.CRITICAL)
    assert [one.title for one in desk.wait(MINUTE)] == ["Worse: disk fails"]
    desk.raised("disk", Severity.WARNING)
    assert desk.wait(MINUTE) == []
    assert [one.title for one in desk.wait(4 * HOUR)] == ["Still: disk fails"]


def test_a_recovery_that_does_not_last_is_not_told() -> None:
    desk = Desk()
    desk.raised("disk")
    desk.wait(MINUTE)
    desk.cleared("disk")
    desk.wait(seconds(10))
    desk.raised("disk")
    assert desk.wait(HOUR) == []
    assert desk.suppressed == {Why.RETURNED: 2}
    assert [one.title for one in desk.wait(3 * HOUR)] == ["Still: disk fails"]


def test_what_happens_once_is_counted_and_then_gathered_for_longer() -> None:
    desk = Desk()
    for _ in range(3):
        desk.once("refused")
    assert [one.title for one in desk.wait(MINUTE)] == ["refused fails (× 3)"]
    desk.once("refused")
    assert desk.wait(50 * MINUTE) == []
    desk.once("refused")
    assert [one.title for one in desk.wait(10 * MINUTE)] == ["refused fails (× 2)"]


def test_one_that_changes_again_and_again_is_told_so_and_then_when_it_is_steady() -> None:
    desk = Desk()
    for _ in range(10):
        desk.raised("disk")
        desk.wait(seconds(70))
        desk.cleared("disk")
        desk.wait(seconds(70))
    told = desk.titles
    assert told[:4] == ["disk fails", "Recovered: disk fails", "disk fails", "Recovered: disk fails"]
    assert told[5:] == ["Changes again and again: disk fails"]
    desk.raised("disk")
    assert [one.title for one in desk.wait(HOUR)] == ["Still: disk fails"]
    desk.cleared("disk")
    assert [one.title for one in desk.wait(MINUTE)] == ["Recovered: disk fails"]


def test_one_that_flaps_and_is_well_in_the_end_is_told_to_have_recovered() -> None:
    desk = Desk()
    for _ in range(6):
        desk.raised("disk")
        desk.wait(seconds(70))
        desk.cleared("disk")
        desk.wait(seconds(70))
    desk.wait(HOUR)
    assert desk.titles[-2:] == ["Changes again and again: disk fails", "Recovered: disk fails"]


def test_one_that_flapped_in_quiet_hours_and_has_settled_is_told_as_it_is() -> None:
    desk = Desk(quiet=NIGHT, now=night(23))
    for _ in range(4):
        desk.raised("disk")
        desk.wait(seconds(70))
        desk.cleared("disk")
        desk.wait(seconds(70))
    [summary] = desk.wait(9 * HOUR)
    assert summary.text.splitlines()[1:] == ["- Over by now: disk fails"]


def night(hour: int, minute: int = 0, day: int = 3) -> dt.datetime:
    return dt.datetime(2030, 6, day, hour, minute, tzinfo=BERLIN).astimezone(dt.UTC)


def test_quiet_hours_hold_back_what_can_wait_and_sum_it_up_afterwards() -> None:
    desk = Desk(quiet=NIGHT, now=night(23))
    desk.raised("disk")
    desk.raised("short")
    desk.once("refused")
    assert desk.wait(HOUR) == []
    desk.cleared("short")
    desk.raised("fire", Severity.CRITICAL)
    assert [one.title for one in desk.wait(HOUR)] == ["fire fails"]
    desk.ack("fire")
    [summary] = desk.wait(6 * HOUR)
    assert desk.sent[-1][0] == night(7, day=4)
    assert summary.title.startswith("Held back: ")
    assert summary.text.splitlines() == [
        "In the quiet hours this was held back:",
        "- disk fails: because",
        "- Over by now: short fails",
        "- refused fails: because",
    ]
    desk.cleared("disk")
    assert [one.title for one in desk.wait(MINUTE)] == ["Recovered: disk fails"]


def test_what_gets_critical_in_quiet_hours_passes_then() -> None:
    desk = Desk(quiet=NIGHT, now=night(23))
    desk.raised("disk")
    desk.wait(HOUR)
    desk.raised("disk", Severity.CRITICAL)
    assert [one.title for one in desk.wait(MINUTE)] == ["disk fails"]


@pytest.mark.parametrize(
    ("now", "until"),
    [
        (night(21, 59), None),
        (night(22), night(7, day=4)),
        (night(6, 59), night(7)),
        (night(7), None),
        # The clocks of the last Sunday in March go from 2 to 3, so this night has eight hours.
        (
            dt.datetime(2030, 3, 30, 22, tzinfo=BERLIN).astimezone(dt.UTC),
            dt.datetime(2030, 3, 31, 5, tzinfo=dt.UTC),
        ),
    ],
)
def test_quiet_hours_go_by_the_clocks_of_their_zone(now: dt.datetime, until: dt.datetime | None) -> None:
    assert NIGHT.until(now) == until


def test_quiet_hours_may_lie_within_a_day() -> None:
    noon = QuietHours(dt.time(12), dt.time(13), ZoneInfo("UTC"), Severity.ERROR)
    assert noon.until(NOON) == NOON + HOUR
    assert noon.until(NOON + HOUR) is None
    assert [noon.hold(one) for one in Severity] == [True, True, False, False]
    with pytest.raises(ValueError, match="must not begin when they end"):
        replace(noon, ends=dt.time(12))


def test_beyond_the_limit_what_is_held_back_becomes_one_message() -> None:
    desk = Desk(per_hour=8)
    for number in range(20):
        desk.raised(f"check-{number}", group=str(number))
    messages = desk.wait(MINUTE)
    assert [one.title for one in messages] == ["check-0 fails", "check-1 fails", "Held back: 18 things"]
    assert len(messages[-1].told) == 18


def test_what_is_critical_may_use_what_the_rest_may_not() -> None:
    desk = Desk(per_hour=8)
    for number in range(20):
        desk.raised(f"check-{number}", group=str(number))
    desk.wait(MINUTE)
    desk.raised("late")
    assert desk.wait(MINUTE) == []
    desk.raised("fire", Severity.CRITICAL, group="fire")
    assert [one.title for one in desk.wait(MINUTE)] == ["fire fails"]
    [summary] = desk.wait(HOUR)
    assert summary.title == "Held back: 1 things"


PHASES = st.sampled_from([*Phase])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["raised", "raised", "cleared", "cleared", "once", "ack", "wait"]),
        st.sampled_from(["a", "b", "c", "d"]),
        st.sampled_from([*Severity]),
        st.sampled_from([1, 20, 31, 400, 1800, 7200, 40000]),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(
    steps=STEPS,
    per_hour=st.integers(2, 12),
    quiet=st.sampled_from([None, NIGHT, replace(NIGHT, begins=dt.time(13), passes=Severity.ERROR)]),
    burst=st.integers(0, 25),
)
def test_whatever_happens_nothing_is_lost_and_nobody_gets_more_than_they_want(
    steps: list[tuple[str, str, Severity, int]], per_hour: int, quiet: QuietHours | None, burst: int
) -> None:
    """The rules that hold for any course of events.

    Each event is in a message, suppressed with why, or yet to be told; no hour has more messages than the limit;
    a recovery is told to nobody who was not told of the failure, and to everybody who was.
    """
    desk = Desk(per_hour=per_hour, quiet=quiet)
    for number in range(burst):
        desk.raised(f"burst-{number}", group=str(number))
    for what, name, severity, time in steps:
        match what:
            case "raised":
                desk.raised(name, severity, group=name)
            case "cleared":
                desk.cleared(name, group=name)
            case "once":
                desk.once(f"once-{name}", severity)
            case "ack" if name in desk.tellings:
                desk.ack(name)
            case _:
                desk.wait(seconds(time))
        assert desk.accounted == desk.happened
    for name in list(desk.tellings):
        if not name.startswith("once-"):
            desk.cleared(name, group=desk.groups[name])
    desk.wait(48 * HOUR)
    assert all(one.is_idle and one.due_at is None for one in desk.tellings.values()), (
        "something is never told"
    )
    assert desk.accounted == desk.happened
    times = [at for at, _ in desk.sent]
    for first in times:
        assert sum(first <= at < first + HOUR for at in times) <= per_hour
    for name in desk.tellings:
        check_course(name, kinds_told(desk, name))


def kinds_told(desk: Desk, name: str) -> list[Kind]:
    """What a channel was told of an incident, in order."""
    return [kind for _, message in desk.sent for id, kind in message.told if id == name]


def check_course(name: str, told: list[Kind]) -> None:
    """A failure is told before all else of it, and then either its end or nothing more than reminders."""
    failing = False
    for kind in told:
        match kind:
            case Kind.FAILED | Kind.FLAPS:
                assert kind is Kind.FLAPS or not failing, (name, told)
                failing = True
            case Kind.WORSE | Kind.STILL:
                assert failing, (name, told)
            case Kind.RECOVERED:
                assert failing, (name, told)
                failing = False
            case Kind.PASSED | Kind.HAPPENED:
                assert not failing, (name, told)
    assert not failing, (name, told)


def test_an_allowance_comes_back_evenly() -> None:
    full = Allowance.full(30, NOON)
    assert (full.messages, full.reserve) == (15, 3)
    empty = full.used(15)
    assert empty.when(1) - NOON < seconds(241)
    assert empty.now(NOON + HOUR).messages == 15
    assert empty.now(NOON - HOUR).messages == 0
    assert TIMING.window == seconds(30)
