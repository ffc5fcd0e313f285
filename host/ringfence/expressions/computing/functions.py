"""The functions and operators of the Common Expression Language (CEL), and some of its extension for texts. Pure.

https://github.com/google/cel-spec/blob/master/doc/langdef.md#list-of-standard-definitions
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from ringfence.expressions.computing import times
from ringfence.expressions.computing.budget import Budget
from ringfence.expressions.computing.overloads import ANY, Overloads
from ringfence.expressions.computing.values import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    INT,
    LIST,
    MAP,
    MAX_INT,
    MIN_INT,
    NUMBERS,
    STRING,
    TIMESTAMP,
    TYPE,
    TYPE_NAMES,
    UINT,
    TypeOf,
    UInt,
    Value,
    double_text,
    duration_text,
    kind_of,
    timestamp_text,
)

MAX_PATTERN = 1000
"""How many characters a pattern has at most."""
_PATTERN_MEMORY = 1024 * 1024
"""How many bytes RE2 takes for a pattern, and for matching it."""
_STEPS_OF_A_PATTERN = 200
_INTEGER = re.compile(r"[+-]?[0-9]{1,30}")
_DOUBLE = re.compile(
    r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,10})?|[+-]?(?:inf|infinity|nan)", re.I
)
_TRUE, _FALSE = (
    frozenset({"true", "True", "TRUE", "t", "1"}),
    frozenset({"false", "False", "FALSE", "f", "0"}),
)
_TWO_TO_63 = 9223372036854775808.0

TABLE = Overloads()


def int_of(number: int) -> int:
    """The number, if it has 64 bits. Raises `ValueError`."""
    if not MIN_INT <= number <= MAX_INT:
        raise ValueError("goes beyond whole numbers of 64 bits")
    return number


def uint_of(number: int) -> UInt:
    """The number, if it has 64 bits and no sign. Raises `ValueError`."""
    if not 0 <= number <= 2**64 - 1:
        raise ValueError("goes beyond unsigned numbers of 64 bits")
    return UInt(number)


def _divided(left: int, right: int) -> int:
    if right == 0:
        raise ValueError("divides by zero")
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _remainder(left: int, right: int) -> int:
    return left - right * _divided(left, right)


def _double_divided(_: Budget, left: float, right: float) -> float:
    if right != 0:
        return left / right
    if left == 0 or math.isnan(left):
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1, right)


def _arithmetic() -> None:
    whole: dict[str, Callable[[int, int], int]] = {
        "+": operator.add,
        "-": operator.sub,
        "*": operator.mul,
        "/": _divided,
        "%": _remainder,
    }
    for sign, compute in whole.items():
        TABLE.add(sign, (INT, INT), INT, lambda _, a, b, of=compute: int_of(of(a, b)))
        TABLE.add(sign, (UINT, UINT), UINT, lambda _, a, b, of=compute: uint_of(of(int(a), int(b))))
    fractions: dict[str, Callable[[float, float], float]] = {
        "+": operator.add,
        "-": operator.sub,
        "*": operator.mul,
    }
    for sign, of in fractions.items():
        TABLE.add(sign, (DOUBLE, DOUBLE), DOUBLE, lambda _, a, b, of=of: of(a, b))
    TABLE.add("/", (DOUBLE, DOUBLE), DOUBLE, _double_divided)
    TABLE.add("-_", (INT,), INT, lambda _, a: int_of(-a))
    TABLE.add("-_", (DOUBLE,), DOUBLE, lambda _, a: -a)
    TABLE.add("!", (BOOL,), BOOL, lambda _, a: not a)
    for kind in (STRING, BYTES):
        TABLE.add("+", (kind, kind), kind, _joined_text)
    TABLE.add("+", (LIST, LIST), LIST, _joined_lists)
    for left, sign, right, gives, sum_of in times.SUMS:
        TABLE.add(sign, (left, right), gives, lambda _, a, b, of=sum_of: of(a, b))


def _joined_text(budget: Budget, left: Any, right: Any) -> Value:
    budget.spend_text(len(left) + len(right))
    return left + right


def _joined_lists(budget: Budget, left: list[Value], right: list[Value]) -> Value:
    budget.spend(len(left) + len(right))
    return [*left, *right]


def _comparisons() -> None:
    signs: dict[str, Callable[[Any, Any], bool]] = {
        "<": operator.lt,
        "<=": operator.le,
        ">": operator.gt,
        ">=": operator.ge,
    }
    for sign, compare in signs.items():
        for kind in (BOOL, TIMESTAMP, DURATION):
            TABLE.add(sign, (kind, kind), BOOL, lambda _, a, b, of=compare: of(a, b))
        for left in sorted(NUMBERS):
            for right in sorted(NUMBERS):
                TABLE.add(sign, (left, right), BOOL, lambda _, a, b, of=compare: of(a, b))
        for kind in (STRING, BYTES):
            TABLE.add(sign, (kind, kind), BOOL, _comparing_text(compare))


def _comparing_text(compare: Callable[[Any, Any], bool]) -> Callable[..., bool]:
    def compared(budget: Budget, left: Any, right: Any) -> bool:
        budget.spend_text(min(len(left), len(right)))
        return compare(left, right)

    return compared


def _texts() -> None:
    def searching(of: Callable[[str, str], bool]) -> Callable[..., bool]:
        def search(budget: Budget, text: str, other: str) -> bool:
            budget.spend_text(len(text) + len(other))
            return of(text, other)

        return search

    TABLE.add("contains", (STRING, STRING), BOOL, searching(lambda text, part: part in text), method=True)
    TABLE.add("startsWith", (STRING, STRING), BOOL, searching(str.startswith), method=True)
    TABLE.add("endsWith", (STRING, STRING), BOOL, searching(str.endswith), method=True)
    for is_method in (False, True):
        TABLE.add("matches", (STRING, STRING), BOOL, _matches, method=is_method)
        for kind in (STRING, BYTES, LIST, MAP):
            TABLE.add("size", (kind,), INT, lambda _, of: len(of), method=is_method)
    TABLE.add("lowerAscii", (STRING,), STRING, _in_case(str.lower), method=True)
    TABLE.add("upperAscii", (STRING,), STRING, _in_case(str.upper), method=True)
    TABLE.add("trim", (STRING,), STRING, _trimmed, method=True)
    TABLE.add("replace", (STRING, STRING, STRING), STRING, _replaced, method=True)
    TABLE.add("split", (STRING, STRING), LIST, _split, method=True, each=STRING)
    TABLE.add("indexOf", (STRING, STRING), INT, _index_of, method=True)
    TABLE.add("substring", (STRING, INT), STRING, _substring, method=True)
    TABLE.add("substring", (STRING, INT, INT), STRING, _substring, method=True)
    TABLE.add("join", (LIST,), STRING, _joined, method=True)
    TABLE.add("join", (LIST, STRING), STRING, _joined, method=True)


def _in_case(of: Callable[[str], str]) -> Callable[..., str]:
    def cased(budget: Budget, text: str) -> str:
        budget.spend_text(len(text))
        return of(text) if text.isascii() else "".join(of(one) if one.isascii() else one for one in text)

    return cased


def _trimmed(budget: Budget, text: str) -> str:
    budget.spend_text(len(text))
    return text.strip()


def _replaced(budget: Budget, text: str, old: str, new: str) -> str:
    budget.spend_text(len(text))
    found = len(text) + 1 if not old else text.count(old)
    budget.spend_text(len(text) + found * len(new))
    return text.replace(old, new)


def _split(budget: Budget, text: str, separator: str) -> list[str]:
    budget.spend_text(len(text))
    budget.spend(len(text) if not separator else text.count(separator))
    return text.split(separator) if separator else list(text)


def _index_of(budget: Budget, text: str, part: str) -> int:
    budget.spend_text(len(text) + len(part))
    return text.find(part)


def _substring(budget: Budget, text: str, start: int, end: int | None = None) -> str:
    end = len(text) if end is None else end
    if not 0 <= start <= end <= len(text):
        raise ValueError(f"has {len(text)} characters, and none from {start} to {end}")
    budget.spend_text(end - start)
    return text[start:end]


def _joined(budget: Budget, parts: list[Value], separator: str = "") -> str:
    if not all(isinstance(part, str) for part in parts):
        raise ValueError("can be joined only if all of its elements are texts")
    budget.spend_text(sum(map(len, parts)) + len(parts) * (len(separator) + 64))
    return separator.join(parts)


def compiled(pattern: str) -> Any:
    """A pattern, in the dialect of RE2, which matches in linear time. Raises `ValueError`."""
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"has more than {MAX_PATTERN} characters as a pattern")
    return _compiled(pattern)


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    import re2

    options = re2.Options()
    options.max_mem = _PATTERN_MEMORY
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        why = error.args[0] if error.args else ""
        why = why.decode(errors="replace") if isinstance(why, bytes) else str(why)
        raise ValueError(f"is no pattern that RE2 takes: {why}") from None
    except UnicodeEncodeError:
        raise ValueError("is no pattern: it holds half of a surrogate pair") from None


def _matches(budget: Budget, text: str, pattern: str) -> bool:
    # Where its memory does not suffice, RE2 takes time by the text and the pattern together.
    budget.spend(_STEPS_OF_A_PATTERN + len(text) * (1 + len(pattern) // 16) // 64)
    try:
        return compiled(pattern).search(text) is not None
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair, and cannot be matched") from None


def _conversions() -> None:
    for kind in (INT, UINT, DOUBLE, STRING, TIMESTAMP, DURATION):
        TABLE.add("int", (kind,), INT, _to_int)
    for kind in (INT, UINT, DOUBLE, STRING):
        TABLE.add("uint", (kind,), UINT, _to_uint)
        TABLE.add("double", (kind,), DOUBLE, _to_double)
    for kind in (INT, UINT, DOUBLE, STRING, BOOL, BYTES, TIMESTAMP, DURATION):
        TABLE.add("string", (kind,), STRING, _to_string)
    for kind in (STRING, BYTES):
        TABLE.add("bytes", (kind,), BYTES, _to_bytes)
    for kind in (STRING, BOOL):
        TABLE.add("bool", (kind,), BOOL, _to_bool)
    TABLE.add("dyn", (ANY,), ANY, lambda _, value: value)
    TABLE.add("type", (ANY,), TYPE, lambda _, value: type_of(kind_of(value)))
    for name, takes, gives, convert in times.CONVERSIONS:
        TABLE.add(name, takes, gives, lambda _, *given, of=convert: of(*given))
    for name, takes, read in times.PARTS:
        TABLE.add(name, takes, INT, lambda _, *given, of=read: of(*given), method=True)


def _to_int(_: Budget, value: Value) -> int:
    match kind_of(value):
        case "double":
            if not -_TWO_TO_63 < value < _TWO_TO_63:
                raise ValueError("goes beyond whole numbers of 64 bits")
            return int(value)
        case "string":
            if _INTEGER.fullmatch(value) is None:
                raise ValueError("is no whole number")
            return int_of(int(value))
        case "timestamp":
            return int(value.nanoseconds // 1_000_000_000)
        case "duration":
            return int(value.nanoseconds)
        case _:
            return int_of(int(value))


def _to_uint(_: Budget, value: Value) -> UInt:
    if isinstance(value, float):
        if not -1 < value < 2.0**64:
            raise ValueError("goes beyond unsigned numbers of 64 bits")
        return UInt(int(value))
    if isinstance(value, str) and (_INTEGER.fullmatch(value) is None or value[0] in "+-"):
        raise ValueError("is no unsigned number")
    return uint_of(int(value))


def _to_double(_: Budget, value: Value) -> float:
    if isinstance(value, str) and _DOUBLE.fullmatch(value[:1000]) is None:
        raise ValueError("is no number")
    return float(value)


def _to_string(budget: Budget, value: Value) -> str:
    match kind_of(value):
        case "bool":
            return "true" if value else "false"
        case "double":
            return double_text(value)
        case "timestamp":
            return timestamp_text(value)
        case "duration":
            return duration_text(value)
        case "bytes":
            budget.spend_text(len(value))
            try:
                return str(value, "utf-8")
            except UnicodeDecodeError:
                raise ValueError("is no text in UTF-8") from None
        case _:
            return str(value)


def _to_bytes(budget: Budget, value: Value) -> bytes:
    budget.spend_text(len(value))
    try:
        return value.encode() if isinstance(value, str) else bytes(value)
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair, which no bytes stand for") from None


def _to_bool(_: Budget, value: Value) -> bool:
    if isinstance(value, str):
        if value not in _TRUE | _FALSE:
            raise ValueError("is neither true nor false")
        return value in _TRUE
    return bool(value)


def type_of(kind: str) -> TypeOf:
    """What `type(x)` answers for a value of this kind."""
    return TypeOf(TYPE_NAMES.get(kind, kind))


TYPES = {
    name: type_of(kind)
    for name, kind in {
        **{kind: kind for kind in (BOOL, INT, UINT, DOUBLE, STRING, BYTES, LIST, MAP, TYPE)},
        "null_type": "null",
    }.items()
}
"""The names that stand for types."""

_arithmetic()
_comparisons()
_texts()
_conversions()
