"""Spans of time as definitions write them: `30s`, `1h30m`, `2d`. Pure."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema
from ringfence.spans import WHAT, seconds_of, span_of

MAX_SPAN_SECONDS = 366 * 86400.0
"""The longest span: a year."""


def _read(given: object) -> float:
    if not isinstance(given, str):
        raise ValueError(f"must be {WHAT}: a number alone has no unit")
    return seconds_of(given)


def _bounded(seconds: float) -> float:
    if seconds > MAX_SPAN_SECONDS:
        raise ValueError("must be at most a year (366d)")
    return seconds


_JSON_SCHEMA = WithJsonSchema({"type": "string", "examples": ["30s", "1h30m"]})
Pause = Annotated[
    float,
    BeforeValidator(_read),
    AfterValidator(_bounded),
    PlainSerializer(span_of, return_type=str),
    _JSON_SCHEMA,
]
"""A span that may be nothing, in seconds."""
Span = Annotated[
    float,
    BeforeValidator(_read),
    AfterValidator(_bounded),
    Field(gt=0),
    PlainSerializer(span_of, return_type=str),
    _JSON_SCHEMA,
]
"""A span of time, in seconds."""
