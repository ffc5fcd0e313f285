"""What is told of an expression when it is written, by what is known of the names in it."""

from __future__ import annotations

import enum
from typing import Literal

import pytest
from pydantic import BaseModel, Field
from ringfence.expressions import (
    Expression,
    ExpressionError,
    LimitError,
    MissingError,
    Returns,
    Schema,
    Template,
)


class Health(enum.StrEnum):
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


class Place(BaseModel):
    name: str | None
    size: float
    kind: Literal["core", "satellite"]
    inner: list[Place] = []


class Event(BaseModel):
    status: Health
    before: Health | None = None
    labels: dict[str, str]
    places: list[Place]
    count: int
    either: int | str
    place: Place = Field(alias="at")


SCOPE = {
    "event": Schema.of_model(Event),
    "anything": Schema.anything(),
    "optional": Schema.record({"a": Schema.text()}, optional=["a"]),
}


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        (
            'event.status == "unhealty"',
            (1, 17),
            'event.status is never "unhealty": did you mean unhealthy? (it is',
        ),
        (
            'event.before != "sick"',
            (1, 17),
            'event.before is never "sick" (it is one of "healthy", "unhealthy")',
        ),
        ('"sick" == event.status', (1, 1), 'event.status is never "sick"'),
        ('event.status in ["healthy", "sick"]', (1, 29), 'event.status is never "sick"'),
        ('event.places.exists(p, p.kind == "cor")', (1, 34), 'p.kind is never "cor": did you mean core?'),
        ("event.statu == 1", (1, 1), "event has no field statu: did you mean status?"),
        ("evnt.status", (1, 1), "evnt is not known here: did you mean event?"),
        ("event.at.nam", (1, 1), "event.at has no field nam: did you mean name?"),
        ("event.place", (1, 1), "event has no field place: did you mean places?"),
        ("event.places[0].inner[0].inner[0].nam == null", (1, 1), "has no field nam: did you mean name?"),
        ('event["statu"]', (1, 1), "event has no field statu"),
        ("has(event.statu)", (1, 1), "event has no field statu"),
        ("event.count == 'a'", (1, 1), "event.count is int, and 'a' is string: these are never equal"),
        ("event.count in ['a']", (1, 17), "these are never equal"),
        ("event.count + 'a'", (1, 13), "int + string is not possible: write string(…) around the other"),
        ("event.count + 0.5", (1, 13), "int + double is not possible: write double(…) around the other"),
        ("event.count.startsWith('a')", (1, 1), "startsWith is not for int"),
        ("event.count.foo", (1, 1), "event.count is int, which has no fields"),
        ("event.count[0]", (1, 1), "event.count is int, which has no elements"),
        ("event.places['a']", (1, 1), "event.places has nothing by a key that is string"),
        ("event.labels.all(k, k == 1)\n ||\n true && event.count", (3, 10), "event.count is int: && needs"),
        ("event.count ? 1 : 2", (1, 1), "event.count is int: ? needs something that is true or false"),
        ("event.count.map(x, x)", (1, 1), "event.count is int: map needs a list or a map"),
        ("event.places.map(p, p.nam)", (1, 21), "p has no field nam"),
        ("event.places.filter(p, p.size)", (1, 24), "p.size is double: filter needs"),
        ("startWith(event.status)", (1, 1), "there is no function startWith"),
        ("event.status.startWith('a')", (1, 1), "there is no function startWith: did you mean startsWith?"),
        ("event.status.startsWith()", (1, 1), "startsWith takes 1 arguments"),
        ("event.status.matches('(')", (1, 22), "'(' is no pattern that RE2 takes"),
        ("!event.count", (1, 1), "! is not for int"),
        ("event.status = 'a'", (1, 14), "'=' means nothing here: write == to compare"),
        ("event.status and true", (1, 14), "write && for and"),
        ("event.count == 1 &", (1, 18), "'&' means nothing here: write && for and"),
        ("event.count == 1 &&\n", (2, 1), "the expression ends too early: a value is missing"),
        ("while", (1, 1), "while is a word that cannot be a name"),
        ('event{status: "a"}', (1, 6), "there are no messages here"),
        ("[1].map(1, 2)", (1, 9), "map takes the name of a variable first"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, place: tuple[int, int], message: str) -> None:
    with pytest.raises(ExpressionError) as error:
        Expression.parse(text, SCOPE)
    assert message in error.value.message
    assert (error.value.line, error.value.column) == place


@pytest.mark.parametrize(
    "text",
    [
        'event.status == "unhealthy"',
        "event.before == null",
        'event.before == "healthy"',
        'event.either == 1 || event.either == "a"',
        "event.at.size + 1.0 > 0.5",
        "event.at.size > 1",
        'event.labels["a-b"] == "c"',
        'event.labels.env.startsWith("p")',
        'event.at.name.startsWith("p")',
        "event.places[0].inner.all(p, p.inner.size() == 0)",
        "anything.a.b[0].startsWith('x') && anything > 1",
        "event.status in anything",
        "optional.a == 'x'",
        "event.count == 1.0",
        "event.places.map(p, p.name)[0] == null",
    ],
)
def test_what_fits_is_taken(text: str) -> None:
    Expression.parse(text, SCOPE, "bool")


