"""What a run does next, step by step, without a database."""

from __future__ import annotations

from typing import Any

import pytest
from ringfence_automations.definitions.step import OnInterrupted, StopStatus
from ringfence_automations.runs.deciding import course, told
from ringfence_automations.runs.deciding.moves import End, Outcome
from ringfence_automations.runs.deciding.plan import (
    Choose,
    Parallel,
    Repeat,
    Retry,
    Stop,
    WaitEvent,
    WaitFor,
    WaitUntil,
    Work,
)

from tests.automations.runs.course_world import Given, World, always


def work(id: str, **more: Any) -> Work:
    return Work(id=id, kind="work", **more)


def succeeded() -> End:
    return End(Outcome.SUCCEEDED)


def failed(message: str) -> End:
    return End(Outcome.FAILED, message)


def test_steps_are_done_one_after_another() -> None:
    world = World.of(work("a"), work("b"))
    assert world.under_way == ["a"]
    world.finish("a")
    assert world.under_way == ["b"]
    world.finish("b")
    assert world.end == succeeded()
    assert world.begun == [("a", 1), ("b", 1)]


def test_a_step_that_fails_ends_the_run_and_says_which_it_was() -> None:
    world = World.of(work("a"), work("b"))
    world.finish("a", ok=False)
    assert world.end == failed("step a: it did not work")
    assert world.begun == [("a", 1)]


def test_a_run_goes_on_after_a_failure_that_it_is_to_live_with() -> None:
    world = World.of(
        work("a", continue_on_error=True), work("b", when=Given(lambda v: v["artifacts"]["a"]["code"] == 7))
    )
    world.finish("a", ok=False, code=7)
    assert world.under_way == ["b"]


def test_a_step_whose_condition_does_not_hold_is_skipped() -> None:
    world = World.of(work("a", when=always(False)), work("b"))
    assert world.done == {"a": "skipped"}
    assert world.under_way == ["b"]


def test_an_expression_that_fails_fails_its_step_with_its_place() -> None:
    world = World.of(work("a", when=Given(lambda v: v["inputs"])))
    assert world.end == failed("step a: line 3: 'inputs' is not there")


def test_a_step_is_tried_again_after_its_pauses() -> None:
    world = World.of(work("a", retry=Retry(attempts=3, delay=10, factor=2)))
    world.finish("a", ok=False)
    assert (world.under_way, world.wake) == ([], 1010)
    world.passes(9.9)
    assert world.begun == [("a", 1)]
    world.passes(0.1)
    world.finish("a", ok=False)
    assert world.wake == world.now + 20
    world.passes(20)
    assert world.begun == [("a", 1), ("a", 2), ("a", 3)]
    world.finish("a", ok=False)
    assert world.end == failed("step a: it did not work")


@pytest.mark.parametrize(
    ("rule", "begun", "end"),
    [
        (OnInterrupted.FAIL, [("a", 1)], failed(f"step a: {told.INTERRUPTED}")),
        (OnInterrupted.SKIP, [("a", 1), ("b", 1)], None),
        (OnInterrupted.RETRY, [("a", 1), ("a", 2)], None),
    ],
)
def test_what_becomes_of_an_interrupted_step_is_its_own_rule(
    rule: OnInterrupted, begun: list[tuple[str, int]], end: End | None
) -> None:
    world = World.of(work("a", on_interrupted=rule, retry=Retry(attempts=5)), work("b"))
    world.interrupt("a")
    assert (world.begun, world.end) == (begun, end)


def test_a_step_that_is_interrupted_again_and_again_fails_at_last() -> None:
    world = World.of(work("a", on_interrupted=OnInterrupted.RETRY))
    for _ in range(course.MAX_INTERRUPTIONS + 1):
        world.interrupt("a")
    assert world.end == failed(f"step a: {told.INTERRUPTED}")


