"""What expressions compute with: the values of JSON, and unsigned numbers, bytes, times and spans of time. Pure."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
import re
from dataclasses import dataclass
from typing import Any, TypeAlias

from ringfence.bounded import storable
from ringfence.expressions.computing.budget import TEXT_PER_STEP, Budget

MAX_INT = 2**63 - 1
MIN_INT = -(2**63)


class UInt(int):
    """An unsigned number of 64 bits."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """A point in time, in nanoseconds since 1970 in UTC."""

    nanoseconds: int


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A span of time in nanoseconds."""

    nanoseconds: int


@dataclass(frozen=True, slots=True)
class TypeOf:
    """What kind of value something is: what `type(x)` answers."""

    name: str


@dataclass(frozen=True, slots=True)
class TruthKey:
    """A key of a map that is true or false: Python takes these for 1 and 0."""

    value: bool


Value: TypeAlias = Any
"""None, bool, int, UInt, float, str, bytes, list, dict, Timestamp, Duration or TypeOf."""

NULL, BOOL, INT, UINT, DOUBLE, STRING = "null", "bool", "int", "uint", "double", "string"
BYTES, LIST, MAP, TIMESTAMP, DURATION, TYPE = "bytes", "list", "map", "timestamp", "duration", "type"
KINDS: dict[type, str] = {
    type(None): NULL,
    bool: BOOL,
    int: INT,
    UInt: UINT,
    float: DOUBLE,
    str: STRING,
    bytes: BYTES,
    list: LIST,
    dict: MAP,
    Timestamp: TIMESTAMP,
    Duration: DURATION,
    TypeOf: TYPE,
}
NUMBERS = frozenset({INT, UINT, DOUBLE})
TYPE_NAMES = {
    NULL: "null_type",
    TIMESTAMP: "google.protobuf.Timestamp",
    DURATION: "google.protobuf.Duration",
}
"""What the language calls a kind, where that is another name."""

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_SECOND = 1_000_000_000
FIRST = -62_135_596_800 * _SECOND
"""The beginning of the year 1."""
LAST = 253_402_300_799 * _SECOND + 999_999_999
"""The end of the year 9999."""
MAX_DURATION = MAX_INT
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:[Zz]|([+-])(\d\d):(\d\d))",
    re.ASCII,
)
_SPAN = re.compile(r"(\d*\.?\d*)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)", re.ASCII)
_UNITS = {
    "ns": 1,
    "us": 1000,
    "\u00b5s": 1000,
    "\u03bcs": 1000,
    "ms": 1_000_000,
    "s": _SECOND,
    "m": 60 * _SECOND,
    "h": 3600 * _SECOND,
}
_LONGEST = 100


class NotAValueError(ValueError):
    """Something is no value that there can be, or cannot be one of JSON."""


def kind_of(value: Value) -> str:
    """What kind of value it is. Raises `NotAValueError` for what is none."""
    kind = KINDS.get(type(value))
    if kind is not None:
        return DOUBLE if kind is INT and not MIN_INT <= value <= MAX_INT else kind
    for base in (str, dict, list, float):  # what a library derives from these
        if isinstance(value, base):
            return KINDS[base]
    raise NotAValueError(f"{type(value).__name__} is no value of JSON")


def timestamp_of(text: str) -> Timestamp:
    """The time that a text says, as RFC 3339 has it. Raises `ValueError`."""
    match = _RFC3339.fullmatch(text[:_LONGEST])
    if match is None or len(text) > _LONGEST:
        raise ValueError("is no time, such as 2030-01-31T12:00:00Z")
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    try:
        moment = dt.datetime(year, month, day, hour, minute, second, tzinfo=dt.UTC)
    except ValueError:
        raise ValueError("is no time that there is") from None
    nanoseconds = _whole_nanoseconds(moment) + int((match[7] or "").ljust(9, "0"))
    if match[8] is not None:
        hours, minutes = int(match[9]), int(match[10])
        if hours > 23 or minutes > 59:
            raise ValueError("is no time that there is")
        shift = (hours * 3600 + minutes * 60) * _SECOND
        nanoseconds += -shift if match[8] == "+" else shift
    return checked_timestamp(nanoseconds)


def checked_timestamp(nanoseconds: int) -> Timestamp:
    """The point in time. Raises `ValueError` beyond the years 1 to 9999."""
    if not FIRST <= nanoseconds <= LAST:
        raise ValueError("is a time beyond the years 1 to 9999")
    return Timestamp(nanoseconds)