@pytest.mark.parametrize(
    ("text", "returns", "message"),
    [
        ("event.status", "bool", 'this is "healthy" or "unhealthy", and must be true or false'),
        ("event.count", "list", "this is int, and must be a list"),
        ("event.count", "text", "this is int, and must be a text"),
        ("event.places.map(p, p.size)", "bool", "this is list of double, and must be true or false"),
    ],
)
def test_what_an_expression_must_come_to_is_looked_at(text: str, returns: Returns, message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        Expression.parse(text, SCOPE, returns)


def test_what_is_not_known_is_looked_at_when_it_is_evaluated() -> None:
    condition = Expression.parse("anything", SCOPE, "bool")
    assert condition.evaluate({"anything": True}) is True
    with pytest.raises(ExpressionError, match="this is string, and must be true or false"):
        condition.evaluate({"anything": "yes"})


def test_a_filter_that_asks_for_what_is_not_there_does_not_match() -> None:
    env = Expression.parse('event.labels.env == "prod"', SCOPE, "bool")
    assert env.matches({"event": {"labels": {"env": "prod"}}})
    assert not env.matches({"event": {"labels": {}}})
    with pytest.raises(MissingError, match=r"event\.labels has no env"):
        env.evaluate({"event": {"labels": {}}})
    with pytest.raises(ExpressionError, match="event is null, which has no fields"):
        env.matches({"event": None})


def test_a_fraction_is_one_also_where_json_has_a_whole_number() -> None:
    sum_of = Expression.parse("event.at.size + 0.5", SCOPE)
    assert sum_of.evaluate({"event": {"at": {"size": 2}}}) == 2.5
    each = Expression.parse("event.places.map(p, p.size / 2.0)", SCOPE)
    assert each.evaluate({"event": {"places": [{"size": 1}, {"size": 0.5}]}}) == [0.5, 0.25]


def test_what_an_expression_uses_is_known() -> None:
    used = Expression.parse(
        "event.at.name == 'x' && anything.all(event, event.a) && has(optional.a)", SCOPE
    ).used
    assert used == {
        ("event",),
        ("event", "at"),
        ("event", "at", "name"),
        ("anything",),
        ("optional",),
        ("optional", "a"),
    }
    assert Template.parse("{{ event.count }} {{ anything }}", SCOPE).used >= {
        ("event", "count"),
        ("anything",),
    }


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("plain", "plain"),
        ("", ""),
        ("{ } {} }} {a}", "{ } {} }} {a}"),
        ("a {{ x }} b", "a 1 b"),
        ("{{x}}{{ x }}", "11"),
        ('{{ "{{" }} and {{ "}}" }}', "{{ and }}"),
        ('{{ {"a": {"b": [1, null, 2.0, "é"]}} }}', '{"a":{"b":[1,null,2.0,"é"]}}'),
        ('{{ {"a": {}}}}', '{"a":{}}'),
        ("{{ null }}|{{ true }}|{{ 1.5 }}|{{ 2.0 }}|{{ [1] }}", "|true|1.5|2|[1]"),
        ('{{ timestamp("2024-01-01T00:00:00Z") }} {{ duration("90s") }}', "2024-01-01T00:00:00Z 90s"),
        ("one\n{{ x\n + x }}\nthree", "one\n2\nthree"),
    ],
)
def test_a_text_is_filled_in(text: str, rendered: str) -> None:
    template = Template.parse(text, {"x": Schema.anything()})
    assert template.render({"x": 1}) == rendered
    assert template.is_plain == (rendered == text)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a {{ y }}", (1, 6), "y is not known here"),
        ("a\n b {{ x + }}", (2, 11), "a value is missing"),
        ("a {{ x", (1, 7), "the expression ends too early: }} is missing"),
        ("a {{ x } }", (1, 8), "} cannot stand here: }} is missing"),
        ("a {{ }}", (1, 6), "} cannot stand here: a value is missing"),
        ("{{ x }} {{ 'a }}", (1, 12), "the text that begins here has no ' at its end"),
    ],
)
def test_what_is_wrong_in_a_text_is_told_with_its_place(
    text: str, place: tuple[int, int], message: str
) -> None:
    with pytest.raises(ExpressionError) as error:
        Template.parse(text, {"x": Schema.anything()})
    assert message in error.value.message
    assert (error.value.line, error.value.column) == place


def test_what_is_filled_in_is_no_template_and_many_share_one_bound() -> None:
    template = Template.parse("{{ x }}", {"x": Schema.anything()})
    assert template.render({"x": "{{ x }}"}) == "{{ x }}"
    many = Template.parse("{{ x }}" * 100, {"x": Schema.anything()})
    with pytest.raises(LimitError):
        many.render({"x": "a" * 100_000})
    with pytest.raises(LimitError, match="at most 100 expressions"):
        Template.parse("{{ x }}" * 101, {"x": Schema.anything()})


def test_a_schema_says_what_it_holds() -> None:
    described = {name: schema.describe() for name, schema in SCOPE["event"].fields.items()}
    assert described == {
        "status": '"healthy" or "unhealthy"',
        "before": '"healthy" or "unhealthy" or null',
        "labels": "map",
        "places": "list",
        "count": "int",
        "either": "int or string",
        "at": "map",
    }