def test_interruptions_do_not_count_as_failures_of_a_step() -> None:
    world = World.of(work("a", on_interrupted=OnInterrupted.RETRY, retry=Retry(attempts=2)))
    world.interrupt("a")
    world.finish("a", ok=False)
    assert world.begun == [("a", 1), ("a", 2), ("a", 3)]
    world.finish("a", ok=False)
    assert world.end is not None


def test_a_step_that_takes_too_long_is_told_to_end_and_waited_for() -> None:
    world = World.of(work("a", timeout=30))
    world.passes(100)
    assert world.told == []  # it has not started
    world.start("a")
    world.passes(30 + course.TIMEOUT_GRACE_SECONDS)
    assert (world.told, world.end) == (["a"], None)
    world.finish("a", ok=False, stdout="so far")
    assert world.end == failed("step a: it took longer than 30 seconds")
    assert world.records["a"].artifact == {"stdout": "so far"}


def test_a_step_that_does_not_end_in_time_is_given_up_and_its_late_result_changes_nothing() -> None:
    world = World.of(work("a", timeout=30, retry=Retry(attempts=2)))
    world.start("a")
    world.passes(30 + course.TIMEOUT_GRACE_SECONDS)
    world.passes(course.TIMEOUT_PATIENCE_SECONDS)
    assert world.begun == [("a", 1), ("a", 2)]
    world.finish("a", attempt=1)
    assert world.under_way == ["a"]
    world.finish("a", attempt=2)
    assert world.end == succeeded()


def test_a_step_that_ends_well_at_the_last_moment_has_succeeded() -> None:
    world = World.of(work("a", timeout=30))
    world.start("a")
    world.passes(30 + course.TIMEOUT_GRACE_SECONDS)
    world.finish("a")
    assert world.end == succeeded()


def test_time_passes_at_a_wait() -> None:
    world = World.of(WaitFor(id="w", seconds=30), work("a"))
    assert (world.begun, world.wake) == ([], 1030)
    world.passes(29)
    assert world.begun == []
    world.passes(1)
    assert world.begun == [("a", 1)]


def test_a_condition_is_waited_for() -> None:
    world = World.of(
        Parallel(
            id="both",
            branches=(
                (work("a"),),
                (
                    WaitUntil(id="w", condition=Given(lambda v: "a" in v["artifacts"]), every=5, timeout=60),
                    work("b"),
                ),
            ),
        )
    )
    assert (world.under_way, world.wake) == (["both.1.a"], 1005)
    world.finish("both.1.a")
    assert world.under_way == ["both.2.b"]


def test_a_condition_that_does_not_hold_in_time_fails_its_wait() -> None:
    world = World.of(WaitUntil(id="w", condition=always(False), every=5, timeout=12))
    world.passes(11)
    assert (world.end, world.wake) == (None, 1012)
    world.passes(1)
    assert world.end == failed("step w: its condition did not hold within 12 seconds")


def test_an_event_is_waited_for_from_where_the_log_ends() -> None:
    world = World.of(WaitEvent(id="w", hook="thing-done", timeout=60), work("a"), heard=41)
    assert (world.records["w"].hook, world.records["w"].heard_after) == ("thing-done", 41)
    world.happens("w", {"name": "x"})
    assert world.under_way == ["a"]
    assert world.records["w"].artifact == {"event": {"name": "x"}}


def test_an_event_that_does_not_happen_fails_its_wait() -> None:
    world = World.of(WaitEvent(id="w", hook="thing-done", timeout=60, continue_on_error=True), work("a"))
    world.passes(60)
    assert world.under_way == ["a"]


def test_the_first_option_that_holds_is_chosen_once() -> None:
    open_ = {"is": 1}
    choose = Choose(
        id="pick",
        options=(
            (always(False), (work("a"),)),
            (Given(lambda v: open_["is"] == 1), (work("b"), work("c"))),
            (always(True), (work("d"),)),
        ),
        otherwise=(work("e"),),
    )
    world = World.of(choose)
    open_["is"] = 0
    world.finish("pick.2.b")
    assert world.under_way == ["pick.2.c"]
    world.finish("pick.2.c")
    assert world.end == succeeded()


