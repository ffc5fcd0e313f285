"""What can be computed with times and spans of time. Pure: there is no clock in an expression."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from zoneinfo import ZoneInfo

from ringfence.expressions.computing.values import (
    DURATION,
    INT,
    STRING,
    TIMESTAMP,
    Duration,
    Timestamp,
    Value,
    checked_duration,
    checked_timestamp,
    duration_of,
    moment_of,
    timestamp_of,
)

_SECOND = 1_000_000_000
_OFFSET = re.compile(r"([+-]?)([0-9]{2}):([0-9]{2})")
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*")
_LONGEST_ZONE = 100

SUMS: tuple[tuple[str, str, str, str, Callable[..., Value]], ...] = (
    (TIMESTAMP, "+", DURATION, TIMESTAMP, lambda a, b: checked_timestamp(a.nanoseconds + b.nanoseconds)),
    (DURATION, "+", TIMESTAMP, TIMESTAMP, lambda a, b: checked_timestamp(a.nanoseconds + b.nanoseconds)),
    (TIMESTAMP, "-", DURATION, TIMESTAMP, lambda a, b: checked_timestamp(a.nanoseconds - b.nanoseconds)),
    (TIMESTAMP, "-", TIMESTAMP, DURATION, lambda a, b: checked_duration(a.nanoseconds - b.nanoseconds)),
    (DURATION, "+", DURATION, DURATION, lambda a, b: checked_duration(a.nanoseconds + b.nanoseconds)),
    (DURATION, "-", DURATION, DURATION, lambda a, b: checked_duration(a.nanoseconds - b.nanoseconds)),
)
"""Left, sign, right, what it gives, and how."""
CONVERSIONS: tuple[tuple[str, tuple[str, ...], str, Callable[..., Value]], ...] = (
    ("timestamp", (STRING,), TIMESTAMP, timestamp_of),
    ("timestamp", (INT,), TIMESTAMP, lambda seconds: checked_timestamp(seconds * _SECOND)),
    ("timestamp", (TIMESTAMP,), TIMESTAMP, lambda value: value),
    ("duration", (STRING,), DURATION, duration_of),
    ("duration", (DURATION,), DURATION, lambda value: value),
)
"""The name, what it takes and gives, and how."""


def _zone(name: str) -> dt.tzinfo:
    if (offset := _OFFSET.fullmatch(name)) is not None and int(offset[3]) < 60 and int(offset[2]) < 24:
        shift = dt.timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        return dt.timezone(-shift if offset[1] == "-" else shift)
    if len(name) <= _LONGEST_ZONE and _ZONE.fullmatch(name) is not None:
        try:
            return ZoneInfo(name)
        except (OSError, ValueError, LookupError):
            pass
    raise ValueError(f"is asked for in a time zone that is not known: {name[:40]!r}")


def _parts(read: Callable[[dt.datetime], int]) -> Callable[..., int]:
    def part(value: Timestamp, zone: str = "UTC") -> int:
        try:
            return read(moment_of(value).astimezone(_zone(zone)))
        except OverflowError:
            raise ValueError("is a time beyond the years 1 to 9999 there") from None

    return part


_OF_A_TIME: dict[str, Callable[[dt.datetime], int]] = {
    "getFullYear": lambda at: at.year,
    "getMonth": lambda at: at.month - 1,
    "getDate": lambda at: at.day,
    "getDayOfMonth": lambda at: at.day - 1,
    "getDayOfWeek": lambda at: at.isoweekday() % 7,
    "getDayOfYear": lambda at: at.timetuple().tm_yday - 1,
    "getHours": lambda at: at.hour,
    "getMinutes": lambda at: at.minute,
    "getSeconds": lambda at: at.second,
    "getMilliseconds": lambda at: at.microsecond // 1000,
}


def _whole(nanoseconds: int, unit: int) -> int:
    return abs(nanoseconds) // unit * (-1 if nanoseconds < 0 else 1)


_OF_A_SPAN: dict[str, Callable[[Duration], int]] = {
    "getHours": lambda span: _whole(span.nanoseconds, 3600 * _SECOND),
    "getMinutes": lambda span: _whole(span.nanoseconds, 60 * _SECOND),
    "getSeconds": lambda span: _whole(span.nanoseconds, _SECOND),
    "getMilliseconds": lambda span: (
        _whole(abs(span.nanoseconds) % _SECOND, 1_000_000) * (-1 if span.nanoseconds < 0 else 1)
    ),
}

PARTS: tuple[tuple[str, tuple[str, ...], Callable[..., int]], ...] = (
    *((name, (TIMESTAMP,), _parts(read)) for name, read in _OF_A_TIME.items()),
    *((name, (TIMESTAMP, STRING), _parts(read)) for name, read in _OF_A_TIME.items()),
    *((name, (DURATION,), read) for name, read in _OF_A_SPAN.items()),
)
"""Methods that read a part of a time, perhaps in a time zone, or of a span: the name, what it takes, and how."""
