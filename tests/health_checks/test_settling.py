"""When a place counts as being in another state: pure, so without a database."""

from __future__ import annotations

import datetime as dt
import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.scripts import Health
from ringfence_health_checks.definitions.patience import Flapping, Patience
from ringfence_health_checks.states.settling_rules import Settled

BEGIN = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
H, D, U, X = Health.HEALTHY, Health.DEGRADED, Health.UNHEALTHY, Health.UNKNOWN
ONE_LETTER = {"h": H, "d": D, "u": U, "x": X}


def at(second: float) -> dt.datetime:
    return BEGIN + dt.timedelta(seconds=second)


def states(results: str, patience: Patience, *, every: float = 60.0) -> list[Settled]:
    """The settled state after each of some results, which come at even intervals."""
    state, found = Settled(), []
    for number, letter in enumerate(results):
        state = state.after(ONE_LETTER[letter], at(number * every), patience)
        found.append(state)
    return found


def told(results: str, patience: Patience) -> str:
    """The settled states after each result, a letter each; - before the first has settled."""
    letters = {health: letter for letter, health in ONE_LETTER.items()}
    return "".join("-" if one.status is None else letters[one.status] for one in states(results, patience))


@pytest.mark.parametrize(
    ("failures", "successes", "results", "expected"),
    [
        (1, 1, "hhuuhdxh", "hhuuhdxh"),
        (3, 1, "huuhuuuuh", "hhhhhhuuh"),
        (3, 1, "uuhuuu", "--hhhu"),
        (3, 1, "uuuu", "--uu"),
        (1, 2, "huhuhh", "huuuuh"),
        (2, 2, "hduuhhdd", "hhuuuhhd"),  # two that are worse, and the later of them counts
        (1, 3, "udddhhh", "uuuddd" + "h"),
        (2, 1, "hxuhxx", "hhuhhx"),
    ],
)
def test_a_state_settles_after_so_many_results_in_a_row(
    failures: int, successes: int, results: str, expected: str
) -> None:
    assert told(results, Patience(failures, successes, None)) == expected


@given(
    st.text(alphabet="hdux", max_size=40),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_a_state_moves_only_by_as_many_results_in_a_row_as_it_takes(
    results: str, failures: int, successes: int
) -> None:
    """By its own reading: look back from each result for those in a row that were worse, or better, than what held."""
    held, expected, moved = None, [], -1
    for number, letter in enumerate(results):
        seen = [ONE_LETTER[one].severity for one in results[moved + 1 : number + 1]]
        base = (held or H).severity
        worse = better = 0
        for one in reversed(seen):
            if one <= base:
                break
            worse += 1
        for one in reversed(seen):
            if one >= base:
                break
            better += 1
        if worse >= failures or better >= successes or (held is None and letter == "h"):
            held, moved = ONE_LETTER[letter], number
        expected.append(held)
    assert [one.status for one in states(results, Patience(failures, successes, None))] == expected


@given(st.text(alphabet="hdux", min_size=1, max_size=40), st.integers(2, 6), st.integers(1, 20))
def test_a_place_flaps_while_more_results_than_allowed_differ_from_the_one_before(
    results: str, changes: int, intervals: int
) -> None:
    flapping = Flapping(changes=changes, window_seconds=intervals * 60.0)
    found = states(results, Patience(1, 1, flapping))
    times = [number for number, (one, two) in enumerate(pairwise(results), 1) if one != two]
    for number, state in enumerate(found):
        within = [one for one in times if number - intervals < one <= number]
        assert state.flapping is (len(within) > changes)
        if state.flapping and number:
            assert state.status is found[number - 1].status, "it is held"
        if not state.flapping:
            assert state.status is ONE_LETTER[results[number]]


@given(st.text(alphabet="hdux", max_size=20), st.integers(1, 3), st.integers(1, 3))
def test_what_is_stored_is_read_back(results: str, failures: int, successes: int) -> None:
    patience = Patience(failures, successes, Flapping(changes=2, window_seconds=600))
    for state in [Settled(), *states(results, patience)]:
        for one in (state, state.gone_stale(at(9999))):
            assert Settled.from_wire(json.loads(json.dumps(one.to_wire()))) == one


@given(st.text(alphabet="hdux", min_size=1, max_size=20), st.integers(1, 3), st.integers(1, 3))
def test_what_is_said_to_change_nothing_changes_nothing(results: str, failures: int, successes: int) -> None:
    patience = Patience(failures, successes, Flapping(changes=3, window_seconds=600))
    for state in states(results, patience):
        for status in Health:
            if state.is_unmoved_by(status):
                later = state.after(status, at(100_000), patience)
                assert (later.status, later.since, later.streak) == (state.status, state.since, 0)
                assert not later.differs_from(state)


def test_a_stale_place_is_unknown_and_comes_back_to_what_it_was() -> None:
    before = states("huuu", Patience(2, 2))[-1]
    stale = before.gone_stale(at(1000))
    assert (stale.status, stale.since, stale.stale) == (X, at(1000), True)
    assert stale.gone_stale(at(2000)) == stale, "once"
    back = stale.returned(at(3000))
    assert (back.status, back.since, back.stale) == (U, at(3000), False)
    assert stale.after(H, at(3000), Patience(2, 2)).status is U, "one success of two"
    assert stale.after(H, at(3000), Patience(2, 1)).status is H


def test_a_place_that_never_ran_is_unknown_when_it_is_stale() -> None:
    stale = Settled().gone_stale(at(0))
    assert stale.status is X
    assert stale.differs_from(Settled())
    assert stale.after(H, at(1), Patience()).status is H