def test_otherwise_is_done_if_no_option_holds() -> None:
    world = World.of(Choose(id="pick", options=((always(False), (work("a"),)),), otherwise=(work("e"),)))
    assert world.under_way == ["pick.otherwise.e"]
    nothing = World.of(Choose(id="pick", options=((always(False), (work("a"),)),)))
    assert nothing.end == succeeded()


def test_branches_go_on_side_by_side_and_end_with_the_last() -> None:
    world = World.of(Parallel(id="both", branches=((work("a"), work("b")), (work("c"),))), work("d"))
    assert world.under_way == ["both.1.a", "both.2.c"]
    world.finish("both.1.a")
    world.finish("both.2.c")
    assert world.under_way == ["both.1.b"]
    world.finish("both.1.b")
    assert world.under_way == ["d"]


def test_when_a_branch_fails_the_others_are_ended_before_the_run_is() -> None:
    world = World.of(Parallel(id="both", branches=((work("a"),), (work("b"), work("c")), (work("d"),))))
    world.start("both.2.b")
    world.finish("both.1.a", ok=False)
    assert (world.told, world.end) == (["both.2.b"], None)
    assert world.done["both.3.d"] == "cancelled"  # it had not started
    world.finish("both.2.b")  # it had ended by itself meanwhile
    assert world.end == failed("step both.1.a: it did not work")
    assert ("both.2.c", 1) not in world.begun


def test_a_failure_in_branches_can_be_lived_with() -> None:
    world = World.of(
        Parallel(id="both", branches=((work("a"),), (work("b"),)), continue_on_error=True), work("c")
    )
    world.finish("both.1.a", ok=False)
    assert world.under_way == ["c"]


def test_what_contains_steps_can_take_too_long() -> None:
    world = World.of(Parallel(id="both", branches=((work("a"),), (WaitFor(id="w", seconds=90),)), timeout=60))
    world.start("both.1.a")
    assert world.wake == 1060
    world.passes(60)
    assert (world.told, world.done) == (["both.1.a"], {"both.2.w": "cancelled"})
    world.finish("both.1.a", ok=False)
    assert world.end == failed("step both: it took longer than 60 seconds")


def test_a_list_is_gone_through_one_after_another() -> None:
    world = World.of(
        Repeat(
            id="each", over=always(["x", "y"]), steps=(work("look", when=Given(lambda v: v["item"] != "x")),)
        )
    )
    assert world.done == {"each[0].look": "skipped"}
    assert world.under_way == ["each[1].look"]
    world.finish("each[1].look", found=3)
    assert world.end == succeeded()


def test_only_so_many_of_a_list_are_done_at_once() -> None:
    world = World.of(Repeat(id="each", over=always(list("vwxyz")), at_once=2, steps=(work("a"), work("b"))))
    assert world.under_way == ["each[0].a", "each[1].a"]
    world.finish("each[1].a")
    assert world.under_way == ["each[0].a", "each[1].b"]
    world.finish("each[1].b")
    assert world.under_way == ["each[0].a", "each[2].a"]


def test_an_element_that_fails_ends_its_list() -> None:
    world = World.of(Repeat(id="each", over=always(list("xyz")), at_once=2, steps=(work("a"),)))
    world.start("each[1].a")
    world.finish("each[0].a", ok=False)
    assert (world.told, world.end) == (["each[1].a"], None)
    world.finish("each[1].a", ok=False)
    assert world.end == failed("step each[0].a: it did not work")
    assert len(world.begun) == 2


@pytest.mark.parametrize(
    ("over", "message"),
    [
        (always("text"), "step each: what it is to repeat over is not a list"),
        (always({"a": 1}), "step each: what it is to repeat over is not a list"),
        (always([1, 2, 3]), "step each: its list has 3 elements, and may have 2"),
    ],
)
def test_what_cannot_be_repeated_over_fails(over: Given, message: str) -> None:
    world = World.of(Repeat(id="each", over=over, most=2, steps=(work("a"),)))
    assert world.end == failed(message)


