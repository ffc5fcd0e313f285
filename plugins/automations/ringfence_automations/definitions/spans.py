"""Spans of time as definitions write them: `30s`, `1h30m`, `2d`. Pure."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
MAX_SPAN_SECONDS = 366 * 86400.0
"""The longest span: a year."""
_PART = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|d)", re.ASCII)
_SPAN = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)


def seconds_of(text: str) -> float:
    """The seconds of a span. Raises `ValueError`."""
    if _SPAN.fullmatch(text) is None:
        raise ValueError("must be a span of time, such as 30s, 5m, 1h30m or 2d")
    return sum(float(number) * UNITS[unit] for number, unit in _PART.findall(text))


def span_of(seconds: float) -> str:
    """The span of so many seconds, in the largest units that it is made of."""
    left = round(seconds * 1000)
    parts = []
    for unit, milliseconds in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        number, left = divmod(left, milliseconds)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0s"


def _read(given: object) -> float:
    if not isinstance(given, str):
        raise ValueError("must be a span of time, such as 30s, 5m, 1h30m or 2d: a number alone has no unit")
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
