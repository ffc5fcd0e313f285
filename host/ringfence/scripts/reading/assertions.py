"""What a check claims of a run beside how it ended: `metric.lag < 10 else degraded`. Pure.

    SUBJECT OPERATOR VALUE [else STATE]

- The subject is `metric.NAME`, a bare NAME for the same, `json.$.a.b` (a JSONPath, RFC 9535, over the document that
  the script gave or printed), `latencyMs`, `exitCode`, `message`, `stdout` or `stderr`. A name with blanks or signs in
  it is quoted: `metric."/var" < 90%`.
- The operator is one of `==`, `!=`, `<`, `<=`, `>`, `>=`, `contains`, `matches` (a regular expression between slashes)
  or `exists`, which takes no value.
- The value is a number with or without a unit (`14d`, `500ms`, `10GiB`, `90%`), a text in double quotes, `true`,
  `false` or `null`. A text with a time in it (RFC 3339) is compared with a time span as the span from now. What has no
  unit is compared with no percentage, and unknown.
- The state is what the system is if the assertion does not hold: `unhealthy`, or what `else` says.

An assertion about what is not there, or cannot be compared, is unknown; one never holds by mistake.

Threat: an expression, or what a script prints for it, takes for ever. Mechanism: regular expressions are RE2's, which
are matched in linear time; a path searches deep (`..`) or filters (`?`) once at most, selects the same thing only a few
times, uses no function, and is asked of a document of bounded size. Not covered: what an assertion means.
"""

from __future__ import annotations

import datetime as dt
import enum
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

from ringfence.bounded import cleaned
from ringfence.scripts.reading.health import Health
from ringfence.scripts.reading.metrics import Metric, finite
from ringfence.scripts.reading.verdict import Outcome

MAX_ASSERTIONS = 50
MAX_ASSERTION = 500
"""The longest assertion, in characters."""
MOST_VALUES = 1000
"""How many values a path may find; of more it is unknown whether all are as they should be."""
MOST_SELECTED = 64
"""How often a path may select the same thing: each list of selectors in it (`[0, 1]`) multiplies what comes after."""
MAX_DOCUMENT = 256 * 1024
"""The largest document that a path is asked of, in characters of JSON."""
_LONGEST_ACTUAL = 100
_TOLERANCE = 1e-9

