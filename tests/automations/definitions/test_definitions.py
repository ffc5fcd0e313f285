"""What a definition may say, and what is told of one that is wrong: all of it at once, with its places."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel
from ringfence import HookDirectory
from ringfence.documents.reading import NotReadableError
from ringfence.hooks import Hook
from ringfence.spans import seconds_of, span_of
from ringfence_automations.bodies import BUILT_IN_MODELS
from ringfence_automations.bodies.marked import Templated
from ringfence_automations.definitions.definition import Definition, InputsError
from ringfence_automations.definitions.reading.accepting import accept
from ringfence_automations.definitions.scopes import Schemas
from ringfence_health_checks.hooks import health_state_changed

from tests.automations.definitions.samples import RESTART_WEB


class Page(BaseModel):
    text: Templated
    loud: bool = False


class Rang(BaseModel):
    door: str


DIRECTORY = HookDirectory()
DIRECTORY.add("health-checks", [health_state_changed])
DIRECTORY.add("bell", [Hook("bell-rang", Rang)])
SCHEMAS = Schemas(DIRECTORY)
KINDS: dict[str, type[BaseModel]] = {**BUILT_IN_MODELS, "page": Page}


def accepted(text: str) -> Definition:
    [one] = accept(text, SCHEMAS, KINDS)
    return one.definition


def told(text: str) -> list[tuple[int, int, str, str]]:
    with pytest.raises(NotReadableError) as error:
        accept(text, SCHEMAS, KINDS)
    return [(one.line, one.column, one.path, one.message) for one in error.value.findings]


def with_steps(*lines: str, head: str = "triggers: [{hook: bell-rang}]") -> str:
    return "\n".join(["name: a", head, "steps:", *lines])


WHOLE = """
name: all-of-it
description: every kind of step
mode: parallel
max: 3
concurrencyKey: "{{ event.door }}"
inputs:
  who: {type: string, default: nobody}
  often: {type: integer, required: true}
conditions: ['event.door != ""', size(inputs.who) > 0]
triggers:
  - {hook: bell-rang, filter: event.door == "front"}
  - {every: 5m}
  - {cron: "0 3 * * *", zone: Europe/Berlin}
  - {webhook: {hmac: {secret: hook-key}}}
  - webhook:
  - {manual: true}
steps:
  - id: first
    run_script: {kind: program, command: [/bin/true], args: ["{{ inputs.who }}"]}
    timeout: 1m30s
    retry: {attempts: 5, delay: 2s, factor: 2.0}
    continueOnError: true
    onInterrupted: retry
  - wait: {for: 10s}
  - wait: {until: artifacts.first.exitCode == 0, every: 1s, timeout: 1h}
  - id: rang
    wait: {event: {hook: bell-rang, filter: 'event.door == "back" && artifacts.first.status == "x"'}, timeout: 1d}
  - id: which
    choose:
      - when: artifacts.rang.event.door == "back"
        steps: [{id: back, page: {text: "back, {{ artifacts.rang.event.door }}"}}]
      - otherwise: [{stop: {status: failed, message: "no {{ inputs.who }}"}}]
  - parallel:
      branches:
        - [{id: left, page: {text: l}}]
        - [{id: right, page: {text: r}}]
  - id: each
    repeat:
      over: '[1, 2].map(x, {"n": x})'
      as: one
      atOnce: 2
      steps:
        - {id: told, page: {text: "{{ index }}: {{ one.n }}"}}
        - {when: has(artifacts.told) && has(artifacts.left), page: {text: t}}
  - {when: 'has(artifacts.back) && artifacts.each.rounds[0].told.status == "ok"', stop: }
