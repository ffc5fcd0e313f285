"""Runs of any shape, interrupted and cancelled at any point, against a simple model of what they may do."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ringfence_automations.definitions.step import OnInterrupted, StopStatus
from ringfence_automations.runs.deciding import course, told
from ringfence_automations.runs.deciding.moves import Outcome
from ringfence_automations.runs.deciding.plan import (
    LONGEST_SECONDS,
    Choose,
    Parallel,
    Plan,
    Repeat,
    Retry,
    Step,
    Stop,
    WaitEvent,
    WaitFor,
    WaitUntil,
    Work,
)
from ringfence_automations.runs.deciding.records import Status

from tests.automations.runs.course_world import World, always

BAD_END = (Status.FAILED, Status.INTERRUPTED, Status.CANCELLED)


@st.composite
def sequences(draw: st.DrawFn, depth: int = 2, prefix: str = "") -> tuple[Step, ...]:
    steps = []
    for number in range(draw(st.integers(1, 3))):
        steps.append(draw(a_step(depth, f"{prefix}s{number}")))
    return tuple(steps)


@st.composite
def a_step(draw: st.DrawFn, depth: int, id: str) -> Step:
    kinds = (
        ["work"] * 4
        + ["wait", "until", "event", "stop"]
        + (["choose", "parallel", "repeat"] * 2 if depth else [])
    )
    kind = draw(st.sampled_from(kinds))
    when = draw(st.sampled_from([None, None, always(True), always(False)]))
    common: dict[str, Any] = {"id": id, "when": when, "continue_on_error": draw(st.booleans())}
    inner = sequences(depth - 1, id)
    match kind:
        case "work":
            return Work(
                **common,
                kind="work",
                timeout=draw(st.sampled_from([LONGEST_SECONDS, 20.0])),
                retry=Retry(draw(st.integers(1, 3)), draw(st.sampled_from([0.0, 10.0])), 2.0),
                on_interrupted=draw(st.sampled_from(list(OnInterrupted))),
            )
        case "wait":
            return WaitFor(**common, seconds=draw(st.sampled_from([0.0, 15.0])))
        case "until":
            return WaitUntil(**common, condition=always(draw(st.booleans())), timeout=30)
        case "event":
            return WaitEvent(**common, hook="thing-done", timeout=draw(st.sampled_from([None, 25.0])))
        case "stop":
            return Stop(**common, status=draw(st.sampled_from(list(StopStatus))))
        case "choose":
            options = tuple(
                (always(draw(st.booleans())), draw(inner)) for _ in range(draw(st.integers(1, 2)))
            )
            return Choose(**common, options=options, otherwise=draw(st.one_of(st.just(()), inner)))
        case "parallel":
            branches = tuple(draw(inner) for _ in range(draw(st.integers(1, 3))))
            return Parallel(**common, branches=branches, timeout=draw(st.sampled_from([None, 40.0])))
        case _:
            over = always(list(range(draw(st.integers(0, 4)))))
            return Repeat(
                **common,
                over=over,
                at_once=draw(st.integers(1, 3)),
                steps=draw(inner),
                timeout=draw(st.sampled_from([None, 40.0])),
            )


class Runs(RuleBasedStateMachine):
    """Work starts, ends, fails, is lost; events happen, time passes, and somebody may cancel the run."""

    world: World

    @initialize(steps=sequences())
    def begin(self, steps: tuple[Step, ...]) -> None:
        self.interrupted: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.cancelled_at: int | None = None
        self.world = World.of(*steps)

    def _pick(self, data: st.DataObject, paths: list[str]) -> str:
        return data.draw(st.sampled_from(paths))

    @precondition(lambda self: self.world.end is None and self.world.under_way)
    @rule(data=st.data())
    def starts(self, data: st.DataObject) -> None:
        path = self._pick(data, self.world.under_way)
        if self.world.records[path].started is None:
            self.world.start(path)

    @precondition(lambda self: self.world.end is None and self.world.under_way)
    @rule(data=st.data(), ok=st.booleans())
    def ends(self, data: st.DataObject, ok: bool) -> None:
        path = self._pick(data, self.world.under_way)
        if not ok:
            self.failed[path] += 1
        self.world.finish(path, ok=ok)

    @precondition(lambda self: self.world.end is None and self.world.under_way)
    @rule(data=st.data())
    def is_lost(self, data: st.DataObject) -> None:
        path = self._pick(data, self.world.under_way)
        self.interrupted[path] += 1
        self.world.interrupt(path)

    @precondition(lambda self: self.world.end is None)
    @rule(data=st.data())
    def happens(self, data: st.DataObject) -> None:
        waits = [
            path
            for path, one in self.world.records.items()
            if one.status is Status.WAITING and self.world.is_wait_for_event(path)
        ]
        if waits:
            self.world.happens(self._pick(data, waits), {})

    @precondition(lambda self: self.world.end is None)
    @rule(seconds=st.sampled_from([1.0, 10.0, 30.0, course.TIMEOUT_PATIENCE_SECONDS]))
    def passes(self, seconds: float) -> None:
        self.world.passes(seconds)

    @precondition(lambda self: self.world.end is None)
    @rule()
    def is_cancelled(self) -> None:
        self.world.cancel()
        if self.cancelled_at is None:
            self.cancelled_at = len(self.world.begun)

    @precondition(lambda self: self.world.records)
    @rule(data=st.data(), ok=st.booleans())
    def is_told_too_late(self, data: st.DataObject, ok: bool) -> None:
        """A result of an attempt that is over, or was given up, changes nothing."""
        path = self._pick(data, sorted(self.world.records))
        record = self.world.records[path]
        attempt = record.attempt - (not record.status.has_ended)
        assert told.ended(record, attempt=attempt, ok=ok, artifact={}, message="", now=self.world.now) is None

    @invariant()
    def nothing_follows_from_nothing(self) -> None:
        if self.world.end is None:
            moves = self.world.advance()
            assert (moves.written, moves.begin, moves.tell_to_end) == ((), (), ())

    @invariant()
    def no_attempt_begins_twice(self) -> None:
        assert not [one for one, count in Counter(self.world.begun).items() if count > 1]

    @invariant()
    def attempts_are_those_that_are_allowed(self) -> None:
        for path, attempts in Counter(path for path, _ in self.world.begun).items():
            step = self.world.plan.step_at(path)
            assert isinstance(step, Work)
            allowed = step.retry.attempts
            if step.on_interrupted is OnInterrupted.RETRY:
                allowed += min(self.interrupted[path], course.MAX_INTERRUPTIONS)
            assert attempts <= allowed
            if self.interrupted[path] and step.on_interrupted is not OnInterrupted.RETRY:
                assert self.world.records[path].attempt == attempts, "an interrupted one is not repeated"

    @invariant()
    def who_was_interrupted_is_not_silently_repeated(self) -> None:
        for path, record in self.world.records.items():
            step = self.world.plan.step_at(path)
            if isinstance(step, Work) and step.on_interrupted is not OnInterrupted.RETRY:
                assert record.interruptions == 0

    @invariant()
    def a_step_begins_when_all_before_it_are_over(self) -> None:
        self._in_order(self.world.plan.steps, "")

    @invariant()
    def only_so_many_rounds_are_under_way(self) -> None:
        for path, record in self.world.records.items():
            step = self.world.plan.step_at(path)
            if isinstance(step, Repeat) and not record.status.has_ended:
                rounds = {
                    match[0]
                    for other, one in self.world.records.items()
                    if not one.status.has_ended and (match := re.match(re.escape(path) + r"\[\d+\]", other))
                }
                assert len(rounds) <= step.at_once

    @invariant()
    def a_cancelled_run_begins_nothing(self) -> None:
        if self.cancelled_at is not None:
            assert len(self.world.begun) == self.cancelled_at

    @invariant()
    def what_has_ended_has_nothing_under_way(self) -> None:
        end = self.world.end
        if end is not None:
            assert [path for path, one in self.world.records.items() if not one.status.has_ended] == []
        elif not self.world.under_way:
            # Nothing is carried out, so time or an event must carry it on.
            waits_for_event = any(
                self.world.is_wait_for_event(path) and not one.status.has_ended
                for path, one in self.world.records.items()
            )
            assert self.world.wake is not None or waits_for_event

    @invariant()
    def a_run_that_has_succeeded_has_done_all_of_it(self) -> None:
        end = self.world.end
        if end is not None and end.status is Outcome.SUCCEEDED and self.cancelled_at is None:
            stopped = any(
                one.kind == "stop" and one.status is Status.SUCCEEDED for one in self.world.records.values()
            )
            assert stopped or all(step.id in self.world.records for step in self.world.plan.steps)

    def teardown(self) -> None:
        """Whatever has happened: when all work ends, and time passes, the run ends."""
        if not hasattr(self, "world"):
            return
        for _ in range(2000):
            if self.world.end is not None:
                return
            if self.world.under_way:
                self.world.finish(self.world.under_way[0])
            elif self.world.wake is not None:
                self.world.passes(self.world.wake - self.world.now)
            else:
                waits = [path for path, one in self.world.records.items() if one.status is Status.WAITING]
                self.world.happens(waits[0], {})
        raise AssertionError("the run does not end")

    def _in_order(self, steps: tuple[Step, ...], prefix: str) -> None:
        records, over = self.world.records, True
        for step in steps:
            path = prefix + step.id
            record = records.get(path)
            if record is None:
                over = False
                continue
            assert over, f"{path} has begun before what comes before it was over"
            bad = record.status in BAD_END and not step.continue_on_error
            skipped = (
                isinstance(step, Work)
                and record.status is Status.INTERRUPTED
                and step.on_interrupted is OnInterrupted.SKIP
            )
            over = record.status.has_ended and (not bad or skipped)
            match step:
                case Parallel():
                    for number, branch in enumerate(step.branches, start=1):
                        self._in_order(branch, f"{path}.{number}.")
                case Choose() if "chosen" in record.state:
                    chosen = record.state["chosen"]
                    if chosen is None:
                        self._in_order(step.otherwise, f"{path}.otherwise.")
                    else:
                        self._in_order(step.options[chosen][1], f"{path}.{chosen + 1}.")
                case Repeat() if "items" in record.state:
                    for number in range(record.state["begun"]):
                        self._in_order(step.steps, f"{path}[{number}].")
                case _:
                    pass


TestRuns = Runs.TestCase
TestRuns.settings = settings(
    max_examples=150, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_a_plan_knows_every_step_by_its_place() -> None:
    plan = Plan((Repeat(id="a", over=always([]), steps=(Parallel(id="b", branches=((Stop(id="c"),),)),)),))
    assert plan.step_at("a[7].b.1.c") == Stop(id="c")
    assert plan.step_at("a[7].b.2.c") is None
