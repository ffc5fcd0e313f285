"""Selectors: what they mean by an independent reading, and what is said of a text that is none."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from ringfence.testing import client
from ringfence_satellite.service import Selector, SelectorError, SelectorText

from tests.satellite.instances import SATELLITES, Instance
from tests.shared_hosts import SHARED

Labels = dict[str, str]

keys = st.sampled_from(["a", "in", "notin", "example.org/b-c"])
values = st.sampled_from(["", "x", "y.z", "in", "notin"])
labels = st.dictionaries(keys, values)
spaces = st.text(" \t", max_size=2)


# An independent reading: commas outside of parentheses part what each pattern knows as a whole.

DNS = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
KEY = rf"(?P<key>(?:{DNS}(?:\.{DNS})*/)?[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?)"
VALUE = r"(?:[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?)?"
READINGS: list[tuple[str, Callable[[Labels, str, list[str]], bool]]] = [
    (KEY, lambda found, key, _: key in found),
    (rf"!\s*{KEY}", lambda found, key, _: key not in found),
    (rf"{KEY}\s*==?\s*(?P<one>{VALUE})", lambda found, key, one: key in found and found[key] == one[0]),
    (rf"{KEY}\s*!=\s*(?P<one>{VALUE})", lambda found, key, one: key not in found or found[key] != one[0]),
    (
        rf"{KEY}\s+in\s*\((?P<list>(?!\s*\))\s*{VALUE}\s*(?:,\s*{VALUE}\s*)*)\)",
        lambda found, key, some: key in found and found[key] in some,
    ),
    (
        rf"{KEY}\s+notin\s*\((?P<list>(?!\s*\))\s*{VALUE}\s*(?:,\s*{VALUE}\s*)*)\)",
        lambda found, key, some: key not in found or found[key] not in some,
    ),
]


def means(text: str, found: Labels) -> bool | None:
    """Whether what carries the labels is meant; None if the text is no selector."""
    verdicts = []
    for part in re.split(r",(?![^(]*\))", text):
        for pattern, holds in READINGS:
            if (match := re.fullmatch(pattern, part.strip())) is not None:
                groups = match.groupdict()
                listed = groups.get("list")
                some = [groups.get("one") or ""] if listed is None else [v.strip() for v in listed.split(",")]
                verdicts.append(holds(found, match["key"], some))
                break
        else:
            return None
    return all(verdicts)


def read(text: str, found: Labels) -> bool | None:
    try:
        return Selector.parse(text).matches(found)
    except SelectorError:
        return None


@st.composite
def selectors(draw: st.DrawFn) -> str:
    def requirement() -> str:
        key, space = draw(keys), draw(spaces)
        match draw(st.sampled_from(["key", "!", "=", "==", "!=", "in", "notin"])):
            case "key":
                return f"{space}{key}{space}"
            case "!":
                return f"!{space}{key}"
            case "in" | "notin" as operator:
                some = draw(st.lists(values, min_size=1, max_size=3).filter(lambda found: found != [""]))
                return f"{key} {space}{operator}{space}({f'{space},{space}'.join(some)}{space})"
            case operator:
                return f"{key}{space}{operator}{space}{draw(values)}"

    return ",".join(requirement() for _ in range(draw(st.integers(1, 3))))


@given(selectors(), labels)
def test_a_selector_means_what_it_says(text: str, found: Labels) -> None:
    assert read(text, found) == means(text, found)
    assert read(text, found) is not None


@pytest.mark.parametrize("text", ["a=", "a==", "a = ", "a in (,)", "a in ( , )", "a!=", "a notin (,)"])
def test_a_value_that_is_left_out_is_empty(text: str) -> None:
    is_excluded = "!" in text or "not" in text
    for found in ({"a": ""}, {"a": "x"}, {}):
        is_empty = found.get("a") == ""
        assert read(text, found) == means(text, found) == (is_empty != is_excluded), found


@settings(max_examples=500)
@given(selectors(), st.data(), labels)
def test_a_text_with_something_put_in_or_left_out_is_read_the_same_or_refused_as_well(
    text: str, data: st.DataObject, found: Labels
) -> None:
    at = data.draw(st.integers(0, len(text)))
    put = data.draw(st.sampled_from(["", " ", ",", "=", "!", "(", ")", "a", "-", "in", " in (", "é", "<"]))
    text = text[:at] + put + text[at + data.draw(st.integers(0, 2)) :]
    assert read(text, found) == means(text, found), text


@given(st.text(max_size=30))
def test_any_text_is_a_selector_or_is_refused_at_one_of_its_characters(text: str) -> None:
    at = None
    try:
        Selector.parse(text)
    except SelectorError as error:
        at = error.at
    assert at is None or 1 <= at <= len(text) + 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at character 1: expected a label's name, and this is the end"),
        ("a=b,", "at character 5: expected a label's name, and this is the end"),
        ("a b", "at character 3: expected =, ==, !=, in, notin or a comma, and not 'b'"),
        ("a>1", "at character 2: expected =, ==, !=, in, notin or a comma, and not '>'"),
        ("!a=b", "at character 3: expected a comma or the end, and not '='"),
        ("a in b", "at character 6: expected (, and not 'b'"),
        ("a in ()", "at character 7: expected a value between the parentheses"),
        ("a in (b", "at character 8: expected a comma or ), and this is the end"),
        ("a in (b c)", "at character 9: expected a comma or ), and not 'c'"),
        ("a,,b", "at character 3: expected a label's name, and not ','"),
        ("x=y,-a", "at character 5: '-a' is no label's name: at most 63 letters"),
        ("a=b/c", "at character 3: 'b/c' is no label's value: at most 63 letters"),
        ("Example.org/a", "at character 1: the part before the slash of 'Example.org/a' must be a DNS name"),
        ("a" * 1001, "at character 1001: a selector has at most 1000 characters"),
    ],
)
def test_what_is_wrong_is_said_with_where_it_is(text: str, message: str) -> None:
    with pytest.raises(SelectorError) as error:
        Selector.parse(text)
    assert str(error.value).startswith(message)


def test_only_what_requires_a_label_needs_one() -> None:
    assert [Selector.parse(text).needs_label for text in ("a", "a=", "a in (b)", "!a,b", "!a", "a!=b")] == [
        True,
        True,
        True,
        True,
        False,
        False,
    ]


def test_in_a_model_it_is_a_text() -> None:
    adapter: TypeAdapter[Selector] = TypeAdapter(SelectorText)
    read = adapter.validate_python("  a = b ")
    assert adapter.dump_python(read, mode="json") == "a = b"
    assert adapter.validate_python(read) is read
    for wrong in ("", "a in", 1, None, ["a"]):
        with pytest.raises(ValidationError):
            adapter.validate_python(wrong)


# Over the API ------------------------------------------------------------------------------------


async def listed(instance: Instance, selector: str, **params: str | int) -> list[str]:
    answer = await instance.api.get(SATELLITES, params={"selector": selector, **params})
    assert answer.status_code == 200, answer.text
    return [one["name"] for one in answer.json()["satellites"]]


@SHARED
async def test_satellites_are_listed_and_found_by_a_selector(instance: Instance) -> None:
    await instance.register("bare")
    await instance.register("old", tags=["region=eu", "web"])
    await instance.register("web", labels={"region": "eu", "role": "web"})
    await instance.register("api", labels={"region": "us", "role": "api"})
    for selector, expected in {
        "region=eu": ["old", "web"],
        "region in (eu, us),role": ["api", "web"],
        "web": ["old"],
        "web=": ["old"],
        "role!=web": ["api", "bare", "old"],
        "!role,!web": ["bare"],
        "role notin (web, api),region=eu": ["old"],
        "region=asia": [],
    }.items():
        assert await listed(instance, selector) == expected, selector
        found = await instance.plugin.find(selector=Selector.parse(selector))
        assert [one.name for one in found] == expected, selector
    assert await listed(instance, "role!=web", limit=1) == ["api"]
    assert await listed(instance, "role!=web", limit=1, after="api") == ["bare"]
    assert [
        one.name for one in await instance.plugin.find(tags=["web"], selector=Selector.parse("role=api"))
    ] == ["api", "old"]


@SHARED
async def test_a_selector_shows_nobody_what_they_may_not_see(instance: Instance) -> None:
    await instance.register("dev", labels={"env": "dev", "role": "web"})
    await instance.register("prod", labels={"env": "prod", "role": "web"})
    async with client(instance.host, rules=["satellite.satellite.read on env=dev"]) as http:
        answer = await http.get(SATELLITES, params={"selector": "role=web"})
    assert [one["name"] for one in answer.json()["satellites"]] == ["dev"]


@SHARED
async def test_what_is_no_selector_is_refused(instance: Instance) -> None:
    for selector in ("", "a in", "a=\0", "a" * 1001):
        answer = await instance.api.get(SATELLITES, params={"selector": selector})
        assert answer.status_code == 422, selector
        assert "at character" in answer.text