"""


def test_all_that_there_is_can_be_said_and_is_said_again() -> None:
    text = WHOLE.replace("{{ event.door }}", "{{ trigger.hook == 'bell-rang' ? event.door : '' }}").replace(
        "'event.door != \"\"'", '\'trigger.kind != "hook" || event.door != ""\''
    )
    definition = accepted(text)
    ids = [step.id for step in definition.all_steps()]
    assert ids == [
        *("first", "step-2", "step-3", "rang", "which", "back", "step-7", "step-8"),
        *("left", "right", "each", "told", "step-13", "step-14"),
    ]
    assert [one.kind.value for one in definition.triggers] == [
        *("hook", "every", "cron", "webhook", "webhook", "manual"),
    ]
    assert [step.timeout_seconds for step in definition.all_steps()][:4] == [90.0, None, 3600.0, 86_400.0]
    again = Definition.model_validate(definition.to_wire())
    assert (again, again.to_wire()) == (definition, definition.to_wire())
    assert definition.to_wire()["steps"][0]["timeout"] == "1m30s"


def test_the_example_is_read_as_it_stands() -> None:
    definition = accepted(RESTART_WEB)
    assert [(step.id, step.kind, step.timeout_seconds) for step in definition.steps] == [
        ("restart", "run_shell", 30.0),
        ("look", "run_script", None),
        ("step-3", "notify", None),
    ]
    assert isinstance(definition.steps[0].body, dict)
    assert "timeout" not in definition.steps[0].body


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        (
            RESTART_WEB.replace('"unhealthy"', '"unhealty"')
            .replace("event.message", "event.mesage")
            .replace("artifacts.restart", "artifacts.restat")
            .replace("selector", "selectr")
            .replace("python", "cobol"),
            [
                (4, 29, "triggers[0].filter", "event.status is never"),
                (9, 12, "steps[0].run_shell.on.selectr", "selectr is not known here: did you mean selector?"),
                (14, 24, "steps[1].run_script.kind", "this must be"),
                (15, 11, "steps[1].when", "artifacts has no field restat: did you mean restart?"),
                (16, 58, "steps[2].notify.text", "event has no field mesage: did you mean message?"),
            ],
        ),
        (
            "name: A\nfoo: 1\nmode: singl\nsteps: []\n",
            [
                (1, 7, "name", "this cannot be its value"),
                (2, 1, "foo", "foo is not known here"),
                (3, 7, "mode", "this must be 'single'"),
                (4, 8, "steps", "this must not be empty"),
            ],
        ),
        ("name: a", [(1, 1, "steps", "steps is missing")]),
        ("- name: a", [(1, 1, "", "a definition must be a map")]),
        ("", [(1, 1, "", "there is no definition in this text")]),
        (
            with_steps(
                "  - stop: {}", head="triggers: [{hook: bell-rng}, {hook: bell-rang, every: 1s}, {filter: a}]"
            ),
            [
                (2, 19, "triggers[0].hook", "there is no hook bell-rng: did you mean bell-rang?"),
                (
                    2,
                    30,
                    "triggers[1]",
                    "exactly one of hook, every, cron, webhook and manual; it has hook and every",
                ),
                (2, 60, "triggers[2]", "it has none of them"),
            ],
        ),
        (
            with_steps(
                "  - stop: {}",
                head='triggers: [{cron: "61 * * * *"}, {every: 5}, {every: 1s, filter: "true"}]',
            ),
            [
                (2, 12, "triggers[0]", "61"),
                (2, 42, "triggers[1].every", "a number alone has no unit"),
                (2, 46, "triggers[2]", "a filter only with a hook or a webhook"),
            ],
        ),
        (
            with_steps(
                "  - {id: a, stop: {}}",
                "  - {id: a, stop: {}}",
                "  - parallel: {branches: [[{id: a, stop: {}}]]}",
            ),
            [
                (5, 10, "steps[1].id", "two steps a"),
                (6, 33, "steps[2].parallel.branches[0][0].id", "two steps a"),
            ],
        ),
        (
            with_steps("  - {when: has(artifacts.b), stop: {}}", "  - {id: b, stop: {}}"),
            [(4, 12, "steps[0].when", "artifacts has no field b")],
        ),
        (
            with_steps(
                "  - parallel:",
                "      branches:",
                "        - [{id: b, stop: {}}]",
                "        - [{when: has(artifacts.b), stop: {}}]",
                "  - repeat: {over: '[1]', steps: [{id: c, stop: {}}]}",
                "  - {when: has(artifacts.c), stop: {}}",
            ),
            [
                (7, 19, "steps[0].parallel.branches[1][0].when", "artifacts has no field b"),
                (9, 12, "steps[2].when", "artifacts has no field c"),
            ],
        ),
        (
            with_steps(
                "  - notfy: {channel: a}",
                "  - {page: {text: x}, stop: {}}",
                "  - {id: x}",
                "  - page: {txt: x}",
            ),
            [
                (4, 5, "steps[0].notfy", "there is no kind of step notfy: did you mean notify?"),
                (5, 5, "steps[1]", "must have exactly one kind of step"),
                (6, 5, "steps[2]", "it has none, such as run_shell or notify"),
                (7, 11, "steps[3].page.text", "text is missing"),
            ],
        ),
        (
            with_steps(
                "  - page:",
                "      text: |",
                "        a",
                "          {{ event.dor }}",
                "  - page: {text: '{{ event.dor }}'}",
                "  - page: {text: {{ event.door }}}",
            ),
            [(9, 19, "", "a key must be a text")],
        ),
        (
            with_steps(
                "  - page:",
                "      text: |",
                "        a",
                "          {{ event.dor }}",
                "  - page: {text: '{{ event.dor }}'}",
            ),
            [
                (7, 14, "steps[0].page.text", "event has no field dor: did you mean door?"),
                (8, 22, "steps[1].page.text", "event has no field dor: did you mean door?"),
            ],
        ),
        (
            with_steps(
                "  - repeat: {over: event.door, steps: [{stop: {}}]}", "  - wait: {until: event.door}"
            ),
            [
                (4, 20, "steps[0].repeat.over", "this is string, and must be a list"),
                (5, 19, "steps[1].wait.until", "this is string, and must be true or false"),
            ],
        ),
        (
            with_steps("  - wait: {event: {hook: bell, filter: event.x}}"),
            [(4, 26, "steps[0].wait.event.hook", "there is no hook bell: did you mean bell-rang?")],
        ),
        (
            with_steps(
                "  - {when: event.door == 'x', stop: {}}",
                head="triggers: [{hook: bell-rang}, {hook: health-state-changed}]",
            ),
            [(4, 12, "steps[0].when", "when health-state-changed has started it: event has no field door")],
        ),
        (
            with_steps("  - {when: event.door == 'x', stop: {}}", head="triggers: [{manual: true}]"),
            [(4, 12, "steps[0].when", "event has no field door")],
        ),
        (
            with_steps('  - wait: {until: "true", every: 999ms}'),
            [(4, 11, "steps[0].wait", "must have every of at least 1s")],
        ),
        (
            with_steps("  - {page: {text: x, timeout: 1s}, timeout: 2s}", "  - {wait: {for: 1s}, retry: {}}"),
            [
                (4, 5, "steps[0]", "has a timeout twice"),
                (5, 5, "steps[1]", "wait does nothing that could be tried again"),
            ],
        ),
    ],
)
def test_all_that_is_wrong_is_told_with_its_places(
    text: str, findings: list[tuple[int, int, str, str]]
) -> None:
    found = told(text)
    assert [one[:3] for one in found] == [one[:3] for one in findings], found
    assert all(wanted[3] in one[3] for one, wanted in zip(found, findings, strict=True)), found


def test_an_expression_fits_every_trigger_or_looks_at_which_it_is() -> None:
    head = "triggers: [{hook: bell-rang}, {hook: health-state-changed}, {every: 1m}]"
    accepted(with_steps("  - {when: trigger.hook == 'bell-rang' && event.door == 'x', stop: {}}", head=head))
    assert len(told(with_steps("  - {when: event.door == 'x', stop: {}}", head=head))) == 1


def test_inputs_are_what_the_definition_says() -> None:
    head = "inputs: {who: {default: ann}, many: {type: integer, required: true}, on: {type: boolean}}"
    definition = accepted(
        with_steps("  - {when: inputs.many > 1 && inputs.who == 'ann', stop: {}}", head=head)
    )
    assert definition.with_inputs({"many": 2}) == {"who": "ann", "many": 2, "on": None}
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "input many is required"),
        ({"many": "2"}, "input many must be a value of type integer"),
        ({"many": True}, "input many must be a value of type integer"),
        ({"many": 1, "wo": 1}, "a has no input wo; it has who, many, on"),
    ]
    for given, message in cases:
        with pytest.raises(InputsError, match=message):
            definition.with_inputs(given)
    asked = "inputs: {who: {required: true}, why: {}, what: {type: any, required: true}}"
    texts = accepted(with_steps("  - {when: inputs.who == 'ann', stop: {}}", head=asked))
    assert texts.with_inputs({"who": " ann", "why": "", "what": ""}) == {"who": " ann", "why": "", "what": ""}
    for empty in ("", " ", "\t\n"):
        with pytest.raises(InputsError, match="input who is required, so it must not be empty"):
            texts.with_inputs({"who": empty, "what": 1})
    assert told(with_steps("  - {when: inputs.mny > 1, stop: {}}", head=head))[0][3].endswith(
        "did you mean many?"
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1h30m", 5400), ("2d", 172_800), ("250ms", 0.25), ("1.5h", 5400), ("0s", 0)],
)
def test_spans_are_read_and_written(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds
    assert seconds_of(span_of(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "30", "s", "-1s", "1x", "1s1", "1" * 20 + "s", "٣s"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a span of time"):
        seconds_of(text)
