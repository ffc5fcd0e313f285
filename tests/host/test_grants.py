"""What a grant allows, and who is made to wait: decided without a host."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.access import AccessError, Grant, Principal
from ringfence.access.throttle import BURST, FRESH_SECONDS, SECONDS_PER_FAILURE, TELL_SECONDS, Doorkeeper

RUN = "satellite.script.run"
LABELS = st.frozensets(st.sampled_from(["env=dev", "env=prod", "web", "db"]), max_size=4)


@pytest.mark.parametrize(
    ("text", "grant"),
    [
        (RUN, Grant(RUN)),
        (f"{RUN} on env=dev", Grant(RUN, frozenset({"env=dev"}))),
        (f"  {RUN}   on  web, env=dev ", Grant(RUN, frozenset({"web", "env=dev"}))),
    ],
)
def test_a_grant_is_read_as_it_is_written(text: str, grant: Grant) -> None:
    assert Grant.parse(text) == grant
    assert Grant.parse(str(grant)) == grant


@pytest.mark.parametrize(
    "text", [f"{RUN} on ,", f"{RUN} on a,,b", f"{RUN} on two words", f"{RUN} on " + "x" * 401]
)
def test_labels_that_are_announced_must_be_there(text: str) -> None:
    with pytest.raises(AccessError, match="after 'on'"):
        Grant.parse(text)


@given(own=LABELS, wanted=LABELS, carried=LABELS)
def test_nobody_can_hand_on_more_than_they_may_do(
    own: frozenset[str], wanted: frozenset[str], carried: frozenset[str]
) -> None:
    giver = Principal.of("giver", [Grant(RUN, own)])
    if giver.may_grant(Grant(RUN, wanted)):
        taker = Principal.of("taker", [Grant(RUN, wanted)])
        assert not taker.holds_on(RUN, carried) or giver.holds_on(RUN, carried)


def test_a_narrowed_grant_is_none_for_everything() -> None:
    narrowed = Principal.of("n", [Grant(RUN, frozenset({"env=dev"}))])
    assert not narrowed.holds(RUN)
    assert narrowed.holds_somewhere(RUN)
    assert narrowed.holds_on(RUN, ["web", "env=dev"])
    assert not narrowed.holds_on(RUN, ["web"])
    assert not narrowed.holds_on("satellite.satellite.read", ["env=dev"])
    assert narrowed.reach(RUN) == (frozenset({"env=dev"}),)
    assert Principal.of("all", [Grant(RUN)]).reach(RUN) is None


def test_an_address_that_fails_too_often_waits_and_others_do_not() -> None:
    keeper = Doorkeeper()
    for _ in range(BURST):
        assert keeper.wait_seconds("a", 0.0) == 0.0
        keeper.failed("a", 0.0)
    assert 0.0 < keeper.wait_seconds("a", 0.0) <= SECONDS_PER_FAILURE
    assert keeper.wait_seconds("b", 0.0) == 0.0
    assert keeper.wait_seconds("a", SECONDS_PER_FAILURE) == 0.0


def test_failures_are_told_by_the_minute_and_none_is_left_out() -> None:
    keeper = Doorkeeper()
    told = [keeper.failed("a", now) for now in (0.0, 1.0, 2.0, TELL_SECONDS, TELL_SECONDS + 1)]
    assert told == [1, 0, 0, 3, 0]


def test_a_use_is_told_once_a_day_for_each_address() -> None:
    keeper = Doorkeeper()
    assert keeper.held(b"t", "a", 0.0)
    assert not keeper.held(b"t", "a", 1.0)
    assert keeper.held(b"t", "b", 1.0)
    assert keeper.knows(b"t", "a", FRESH_SECONDS - 1)
    assert keeper.held(b"t", "a", FRESH_SECONDS + 1)