def checked_duration(nanoseconds: int) -> Duration:
    """The span of time. Raises `ValueError` for one beyond 292 years."""
    if not -MAX_DURATION - 1 <= nanoseconds <= MAX_DURATION:
        raise ValueError("is a span of time beyond 292 years")
    return Duration(nanoseconds)


def duration_of(text: str) -> Duration:
    """The span of time that a text says, such as `1h30m`, `-1.5s`, `250ms`. Raises `ValueError`."""
    problem = ValueError("is no span of time, such as 30s, 1h30m or 250ms")
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if len(text) > _LONGEST or not rest:
        raise problem
    if rest == "0":
        return Duration(0)
    place, nanoseconds = 0, 0
    while place < len(rest):
        match = _SPAN.match(rest, place)
        if match is None or match[1] in ("", "."):
            raise problem
        whole, _, fraction = match[1].partition(".")
        unit = _UNITS[match[2]]
        nanoseconds += int(whole or "0") * unit + int(fraction or "0") * unit // 10 ** len(fraction)
        place = match.end()
    return checked_duration(sign * nanoseconds)


def moment_of(value: Timestamp) -> dt.datetime:
    """The time with microseconds, in UTC."""
    return _EPOCH + dt.timedelta(microseconds=value.nanoseconds // 1000)


def timestamp_text(value: Timestamp) -> str:
    """The time as RFC 3339 has it."""
    seconds, fraction = divmod(value.nanoseconds, _SECOND)
    moment = _EPOCH + dt.timedelta(seconds=seconds)
    return f"{moment.year:04}-{moment:%m-%dT%H:%M:%S}{_fraction(fraction)}Z"


def duration_text(value: Duration) -> str:
    """The span as seconds: `5400s`."""
    sign = "-" if value.nanoseconds < 0 else ""
    seconds, fraction = divmod(abs(value.nanoseconds), _SECOND)
    return f"{sign}{seconds}{_fraction(fraction)}s"


def double_text(value: float) -> str:
    """A number as a text: without a fraction if it has none."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value)}" if value or math.copysign(1, value) > 0 else "-0"
    return repr(value)


def to_json(value: Value, budget: Budget) -> Any:
    """A value as JSON: times and spans as texts, bytes in base64. Raises `NotAValueError` for what JSON has not.

    What a value holds many times is there many times, so it is counted.
    """
    kind = kind_of(value)
    budget.spend(1 + (len(value) // TEXT_PER_STEP if kind in (STRING, BYTES) else 0))
    match kind:
        case "double":
            number = _fraction_of(value)
            if not math.isfinite(number):
                raise NotAValueError(
                    "the result is a number that JSON does not have (infinite, or not a number)"
                )
            return number
        case "uint":
            return int(value)
        case "list":
            return [to_json(one, budget) for one in value]
        case "map":
            return {_told(key_text(key)): to_json(one, budget) for key, one in value.items()}
        case "timestamp":
            return timestamp_text(value)
        case "duration":
            return duration_text(value)
        case "bytes":
            return base64.b64encode(value).decode()
        case "type":
            return value.name
        case "string":
            return _told(value)
        case _:
            return value


def text_of(value: Value, budget: Budget) -> str:
    """A value in a text: nothing for null, lists and maps as compact JSON."""
    match kind_of(value):
        case "null":
            return ""
        case "string":
            return _told(value)
        case "bool":
            return "true" if value else "false"
        case "double":
            return double_text(_fraction_of(value))
        case "list" | "map":
            return json.dumps(to_json(value, budget), ensure_ascii=False, separators=(",", ":"))
        case _:
            return str(to_json(value, budget))


def key_text(key: Value) -> str:
    """A map's key as JSON has them, which are texts."""
    if isinstance(key, TruthKey):
        return "true" if key.value else "false"
    return key if isinstance(key, str) else str(int(key))


def _told(text: str) -> str:
    """A text that leaves the language: whoever asked for it writes it down, or sends it on."""
    try:
        return storable(text)
    except ValueError as error:
        raise NotAValueError(f"the result {error}") from None


def _fraction_of(value: Value) -> float:
    """A number as a fraction; a whole one of JSON that is beyond all of them is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _whole_nanoseconds(moment: dt.datetime) -> int:
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * _SECOND


def _fraction(nanoseconds: int) -> str:
    """Three, six or nine digits, as protocol buffers write times in JSON."""
    if not nanoseconds:
        return ""
    digits = f"{nanoseconds:09}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f".{digits}"
