"""What pages are made of: the picture of a definition, its text, the fields of its inputs, and its JSON schema."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.documents.reading import documents
from ringfence_automations.bodies import BUILT_IN_MODELS
from ringfence_automations.definitions.definition import Definition
from ringfence_automations.definitions.reading.schema import schema_of
from ringfence_automations.definitions.reading.written import as_yaml
from ringfence_automations.pages.inputs import WrongInputsError, fields, read
from ringfence_automations.pages.picture import drawn, states_of
from ringfence_automations.pages.words import cause_in_words, span, trigger_in_words
from ringfence_automations.triggers.armed import arm
from ringfence_automations.triggers.trying.fitting import Fit, choices_of, fit

from tests.pages.automations.samples import GREET, HOOKED, REFUSED, SLOW, WATCHED

EVERY = [GREET, HOOKED, REFUSED, SLOW, WATCHED]
DOCUMENTED = re.findall(
    r"```yaml[^\n]*\n(name:.*?)```",
    (Path(__file__).parents[3] / "docs/automations.md").read_text(),
    re.DOTALL,
)


def definition(text: str) -> Definition:
    return Definition.model_validate(documents(text)[0].value)


@pytest.mark.parametrize("text", [*EVERY, *DOCUMENTED], ids=lambda text: text.split("\n")[0])
def test_a_definition_is_written_so_that_it_is_read_as_the_same_again(text: str) -> None:
    one = definition(text)
    written = as_yaml(one)
    assert definition(written).to_wire() == one.to_wire()
    assert written.startswith("name: ")


def test_ids_that_steps_have_by_their_places_are_not_written() -> None:
    assert "step-1" not in as_yaml(definition(WATCHED))
    # An id of somebody's own stays, also where it looks like one of ours.
    assert "id: step-2" in as_yaml(definition("name: a\nsteps: [{id: step-2, stop: {}}]"))


HOSTILE = [
    "yes",
    "0o17",
    "1e3",
    "~",
    "null",
    "- a",
    "a: b",
    "x\n y\n",
    "\ttab",
    "a\u0085b",
    "\u2028",
    "'\"",
    "#",
    "",
    " a",
]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_text_stays_a_text_whatever_it_looks_like(text: str) -> None:
    one = Definition.model_validate(
        {"name": "a", "description": text, "steps": [{"stop": {"message": text}}]}
    )
    assert definition(as_yaml(one)).to_wire() == one.to_wire()


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40))
def test_any_text_stays_as_it_is(text: str) -> None:
    one = Definition.model_validate({"name": "a", "description": text, "steps": [{"stop": {}}]})
    assert definition(as_yaml(one)).to_wire() == one.to_wire()


def test_the_picture_has_what_leads_to_other_steps_as_such() -> None:
    pause, pick, both, each, last = drawn(definition(HOOKED).steps)
    assert pause.does == "until 1ms have passed"
    assert [lane.label for lane in pick.lanes] == ['if trigger.kind == "hook"', "otherwise"]
    assert "the run ends here, failed" in pick.lanes[0].steps[0].does
    assert both.is_beside
    assert [lane.steps[0].id for lane in both.lanes] == ["left", "right"]
    assert each.does == "for each one of [1, 2], 100 at most, 2 at a time"
    assert each.lanes[0].steps[0].notes == ("only if one > 1",)
    assert last.does == "until false, looking every 1s"
    assert last.notes == ("1s at most", "the run goes on if it fails")


def test_the_picture_of_a_run_has_how_far_each_step_is() -> None:
    by_path = {"pause": "succeeded", "each[0].look": "skipped", "each[1].look": "running", "each": "running"}
    pause, _, _, each, last = drawn(definition(HOOKED).steps, states_of(by_path))
    assert pause.state is not None
    assert pause.state.words == "succeeded"
    inner = each.lanes[0].steps[0].state
    assert inner is not None
    assert (inner.words, inner.status) == ("1 running, 1 skipped", "running")
    assert last.state is None


@pytest.mark.parametrize(
    ("trigger", "words"),
    [
        ({"hook": "a", "filter": "event.b"}, "a if event.b"),
        ({"every": "5m"}, "every 5m"),
        ({"cron": "0 3 * * *"}, "on the schedule 0 3 * * * (UTC)"),
        ({"webhook": {"hmac": {"secret": "s"}}}, "a webhook, signed"),
        ({"manual": True}, "by hand"),
    ],
)
def test_triggers_are_told_in_words(trigger: dict[str, Any], words: str) -> None:
    assert trigger_in_words(trigger) == words


def test_spans_and_causes_are_told_in_words() -> None:
    assert [span(seconds) for seconds in (0.04, 0.96, 59, 600, 9000, 400_000)] == [
        "40 ms",
        "1.0 s",
        "59 s",
        "10 min",
        "2 h",
        "5 days",
    ]
    assert cause_in_words({"kind": "hook", "hook": "a"}, None) == "event a"
    assert cause_in_words({"kind": "manual", "hook": ""}, "ann") == "by hand, ann"


def test_inputs_are_fields_with_their_defaults_and_are_read_by_their_types() -> None:
    greet = definition(GREET)
    assert {one.label: one.value for one in fields(greet)} == {
        "whom": "world",
        "times": "",
        "really": "true",
        "more": "",
    }
    written = {"input-times": "2", "input-whom": "", "input-really": "false", "input-more": '{"a": 1}'}
    assert read(greet, written) == {"times": 2, "whom": "", "really": False, "more": {"a": 1}}
    assert read(greet, {"input-times": "1", "input-whom": "x"}) == {"times": 1, "whom": "x"}


@pytest.mark.parametrize(
    ("written", "wrong"),
    [
        ({}, {"times": "This input is required."}),
        ({"input-times": "two"}, {"times": "Write a whole number, such as 3."}),
        ({"input-times": "1.5"}, {"times": "Write a whole number, such as 3."}),
        ({"input-times": "1", "input-more": "[1]"}, {"more": 'Write a JSON object, such as {"a": 1}.'}),
        ({"input-times": "1", "input-really": "perhaps"}, {"really": "Write true or false."}),
        (
            {"input-times": "1", "input-more": "[" * 100_000},
            {"more": 'Write a JSON object, such as {"a": 1}.'},
        ),
    ],
)
def test_inputs_that_do_not_fit_are_told_field_by_field(
    written: dict[str, str], wrong: dict[str, str]
) -> None:
    greet = definition(GREET)
    with pytest.raises(WrongInputsError) as told:
        read(greet, written)
    assert told.value.errors == wrong
    shown = {one.label: one.error for one in fields(greet, written, told.value.errors) if one.error}
    assert shown == wrong


STATES = ["healthy", "unhealthy", "unknown"]


@pytest.mark.parametrize(
    ("filter", "fits"),
    [
        (None, Fit.YES),
        ('event.status == "unhealthy"', Fit.YES),
        ('event.status == "unhealthy" && event.checkName == "shop"', Fit.YES),
        ('event.status == "unhealthy" && event.checkName == "other"', Fit.NO),
        ('event.checkId == "7" && event.flapping == true', Fit.YES),
        ('event.message.contains("disk") && event.checkName == "shop"', Fit.PERHAPS),
    ],
)
def test_it_is_known_which_filters_can_hold_for_a_check(filter: str | None, fits: Fit) -> None:
    trigger = {"hook": "health-state-changed", **({} if filter is None else {"filter": filter})}
    one = Definition.model_validate({"name": "a", "triggers": [trigger], "steps": [{"stop": {}}]})
    events = [
        {"checkId": "7", "checkName": "shop", "status": state, "flapping": False, "message": ""}
        for state in STATES
    ]
    armed = arm(one, 1, since=0).triggers[0]
    assert fit(armed, events, ("checkId", "checkName"), "health-state-changed") is fits


def test_what_a_field_can_be_is_read_of_its_schema() -> None:
    schema = {"properties": {"to": {"$ref": "#/$defs/Health"}}, "$defs": {"Health": {"enum": STATES}}}
    assert choices_of(schema, "to") == STATES
    assert choices_of(schema, "from") == []


def takes(schema: Mapping[str, Any], value: Any, known: Mapping[str, Any]) -> bool:
    """Whether a value fits a JSON schema, as far as ours use what there is."""
    if "$ref" in schema:
        return takes(known[schema["$ref"].removeprefix("#/$defs/")], value, known)
    if "anyOf" in schema and not any(takes(one, value, known) for one in schema["anyOf"]):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    kinds: dict[str, Any] = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "array": list,
        "object": dict,
    }
    match schema.get("type"):
        case None:
            pass
        case "null":
            return value is None
        case str(kind):
            if not isinstance(value, kinds[kind]) or (
                isinstance(value, bool) and kind in ("integer", "number")
            ):
                return False
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        return False
    if isinstance(value, list) and "items" in schema:
        return all(takes(schema["items"], one, known) for one in value)
    if isinstance(value, dict) and "properties" in schema:
        names = schema["properties"]
        if set(schema.get("required", ())) - value.keys():
            return False
        if schema.get("additionalProperties") is False and value.keys() - names.keys():
            return False
        return all(takes(names[name], one, known) for name, one in value.items() if name in names)
    return True


@pytest.mark.parametrize("text", [*EVERY, *DOCUMENTED], ids=lambda text: text.split("\n")[0])
def test_the_editors_schema_takes_what_the_host_takes(text: str) -> None:
    schema = schema_of(BUILT_IN_MODELS)
    assert takes(schema, documents(text)[0].value, schema["$defs"])


@pytest.mark.parametrize(
    "text",
    [
        "name: A\nsteps: [{stop: {}}]",
        "name: a",
        "name: a\nsteps: [{stop: {staus: failed}}]",
        "name: a\nsteps: [{run_shel: {script: x}}]",
        "name: a\nsteps: [{run_shell: {scrip: x}}]",
        "name: a\nmode: singl\nsteps: [{stop: {}}]",
        "name: a\nsteps: [{choose: [{otherwise: [{stop: {}}], when: a}]}]",
    ],
)
def test_the_editors_schema_does_not_take_what_is_plainly_wrong(text: str) -> None:
    schema = schema_of(BUILT_IN_MODELS)
    assert not takes(schema, documents(text)[0].value, schema["$defs"])
