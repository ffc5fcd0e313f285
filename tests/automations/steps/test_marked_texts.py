"""Which texts of a body are templates, and that nothing which is filled in becomes one."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from ringfence_automations.bodies import BUILT_IN_MODELS
from ringfence_automations.bodies.http import Target
from ringfence_automations.bodies.marked import (
    SecretText,
    Templated,
    TemplatedJson,
    TemplatedWithSecrets,
    rendered,
    secret_names,
    templates_in,
)
from ringfence_automations.steps.selection import Next, PlaceState, next_places
from ringfence_automations.steps.variables import LEFT_OUT, variables_of

HOSTILE = '{{ secrets.other }} {{ secrets["other"] }} {text-0} {{'


class Inner(BaseModel):
    to: Templated
    plain: str = ""


class Outer(BaseModel):
    many: list[Inner] = []
    by_name: dict[str, Templated] = {}
    either: Inner | Templated | None = None
    tree: TemplatedJson = None
    secret: TemplatedWithSecrets | None = None
    plain: str = ""


def test_each_marked_text_is_found_wherever_it_stands_and_filled_in_once() -> None:
    body = Outer.model_validate(
        {
            "many": [{"to": "a {{ x }}", "plain": "{{ x }}"}, {"to": "none"}],
            "by_name": {"{{ x }}": "{{ y }}"},
            "either": "{{ z }}",
            "tree": {"{{ x }}": ["{{ t }}", 1, None]},
            "secret": "Bearer {{ secrets.deploy }} {{ s }}{{secrets['a-b']}}",
            "plain": "{{ x }}",
        }
    )
    assert [tuple(one) for one in templates_in(body)] == [
        ("many[0].to", "a {{ x }}"),
        ("by_name.{{ x }}", "{{ y }}"),
        ("either", "{{ z }}"),
        ("tree.{{ x }}[0]", "{{ t }}"),
        ("secret", " {{ s }}"),
    ]
    assert secret_names(body) == {"deploy", "a-b"}
    filled = rendered(body, lambda template: template.replace("{{ x }}", "X")[:2] + HOSTILE)
    assert (filled.many[0].to, filled.many[0].plain, filled.many[1].to) == (f"a {HOSTILE}", "{{ x }}", "none")
    assert filled.tree == {"{{ x }}": [f"{{{{{HOSTILE}", 1, None]}
    assert filled.secret is not None
    assert secret_names(filled) == {"deploy", "a-b"}
    assert HOSTILE in filled.secret.filled({"deploy": "D", "a-b": "AB"})
    # Written down and read again as JSON, it is still the text of a definition, before anything was filled in.
    assert Outer.model_validate_json(body.model_dump_json()) == body
    assert SecretText.parse(str(body.secret)) == body.secret


@pytest.mark.parametrize(
    ("kind", "body", "why"),
    [
        ("run_shell", {"script": "x", "env": {"LD_PRELOAD": "/x"}}, "cannot be set"),
        ("run_shell", {"script": "x", "secrets": {"A": "nothing"}}, "must name a secret"),
        ("run_shell", {"script": "x", "secrets": {"A": "{{ secrets.a }}"}, "env": {"A": "x"}}, "both"),
        ("run_shell", {"script": "x", "on": {"selector": ""}}, "selector"),
        ("run_script", {"kind": "python"}, "script or a command"),
        ("http", {"url": "https://{{ x }}/", "headers": {"A": "{{ secrets.a }}"}}, "name its host"),
        ("http", {"url": "https://a{{ x }}", "headers": {"A": "{{ secrets.a }}"}}, "name its host"),
        ("http", {"url": "{{ x }}://a/", "headers": {"A": "{{ secrets.a }}"}}, "name its host"),
        ("http", {"url": "https://a/", "headers": {"Host": "b"}}, "set by what performs"),
        ("http", {"url": "https://a/", "body": "x", "json": 1}, "not both"),
        ("http", {"url": "https://a/", "expect": [99]}, "100 to 599"),
        ("notify", {"channel": "ops", "text": "x", "severity": "loud"}, "severity"),
    ],
)
def test_a_body_that_cannot_be_meant_is_refused_when_it_is_written(
    kind: str, body: dict[str, Any], why: str
) -> None:
    with pytest.raises(ValidationError, match=why):
        BUILT_IN_MODELS[kind].model_validate(body)


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "http://", "http://a b/", "http://a/\r\nX: y", "http://u:p@a/", "http://a:99999/"],
)
def test_an_address_that_is_none_of_the_web_has_no_target(url: str) -> None:
    with pytest.raises(ValueError, match=r"url|Port"):
        Target.of(url)


@pytest.mark.parametrize("value", ["a\0b", "\ud800", "x" * 40_000])
def test_what_no_variable_can_hold_is_left_out_whole_and_named(value: str) -> None:
    found = variables_of({"event": {"a": {"": 1, "b": value}, "c": True}})
    assert found.given == {"RINGFENCE_TRIGGER_C": "true", LEFT_OUT: "RINGFENCE_TRIGGER_A_B"}


def test_a_thousand_fields_leave_room_for_what_we_say_ourselves() -> None:
    event = {f"field-{number}": "x" * 1000 for number in range(1000)}
    found = variables_of({"event": event, "run": {"id": "r"}, "inputs": {"size": 1}})
    assert (found.given["RINGFENCE_RUN_ID"], found.given["RINGFENCE_INPUT_SIZE"]) == ("r", "1")
    assert len(found.given) < 402
    assert sum(len(name) + len(text) for name, text in found.given.items()) < 300_000


W, A, S, F, U = (
    PlaceState.WAITING,
    PlaceState.ASKED,
    PlaceState.SUCCEEDED,
    PlaceState.FAILED,
    PlaceState.UNREACHABLE,
)


@pytest.mark.parametrize(
    ("states", "may_fail", "is_over", "move"),
    [
        ([W, W, W], 0, False, Next(ask=(0, 1))),
        ([A, W, W], 0, False, Next(ask=(1,))),
        ([S, A, A], 0, False, Next()),
        ([F, W, W], 0, False, Next(leave_out=(1, 2))),
        ([F, W, W], 1, False, Next(ask=(1, 2))),
        ([F, U, W], 1, False, Next(leave_out=(2,))),
        ([A, W, W], 0, True, Next(leave_out=(1, 2))),
        ([], 0, False, Next()),
    ],
)
def test_so_many_at_once_and_none_any_more_when_too_many_have_failed(
    states: list[PlaceState], may_fail: int, is_over: bool, move: Next
) -> None:
    assert next_places(states, at_once=2, may_fail=may_fail, is_over=is_over) == move
