"""Whatever is written, reading and evaluating it ends soon, and fails in one way only."""

from __future__ import annotations

import json
import string
import sys
from typing import Any

import pytest
from cel_expr_python import cel
from hypothesis import given, settings
from hypothesis import strategies as st
from ringfence.expressions import Expression, ExpressionError, LimitError, Schema, Template

from tests.expressions.cases import CASES, OURS, VALUES

UNKNOWN = {name: Schema.anything() for name in (*VALUES, "long", "big", "many", "deep")}
DEEP: Any = []
for _ in range(5000):
    DEEP = [DEEP]
LARGE = {
    **VALUES,
    "long": "a" * 1_000_000,
    "big": list(range(1000)),
    "many": [{"a": "x" * 100}] * 1000,
    "deep": DEEP,
}


@pytest.mark.parametrize(
    "text",
    [
        # Each of these would take hours, or more memory than there is.
        "big.map(x, big.map(y, big.map(z, 1)))",
        "big.all(x, big.all(y, big.all(z, true)))",
        "big.exists(x, big.exists(y, big.exists(z, false)))",
        "big.map(x, many)",
        "many.map(x, many.map(y, many))",
        "big.map(x, long)",
        "big.map(x, long + long)",
        "long + long + long + long + long + long + long + long + long + long",
        'long.replace("a", long)',
        'long.replace("", long)',
        'long.split("")',
        'big.map(x, long.split("a"))',
        "big.map(x, string(x)).map(x, big.map(y, x + x)).map(z, z.join(long))",
        "[long].map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a)",
        "[big].map(a, [a, a, a, a]).map(a, [a, a, a, a]).map(a, [a, a, a, a]).map(a, [a, a, a, a])",
        "big.map(x, big + big)",
        "big.all(x, many == many)",
        "big.all(x, !(-1 in big))",
        "big.all(x, long in [long + string(x), long])",
        'big.all(x, !long.contains("b"))',
        'big.all(x, !long.matches("(a*)*b"))',
        'big.all(x, !long.matches("(a|aa)*" + string(x) + "b{20}"))',
        "big.all(x, long.upperAscii() != long)",
        "big.all(x, long < long + string(x))",
        "big.all(x, size(long + string(x)) > 0)",
        "big.all(x, size(big + [x]) > 0)",
    ],
)
def test_what_takes_too_much_is_ended(text: str) -> None:
    # By what it would do, and not by how fast this machine is.
    with pytest.raises(LimitError, match="takes too many steps"):
        Expression.parse(text, UNKNOWN).evaluate(LARGE)
    with pytest.raises(LimitError, match="takes too many steps"):
        Template.parse(f"a {{{{ {text} }}}} b", UNKNOWN).render(LARGE)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 5000 + "1" + ")" * 5000,
        "[" * 5000,
        "{" * 5000,
        "!" * 5000 + "true",
        "-" * 5000 + "n",
        "n" + ".a" * 5000,
        "n" + "[0]" * 5000,
        "true ? " * 2000 + "1",
        "has(" * 3000,
        "f(" * 5000,
        "l.map(x, " * 1000,
        '"' + "\\n" * 7000,
        '"' + "\\x41" * 3000,
        '"""' + "\\n" * 7000,
        "'''" + "''" * 7000,
        "1" * 15_000,
        "0x" + "f" * 15_000,
        "1e" + "9" * 15_000,
        "//" * 8000,
        " " * 15_999 + "(",
        "`" + "a" * 15_000,
        "a" * 16_001,
        "n == n == " * 1000 + "n",
        "\0",
        "\ud800",
        '"\ud800" == t',
        '"\ud800".matches("a")',
        '"a".matches("\ud800")',
        'bytes("\ud800")',
    ],
)
def test_a_hostile_text_is_refused_when_it_is_read_or_evaluated(text: str) -> None:
    for make, marked in ((Expression.parse, text), (Template.parse, f"{{{{{text}}}}}")):
        outcome(make, marked, VALUES)


def outcome(make: Any, text: str, values: Any) -> Any:
    """What is made of it, or the error, whose place is in the text."""
    try:
        made = make(text, UNKNOWN)
        return made.evaluate(values) if isinstance(made, Expression) else made.render(values)
    except ExpressionError as error:
        failed = error
    lines = text.split("\n")
    assert failed.message
    assert 1 <= failed.line <= len(lines)
    assert 1 <= failed.column <= len(lines[failed.line - 1]) + 1
    return failed


@pytest.mark.parametrize("text", ["1" + " + 1" * 3000, "true" + " && true" * 1900, "[" + "1, " * 4000 + "1]"])
def test_what_is_long_and_not_deep_is_evaluated(text: str) -> None:
    assert Expression.parse(text, {}).evaluate({}) is not None


def test_what_is_nested_deep_in_a_value_is_an_error_and_no_crash() -> None:
    for text in ("deep", "deep == deep", "deep in [deep]", "string(deep)"):
        try:
            Expression.parse(text, UNKNOWN).evaluate(LARGE)
        except ExpressionError:
            continue
        pytest.fail(text)


