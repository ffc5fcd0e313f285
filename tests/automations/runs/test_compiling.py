"""Definitions as the engine reads them."""

from __future__ import annotations

from typing import Any

import pytest
from ringfence_automations.definitions.definition import Definition, Mode
from ringfence_automations.definitions.step import OnInterrupted
from ringfence_automations.runs.compiling import compile_definition
from ringfence_automations.runs.deciding import course
from ringfence_automations.runs.deciding.moves import Outcome
from ringfence_automations.runs.deciding.plan import (
    LONGEST_SECONDS,
    CannotEvaluateError,
    Retry,
    WaitEvent,
    Work,
)

from tests.automations.runs.course_world import World


def world_of(*steps: dict[str, Any], values: dict[str, Any] | None = None, **more: Any) -> World:
    definition = Definition.model_validate({"name": "a", "steps": list(steps), **more})
    return World.of(*compile_definition(definition, 3).plan.steps, values=values or {})


def work(id: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "work": {}, **more}


def test_all_that_a_definition_says_of_steps_comes_to_the_engine() -> None:
    definition = Definition.model_validate(
        {
            "name": "a",
            "mode": "parallel",
            "max": 3,
            "concurrencyKey": "{{ event.host }}",
            "conditions": ["event.n > 1"],
            "steps": [
                {
                    "id": "s",
                    "run_shell": {"script": "true", "timeout": "30s"},
                    "retry": {"attempts": 4, "delay": "2s", "factor": 1.5},
                    "onInterrupted": "skip",
                    "continueOnError": True,
                }
            ],
        }
    )
    compiled = compile_definition(definition, 3)
    assert (compiled.name, compiled.revision, compiled.mode, compiled.most) == ("a", 3, Mode.PARALLEL, 3)
    assert compiled.key is not None
    assert compiled.key.evaluate({"event": {"host": "x"}}) == "x"
    [condition] = compiled.conditions
    assert condition.evaluate({"event": {"n": 2}}) is True
    with pytest.raises(CannotEvaluateError, match=r"condition 1, line 1, column \d+: "):
        condition.evaluate({"event": {}})
    assert compiled.plan.steps == (
        Work(
            id="s",
            kind="run_shell",
            body={"script": "true"},
            timeout=30,
            continue_on_error=True,
            retry=Retry(4, 2.0, 1.5),
            on_interrupted=OnInterrupted.SKIP,
        ),
    )


def test_work_that_says_nothing_of_its_time_may_take_a_day() -> None:
    world = world_of(work("a"))
    world.start("a")
    assert world.records["a"].started is not None
    world.passes(LONGEST_SECONDS + course.TIMEOUT_GRACE_SECONDS)
    assert world.told == ["a"]


def test_control_steps_are_done_as_they_are_written() -> None:
    world = world_of(
        {"wait": {"for": "30s"}},
        {
            "id": "pick",
            "choose": [
                {"when": "event.n > 5", "steps": [work("many")]},
                {"otherwise": [work("few")]},
            ],
        },
        {
            "id": "each",
            "repeat": {
                "over": "event.hosts",
                "as": "host",
                "atOnce": 2,
                "steps": [work("look", when='host != "x" && index < 2')],
            },
        },
        {"id": "both", "parallel": {"branches": [[work("a")], [{"wait": {"until": "has(artifacts.a)"}}]]}},
        {
            "stop": {
                "status": "failed",
                "message": "{{ event.n }} of {{ artifacts.each.rounds[1].look.code }}",
            }
        },
        values={"event": {"n": 5, "hosts": ["x", "y", "z"]}},
    )
    world.passes(30)
    world.finish("pick.otherwise.few")
    assert world.done["each[0].look"] == "skipped"
    assert world.under_way == ["each[1].look"]
    world.finish("each[1].look", code=7)
    assert world.done["each[2].look"] == "skipped"
    world.finish("both.1.a")
    assert world.end is not None
    assert (world.end.status, world.end.message) == (Outcome.FAILED, "5 of 7")


def test_a_wait_for_an_event_passes_over_events_that_have_not_what_its_filter_asks_for() -> None:
    world = world_of(
        {"id": "w", "wait": {"event": {"hook": "thing-done", "filter": "event.name == inputs.name"}}}
    )
    step = world.plan.step_at("w")
    assert isinstance(step, WaitEvent)
    assert step.filter is not None
    assert step.filter.evaluate({"event": {"name": "x"}, "inputs": {"name": "x"}}) is True
    assert step.filter.evaluate({"event": {}, "inputs": {"name": "x"}}) is False


def test_what_fails_says_where_it_stands() -> None:
    world = world_of(work("a", when="artifacts.none.code == 1"), values={"event": {}})
    assert world.end is not None
    assert world.end.message is not None
    assert world.end.message.startswith("step a: when, line 1, column ")