def test_a_step_sees_its_own_round_and_what_is_around_it_and_all_rounds_afterwards() -> None:
    seen: list[Any] = []

    def note(values: Any) -> bool:
        seen.append({key: values[key] for key in ("artifacts", "host", "index") if key in values})
        return True

    world = World.of(
        work("first"),
        Repeat(
            id="each",
            over=always(["x", "y"]),
            name="host",
            at_once=2,
            steps=(work("look"), work("then", when=Given(note))),
        ),
        work("last", when=Given(note)),
    )
    world.finish("first", n=1)
    world.finish("each[1].look", n=3)
    world.finish("each[0].look", n=2)
    world.finish("each[0].then")
    world.finish("each[1].then")
    ok = {"status": "succeeded"}
    assert [(one["host"], one["index"], one["artifacts"]["look"]) for one in seen[:2]] == [
        ("y", 1, {**ok, "n": 3}),
        ("x", 0, {**ok, "n": 2}),
    ]
    assert seen[0]["artifacts"]["first"] == {**ok, "n": 1}
    rounds = [{"look": {**ok, "n": 2}, "then": ok}, {"look": {**ok, "n": 3}, "then": ok}]
    assert seen[2] == {"artifacts": {"first": {**ok, "n": 1}, "each": {"rounds": rounds, **ok}}}


def test_a_stop_ends_the_run_as_it_says() -> None:
    world = World.of(
        Stop(id="s", when=always(False)),
        Stop(id="t", status=StopStatus.FAILED, message=always("no disk left")),
        work("a"),
    )
    assert (world.end, world.begun) == (failed("no disk left"), [])


def test_a_stop_ends_what_is_under_way_beside_it() -> None:
    world = World.of(
        Parallel(id="both", branches=((work("a"), work("b")), (work("c"), Stop(id="s")))), work("d")
    )
    world.start("both.1.a")
    world.finish("both.2.c")
    assert (world.told, world.end) == (["both.1.a"], None)
    world.finish("both.1.a")
    assert world.end == succeeded()
    assert {path for path, _ in world.begun} == {"both.1.a", "both.2.c"}


def test_a_cancelled_run_ends_when_all_that_had_started_has() -> None:
    world = World.of(
        Parallel(id="both", branches=((work("a"), work("b")), (work("c"),), (WaitFor(id="w", seconds=5),)))
    )
    world.start("both.1.a")
    world.cancel()
    assert (world.told, world.end) == (["both.1.a"], None)
    assert world.done == {"both.2.c": "cancelled", "both.3.w": "cancelled"}
    world.finish("both.1.a", ok=False)
    assert world.end == End(Outcome.CANCELLED, "cancelled by ann")
    assert world.done["both.1.a"] == "cancelled"


def test_a_cancelled_run_does_not_wait_for_ever() -> None:
    world = World.of(work("a"))
    world.start("a")
    world.cancel()
    assert world.wake == world.now + course.CANCEL_PATIENCE_SECONDS
    world.passes(1)
    assert world.wake == world.now + course.CANCEL_PATIENCE_SECONDS - 1
    world.passes(course.CANCEL_PATIENCE_SECONDS - 1)
    assert world.end == End(Outcome.CANCELLED, "cancelled by ann")
    assert world.records["a"].error == told.NOT_KNOWN_TO_HAVE_ENDED


def test_a_cancelled_run_tries_nothing_again() -> None:
    world = World.of(work("a", retry=Retry(attempts=3, delay=10)))
    world.finish("a", ok=False)
    world.cancel()
    assert world.end is not None
    assert world.begun == [("a", 1)]


def test_a_run_has_only_so_many_steps() -> None:
    world = World.of(
        Repeat(id="each", over=always([1, 2, 3]), steps=(work("a", continue_on_error=True),)), max_steps=2
    )
    world.finish("each[0].a")
    assert world.end == failed("step each[1].a: a run may begin 2 steps, and this is one more")
