"""How texts of YAML 1.2 and JSON are read: what they mean, where things stand, and what is not taken."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from ringfence.documents.reading import MAX_CHARACTERS, NotReadableError, documents


def value(text: str) -> Any:
    [document] = documents(text)
    return document.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("on: here", {"on": "here"}),
        ("a: on", {"a": "on"}),
        ("a: yes", {"a": "yes"}),
        ("a: NO", {"a": "NO"}),
        ("a: true", {"a": True}),
        ("a: False", {"a": False}),
        ("a: null", {"a": None}),
        ("a: ~", {"a": None}),
        ("a:", {"a": None}),
        ("a: 12", {"a": 12}),
        ("a: -12", {"a": -12}),
        ("a: 0o17", {"a": 15}),
        ("a: 017", {"a": 17}),
        ("a: 0x1F", {"a": 31}),
        ("a: 1_000", {"a": "1_000"}),
        ("a: 12:30:45", {"a": "12:30:45"}),
        ("a: 1e3", {"a": 1000.0}),
        ("a: .5", {"a": 0.5}),
        ("a: 1.5", {"a": 1.5}),
        ("a: 2024-01-01", {"a": "2024-01-01"}),
        ("a: '12'", {"a": "12"}),
        ('a: "true"', {"a": "true"}),
        ("1: a", {"1": "a"}),
        ("a: =", {"a": "="}),
        ("<<: a", {"<<": "a"}),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
        ("a: >-\n  x\n  y\n", {"a": "x y"}),
        ("a: [1, {b: c}]", {"a": [1, {"b": "c"}]}),
        ("- 1\n- a", [1, "a"]),
        ("\ufeffa: 1", {"a": 1}),
        # What a text of one line is can mean only one thing, also where other readers refuse it.
        ('run: curl -H "Accept: text/plain" it\'s', {"run": 'curl -H "Accept: text/plain" it\'s'}),
        ("- run: a: b # c\n- x", [{"run": "a: b"}, "x"]),
        ('{"a": "\\ud83d\\ude00", "b":\t[1, 2.5e3, null, true]}', {"a": "😀", "b": [1, 2500.0, None, True]}),
        ('{"a": "\\\\ud83d\\\\ude00"}', {"a": "\\ud83d\\ude00"}),
        ('{"a": "\\/"}', {"a": "/"}),
    ],
)
def test_values_are_those_of_the_core_schema(text: str, expected: Any) -> None:
    found = value(text)
    assert (found, json.dumps(found)) == (expected, json.dumps(expected))


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a: 1\nb: 2\na: 3", (3, 1), "a is there twice; see line 1"),
        ("a: {b: 1, b: 2}", (1, 11), "b is there twice"),
        ('{"a": 1, "a": 2}', (1, 10), "a is there twice"),
        ("a: &x 1", (1, 4), "anchors and aliases are not taken"),
        ("a: [&x [1], *x]", (1, 5), "anchors and aliases are not taken"),
        ("a: !!python/object:os.system x", (1, 4), "tags are not taken"),
        ("a: !!str 1", (1, 4), "tags are not taken"),
        ("? [a]\n: 1", (1, 3), "a key must be a text"),
        ("a: .inf", (1, 4), "is a number that JSON does not have"),
        ("a: 1e999", (1, 4), "is a number that JSON does not have"),
        ("a: [1", (2, 1), "this is no YAML"),
        ("a: 'x", (1, 6), "this is no YAML"),
        ("a: 1\nb: x\u2028y", (2, 5), "this holds U+2028"),
        ("\ta: 1", (1, 1), "this is no YAML"),
        ("[" * 100 + "]" * 100, (1, 61), "nested more than 60 deep"),
        ("[" * 100_000, (1, 1001), "nesting depth"),
        ("a: [" + "1, " * 20_000 + "1]", (1, 59_999), "more than 20000 values"),
        ("a\n---\n" * 101, (200, 1), "more than 100 documents"),
        ("a" * (MAX_CHARACTERS + 1), (1, 1), "the text is longer"),
        ("a: \0", (1, 1), "NUL"),
        ('a: "b\\0"', (1, 4), "NUL"),
        ('{"a": [{"b\\u0000": 1}]}', (1, 9), "NUL"),
        ("a: \ud800", (1, 1), "surrogate"),
        ('{"a": "\\ud800"}', (1, 10), "this is no YAML"),
    ],
)
def test_what_is_not_taken_is_told_with_its_place(text: str, place: tuple[int, int], message: str) -> None:
    with pytest.raises(NotReadableError) as error:
        documents(text)
    [finding] = error.value.findings
    assert message in finding.message
    assert (finding.line, finding.column) == place


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(NotReadableError) as error:
        documents("a: 1\na: 2\nb: .nan\nc: {d: 1, d: 2}\n")
    assert [(one.line, one.path) for one in error.value.findings] == [(2, "a"), (3, "b"), (4, "c.d")]


def test_many_texts_with_colons_are_read_in_the_time_of_a_few() -> None:
    many = "".join(f"a{number}: b: c\n" for number in range(150))
    assert len(value(many)) == 150
    with pytest.raises(NotReadableError, match="this is no YAML"):
        documents("".join(f"a{number}: b: c\n" for number in range(1000)))


def test_places_are_those_of_the_text() -> None:
    [first, second] = documents("a: 1\n---\n# x\nb:\n  - c: 'd e'\n    f: |\n        one\n        two\n")
    assert first.place(("a",)) == (1, 4)
    assert second.place(("b", 0, "c")) == (5, 8)
    assert second.place(("b", 0, "c"), at_key=True) == (5, 5)
    assert second.place(("b", 0, "nothing", 3)) == (5, 5)
    assert second.place_within(("b", 0, "c"), 1, 3) == (5, 11)
    assert second.place_within(("b", 0, "f"), 2, 2) == (8, 10)


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def read(text: str) -> Any:
    """The values in a text, or the findings that say why it is not read."""
    try:
        return [one.value for one in documents(text)]
    except NotReadableError as error:
        return error.findings


@settings(max_examples=200, deadline=None)
@given(VALUES, st.booleans(), st.sampled_from([None, 2]))
def test_json_is_read_as_json(document: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps({"a": document}, ensure_ascii=ascii_only, indent=indent)
    assert read(text) == [{"a": document}]


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab:-?[]{}&*!|>'\"%@`#,\n\t 01.~\\é", max_size=60))
def test_nothing_but_one_error_comes_out(text: str) -> None:
    found = read(text)
    if isinstance(found, list):
        json.dumps(found, allow_nan=False)
    else:
        assert all(one.line >= 1 and one.column >= 1 for one in found)


def test_a_text_is_not_read_again_and_again_for_what_can_be_mended_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each mended line has all before it read once more: of a large text, that is done a few times and no more."""
    times = 0
    parse = yaml.parse

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal times
        times += 1
        return parse(*arguments, **named)

    monkeypatch.setattr(yaml, "parse", counted)
    many = "\n".join(f"q{number}: a: b" for number in range(150))
    assert len(documents(many)) == 1
    assert times == 151
    times = 0
    with pytest.raises(NotReadableError, match="this is no YAML"):
        documents("#" * (MAX_CHARACTERS // 2) + "\n" + many)
    assert times < 8
