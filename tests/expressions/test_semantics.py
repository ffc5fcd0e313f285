"""What expressions come to: by a table, which Google's own implementation of the language agrees with."""

from __future__ import annotations

import base64
import math
from typing import Any

import pytest
from cel_expr_python import cel
from ringfence.expressions import Expression, ExpressionError, Schema

from tests.expressions.cases import CASES, ERROR, OURS, VALUES

UNKNOWN = {name: Schema.anything() for name in VALUES}


def outcome(text: str) -> Any:
    try:
        return Expression.parse(text, UNKNOWN).evaluate(VALUES)
    except ExpressionError:
        return ERROR


@pytest.mark.parametrize(("text", "expected"), [*CASES, *OURS], ids=lambda one: str(one)[:50])
def test_an_expression_comes_to_what_the_language_says(text: str, expected: Any) -> None:
    found = outcome(text)
    assert (found, type(found)) == (expected, type(expected))


def reference(text: str) -> Any:
    environment = cel.NewEnv(variables={name: cel.Type("dyn") for name in VALUES})
    try:
        value = environment.compile(text).eval(data=VALUES)
        if value.type().name() == "ERROR":
            return ERROR
        return plain(value.plain_value())
    except RuntimeError:
        return ERROR


def plain(value: Any) -> Any:
    """What the reference came to as JSON, as far as the cases need it."""
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return ERROR
    return value


@pytest.mark.parametrize(("text", "expected"), CASES, ids=lambda one: str(one)[:50])
def test_the_reference_agrees(text: str, expected: Any) -> None:
    assert reference(text) == expected