_SECONDS = {
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
    "w": 604_800.0,
}
_BYTES = {
    "B": 1.0,
    "KB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
    "TB": 1e12,
    "KiB": 2.0**10,
    "MiB": 2.0**20,
    "GiB": 2.0**30,
    "TiB": 2.0**40,
}
_ORDERS: Mapping[str, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
_NUMBER = re.compile(r"([-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)\s*([A-Za-zµ%]*)")
_OPERATOR = re.compile(r"\s*(==|!=|<=|>=|<|>|(?:contains|matches|exists)(?![\w.]))\s*")
_ELSE = re.compile(r"\s+else\s+(\w+)\s*$")
_WORD = re.compile(r"[A-Za-z_][\w.:/-]*")


class AssertionSyntaxError(ValueError):
    """The assertion cannot be read; the message says what is wrong with it."""


class Source(enum.Enum):
    """What a subject is a part of."""

    METRIC, JSON, RUN = "metric", "json", "run"


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number in a unit, or without one."""

    value: float
    unit: str | None = None

    def base(self) -> tuple[float, str]:
        """The number in its dimension's base unit; a unit that is not known is a dimension of its own."""
        if self.unit in _SECONDS:
            return self.value * _SECONDS[self.unit], "s"
        if self.unit in _BYTES:
            return self.value * _BYTES[self.unit], "B"
        return self.value, self.unit or ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a run has shown, as far as an assertion may ask for it."""

    metrics: Mapping[str, Metric]
    run: Mapping[str, str | Quantity]
    document: Callable[[], object]
    """The JSON document of the run. Raises `LookupError`, whose text says why there is none."""
    now: dt.datetime


Value = Quantity | str | bool | None


@dataclass(frozen=True, slots=True)
class Assertion:
    """An assertion that was read."""

    text: str
    source: Source
    subject: str
    operator: str
    value: Value
    otherwise: Health
    pattern: Callable[[str], bool] | None = None

    @classmethod
    def read(cls, text: str) -> Assertion:
        """Read an assertion. Raises `AssertionSyntaxError`."""
        return _read(text)

    def check(self, seen: Seen) -> Outcome:
        """What becomes of it, of what was seen. Never raises."""
        try:
            found = _found(self, seen)
            held = all(_holds(self, one, seen.now) for one in found)
        except LookupError as error:
            if self.operator == "exists" and isinstance(error, _Absent):
                return Outcome(self.text, self.otherwise, "it is not there")
            return Outcome(self.text, Health.UNKNOWN, _short(str(error.args[0])))
        except RecursionError:
            return Outcome(self.text, Health.UNKNOWN, "it is nested too deeply")
        actual = ", ".join(_told(one) for one in found[:3]) + (", …" if len(found) > 3 else "")
        return Outcome(self.text, Health.HEALTHY if held else self.otherwise, _short(actual))


class _Absent(LookupError):
    """The subject is not there."""


@lru_cache(maxsize=4096)
def _read(text: str) -> Assertion:
    if len(text) > MAX_ASSERTION:
        raise AssertionSyntaxError(f"an assertion may have at most {MAX_ASSERTION} characters")
    source, subject, rest = _subject(text.strip())
    found = _OPERATOR.match(rest)
    if found is None:
        raise AssertionSyntaxError(
            f"{text!r} has no operator where one is expected, before {rest.strip()[:30]!r}; the operators are "
            "==, !=, <, <=, >, >=, contains, matches and exists"
        )
    operator, rest = found[1], rest[found.end() :]
    otherwise = Health.UNHEALTHY
    rest = f" {rest}"
    if (end := _ELSE.search(rest)) is not None:
        otherwise, rest = _state(end[1]), rest[: end.start()]
    value, pattern = _operand(operator, rest.strip())
    return Assertion(text, source, subject, operator, value, otherwise, pattern)


def _subject(text: str) -> tuple[Source, str, str]:
    """What is asked for, and what comes after it."""
    if text.startswith("json."):
        path, rest = _path(text.removeprefix("json."))
        _compiled(path)
        return Source.JSON, path, rest
    bare = text.removeprefix("metric.")
    if bare[:1] in {'"', "'"}:
        end = bare.find(bare[0], 1)
        if end < 0:
            raise AssertionSyntaxError(f"{text!r} has a quote that is not closed")
        return Source.METRIC, bare[1:end], bare[end + 1 :]
    found = _WORD.match(bare)
    if found is None:
        raise AssertionSyntaxError(
            f"{text!r} does not begin with what it is about: metric.NAME, json.$.PATH, latencyMs, exitCode, message, "
            "stdout or stderr"
        )
    source = Source.RUN if bare is text and found[0] in RUN_SUBJECTS else Source.METRIC
    return source, found[0], bare[found.end() :]


RUN_SUBJECTS = frozenset({"latencyMs", "exitCode", "message", "stdout", "stderr"})
"""What of the run itself an assertion may be about."""


def _path(text: str) -> tuple[str, str]:
    """A JSONPath, which ends at the first blank outside of brackets, and what comes after it."""
    depth, quote = 0, ""
    for at, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote and text[at - 1] != "\\" else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "[(":
            depth += 1
        elif letter in "])":
            depth -= 1
        elif not depth and (letter.isspace() or letter in "=!<>"):
            return text[:at], text[at:]
    raise AssertionSyntaxError(f"{text!r} has no operator after its path")


@lru_cache(maxsize=1024)
def _compiled(path: str) -> Any:
    # It is needed by few checks, and takes its time to load.
    from jsonpath import JSONPathEnvironment, JSONPathError

    outside = re.sub(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", "''", path)
    if outside.count("..") + outside.count("?") > 1:
        raise AssertionSyntaxError(f"the path {path!r} may search deep (..) or filter (?) only once in all")
    if "(" in outside and re.search(r"[a-z_]\(", outside):
        raise AssertionSyntaxError(f"the path {path!r} may not use functions")
    if math.prod(1 + found.count(",") for found in re.findall(r"\[[^\[\]]*", outside)) > MOST_SELECTED:
        raise AssertionSyntaxError(
            f"the path {path!r} may select at most {MOST_SELECTED} in its lists together"
        )
    if not path.startswith("$"):
        raise AssertionSyntaxError(f"the path {path!r} must begin with $")
    if outside.count("$") > 1:
        raise AssertionSyntaxError(f"the path {path!r} may name the whole document ($) only at its beginning")
    try:
        return JSONPathEnvironment(strict=True).compile(path)
    except JSONPathError as error:
        raise AssertionSyntaxError(f"{path!r} is no JSONPath: {error}") from error


def _state(word: str) -> Health:
    try:
        state = Health(word)
    except ValueError:
        state = Health.HEALTHY
    if state is Health.HEALTHY:
        raise AssertionSyntaxError(f"else may name degraded, unhealthy or unknown, not {word!r}")
    return state


def _operand(operator: str, text: str) -> tuple[Value, Callable[[str], bool] | None]:
    if operator == "exists":
        if text:
            raise AssertionSyntaxError(f"exists takes no value, and {text!r} comes after it")
        return None, None
    if operator == "matches":
        return None, _pattern(text)
    if text.startswith('"'):
        try:
            value = json.loads(text)
        except ValueError as error:
            raise AssertionSyntaxError(f"{text} is no text in double quotes") from error
        if operator in _ORDERS:
            raise AssertionSyntaxError(f"{operator} compares numbers, and {text} is a text")
        if operator == "contains" and not value:
            raise AssertionSyntaxError("every text contains the empty one: write what it must contain")
        return str(value), None
    if operator == "contains":
        raise AssertionSyntaxError(f"contains takes a text in double quotes, not {text!r}")
    if text in {"true", "false", "null"}:
        if operator in _ORDERS:
            raise AssertionSyntaxError(f"{operator} compares numbers, and {text} is none")
        return None if text == "null" else text == "true", None
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise AssertionSyntaxError(
            f"{text!r} is no value; write a number (10, 90%, 14d, 500ms, 10GiB), a text in double quotes, true, "
            "false or null"
        )
    unit = found[2]
    if unit and unit != "%" and unit not in _SECONDS and unit not in _BYTES:
        raise AssertionSyntaxError(f"{unit!r} is no unit; there are %, {', '.join([*_SECONDS, *_BYTES])}")
    if not math.isfinite(float(found[1])):
        raise AssertionSyntaxError(f"{found[1]} is too large a number")
    return Quantity(float(found[1]), unit or None), None


def _pattern(text: str) -> Callable[[str], bool]:
    if len(text) < 2 or text[0] != "/" or (end := text.rfind("/")) == 0 or text[end + 1 :] not in {"", "i"}:
        raise AssertionSyntaxError(f"matches takes a regular expression between slashes, not {text!r}")
    if end == 1:
        raise AssertionSyntaxError("an empty regular expression matches everything: write what it must match")
    return _expression(text[1:end], ignore_case=text.endswith("/i"))


def _expression(text: str, *, ignore_case: bool) -> Callable[[str], bool]:
    import re2

    # The beginning and the end are a line's, as whoever writes of output means them.
    lines = f"(?m){text}"
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = not ignore_case
    try:
        compiled = re2.compile(lines, options)
    except re2.error as error:
        reason = error.args[0] if error.args else error
        reason = reason.decode() if isinstance(reason, bytes) else reason
        raise AssertionSyntaxError(f"/{text}/ is no regular expression: {reason}") from error
    return lambda subject: compiled.search(cleaned(subject)) is not None


def _found(assertion: Assertion, seen: Seen) -> list[object]:
    """The values that the assertion is about, one at least. Raises `LookupError`."""
    name = assertion.subject
    if assertion.source is Source.RUN:
        if name not in seen.run:
            raise _Absent(f"there is no {name}")
        return [seen.run[name]]
    if assertion.source is Source.METRIC:
        if name not in seen.metrics:
            raise _Absent(f"there is no metric {name!r}")
        metric = seen.metrics[name]
        return [Quantity(metric.value, metric.unit)]
    found = _selected(name, seen.document())
    if not found:
        raise _Absent(f"there is nothing at {name} in the document")
    if len(found) > MOST_VALUES:
        raise LookupError(f"there are more than {MOST_VALUES} values at {name}")
    return found


def _selected(path: str, document: object) -> list[object]:
    """The values at a path, one more than `MOST_VALUES` at most. Raises `LookupError`."""
    from jsonpath import JSONPathError

    try:
        return [match.value for match in islice(_compiled(path).finditer(document), MOST_VALUES + 1)]
    except JSONPathError as error:
        raise LookupError(f"nobody can look for {path} in the document: {error}") from error


def _holds(assertion: Assertion, found: object, now: dt.datetime) -> bool:
    """Whether one value is as the assertion says. Raises `LookupError` if the two cannot be compared."""
    operator, value = assertion.operator, assertion.value
    if operator == "exists":
        return True
    if assertion.pattern is not None:
        return assertion.pattern(_text(found))
    if operator == "contains":
        if isinstance(found, list):
            return value in found
        return str(value) in _text(found)
    if isinstance(value, Quantity):
        left, right = _comparable(found, value, now)
        if operator in _ORDERS:
            return _ORDERS[operator](left, right)
        same = abs(left - right) <= _TOLERANCE * max(abs(left), abs(right))
        return same is (operator == "==")
    alike = type(found) is type(value)
    if operator == "!=" and not alike and found is not None and value is not None:
        # The number 500 differs from the text "500" for no reason that anybody would mean.
        raise LookupError(f"it is {_told(found)}, which cannot be compared with {_told(value)}")
    same = alike and found == value
    return same is (operator == "==")


def _comparable(found: object, value: Quantity, now: dt.datetime) -> tuple[float, float]:
    """Both as numbers that can be compared. Raises `LookupError`.

    A value without a unit is in the unit of what was found; what was found without one is in the value's base unit
    (seconds, bytes), as Prometheus has it. That of a percentage is not certain: a number without a unit is one of
    things to monitoring plugins, and may be a share of 1, for which every limit in percent would hold.
    """
    if isinstance(found, str) and value.unit in _SECONDS:
        found = Quantity((_instant(found) - now).total_seconds(), "s")
    if not isinstance(found, Quantity):
        number = None if isinstance(found, bool) else finite(found)
        if number is None:
            raise LookupError(f"it is {_told(found)}, which is no number")
        found = Quantity(number)
    if value.unit is None:
        return found.value, value.value
    if found.unit is None and value.unit == "%":
        raise LookupError(
            f"it is {_told(found)} without a unit, which is no percentage for certain: compare it with a bare number"
        )
    (left, one), (right, other) = found.base(), value.base()
    if found.unit is not None and one != other:
        raise LookupError(f"it is in {found.unit}, which cannot be compared with {value.unit}")
    return left, right


def _instant(text: str) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise LookupError(f"it is {_told(text)}, which is no number and no time") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def _text(found: object) -> str:
    if isinstance(found, str):
        return found
    if isinstance(found, Quantity):
        return f"{found.value:g}"
    return json.dumps(found, ensure_ascii=False)


def _told(found: object) -> str:
    if isinstance(found, Quantity):
        return f"{found.value:g} {found.unit}" if found.unit else f"{found.value:g}"
    return _short(json.dumps(found, ensure_ascii=False))


def _short(text: str) -> str:
    text = cleaned(text)
    return text if len(text) <= _LONGEST_ACTUAL else f"{text[: _LONGEST_ACTUAL - 1]}…"
