"""Spans of time as people write them, the same everywhere: `30s`, `5m`, `1h30m`, `2d`. Pure."""

from __future__ import annotations

import re

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
WHAT = "a span of time, such as 30s, 5m, 1h30m or 2d"
"""What it is called where it is missing."""
_PART = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*(ms|[smhdw])", re.ASCII)
_SPAN = re.compile(rf"(?:{_PART.pattern}\s*)+", re.ASCII)
_WRITTEN = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))


def seconds_of(text: str) -> float:
    """The seconds of a span. Raises `ValueError`: it says "must be a span of time, such as …"."""
    if _SPAN.fullmatch(text.strip()) is None:
        raise ValueError(f"must be {WHAT}")
    return sum(float(number) * UNITS[unit] for number, unit in _PART.findall(text))


def span_of(seconds: float) -> str:
    """The span of so many seconds, in the largest units that it is made of, without weeks."""
    left = round(seconds * 1000)
    parts = []
    for unit, milliseconds in _WRITTEN:
        number, left = divmod(left, milliseconds)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0s"