@pytest.mark.parametrize("text", [r'"a\000b"', r'["\x00"]', r'{"\u0000": 1}'])
def test_no_text_comes_out_that_nobody_could_store(text: str) -> None:
    """Whoever writes down what it comes to would fail, and again whenever that is tried again."""
    for make, marked in ((Expression.parse, text), (Template.parse, f"a {{{{ {text} }}}}")):
        failed = outcome(make, marked, VALUES)
        assert isinstance(failed, ExpressionError), failed
    assert Expression.parse(r'"\x00" == "\u0000"', {}).evaluate({}) is True


@pytest.mark.parametrize("text", ["huge", "[huge]", "huge.list[0]", "huge.list", "huge.list[0] + 1.0"])
def test_a_number_beyond_all_fractions_is_an_error_wherever_it_is(text: str) -> None:
    values = {"huge": {"list": [10**5000, -(10**400)]}}
    for make, marked in ((Expression.parse, text), (Template.parse, f"a {{{{ [{text}] }}}}")):
        try:
            made = make(marked, {"huge": Schema.anything()})
            made.evaluate(values) if isinstance(made, Expression) else made.render(values)
        except ExpressionError:
            continue
        pytest.fail(marked)


def test_the_process_keeps_its_own_limits() -> None:
    before = sys.getrecursionlimit()
    Expression.parse("1", {}).evaluate({})
    assert sys.getrecursionlimit() == before


WORDS = [text for text, _ in [*CASES, *OURS]]
PIECES = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from(
        [*"()[]{}.,?:+-*/%!<>=&|\"'`\\ \n", "&&", "||", "==", "in", "map", "has", "{{", "}}", "//", '"""']
    ),
    st.text(alphabet=string.printable + "é😀\0\ud800", max_size=6),
)
VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=12).map("".join), VALUE)
def test_nothing_but_an_expression_error_comes_out(text: str, value: Any) -> None:
    values = dict.fromkeys(UNKNOWN, value)
    for make in (Expression.parse, Template.parse):
        found = outcome(make, text, values)
        if not isinstance(found, ExpressionError):
            json.dumps(found, allow_nan=False)


NUMBER = st.one_of(
    st.integers(-3, 3).map(lambda one: f"dyn({one})"),
    st.sampled_from(["n", "f", "dyn(1.0)", "dyn(2u)", "l[0]", "size(l)", "m.a"]),
)
TEXT = st.sampled_from(['dyn("a")', 'dyn("")', "t", "m.from", 'dyn("ab")', 'string(dyn("a"))'])
LIST = st.sampled_from(["l", "dyn([])", "m.b.c", "dyn([1, 2.0, 3u])", 'dyn(["a", null])', "[n, f]"])
LEAF = st.one_of(NUMBER, TEXT, LIST, st.sampled_from(["true", "false", "dyn(null)", "m", "m.zz", "m.none"]))


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(inner, inner)
    operators = ["==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "&&", "||", "in"]
    macros = ["all", "exists", "exists_one", "filter", "map"]
    return st.one_of(
        st.tuples(pair, st.sampled_from(operators)).map(
            lambda one: f"(dyn({one[0][0]}) {one[1]} dyn({one[0][1]}))"
        ),
        pair.map(lambda one: f"dyn([{one[0]}, {one[1]}])"),
        pair.map(lambda one: f'dyn({{"a": {one[0]}, "b": {one[1]}}})'),
        st.tuples(inner, inner, inner).map(lambda one: f"(dyn({one[0]}) ? dyn({one[1]}) : dyn({one[2]}))"),
        st.tuples(inner, st.sampled_from(macros), inner).map(
            lambda one: f"dyn({one[0]}).{one[1]}(x, dyn({one[2]}))"
        ),
        st.tuples(inner, st.sampled_from(["==", "<", ">"])).map(
            lambda one: f"l.filter(x, dyn(x) {one[1]} dyn({one[0]}))"
        ),
        inner.map(lambda one: f"(!dyn({one}))"),
        inner.map(lambda one: f"(-dyn({one}))"),
        inner.map(lambda one: f"size(dyn({one}))"),
        inner.map(lambda one: f"has(dyn({one}).a)"),
        pair.map(lambda one: f"dyn({one[0]})[dyn({one[1]})]"),
        pair.map(lambda one: f"dyn({one[0]}).contains(dyn({one[1]}))"),
    )


ENVIRONMENT = cel.NewEnv(variables={name: cel.Type("dyn") for name in VALUES})
FAILED = "failed"


def _ours(text: str) -> Any:
    try:
        return Expression.parse(text, UNKNOWN).evaluate(VALUES)
    except ExpressionError as error:
        # JSON has no number that is infinite; the language does.
        return "no JSON" if "JSON does not have" in error.message else FAILED


def _reference(text: str) -> Any:
    try:
        value = ENVIRONMENT.compile(text).eval(data=VALUES)
        return FAILED if value.type().name() == "ERROR" else value.plain_value()
    except RuntimeError:
        return FAILED


@settings(max_examples=400, deadline=None)
@given(st.recursive(LEAF, _grown, max_leaves=8))
def test_the_reference_comes_to_the_same(text: str) -> None:
    ours = _ours(text)
    if ours != "no JSON":
        assert (ours, text) == (_reference(text), text)
