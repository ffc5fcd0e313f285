"""What is taken from outside: texts, numbers, times and JSON that can be stored, and sent on, wherever they come from.

One set of types for the wire, for HTTP and for settings, so that a value which one door refuses does not come in
through another. Pure.

Threat: somebody sends what PostgreSQL or a reader cannot take (U+0000, half of a surrogate pair, an infinite number, a
year before the calendar, JSON that is nested a thousand deep), and whatever is written together with it fails too; or
gives a name that is shown as another one is. Mechanism: these types refuse it where it comes in. What a program has
printed is nobody's request, so there each character that cannot be stored is replaced instead (`Printed`, `cleaned`).
Not covered: whether a value is true, and letters of two scripts that look alike.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
import unicodedata
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    StrictFloat,
    StrictInt,
    StringConstraints,
)

MAX_DEPTH = 128
"""How deep lists and objects may be nested: below what every reader and writer of JSON here can take."""
EARLIEST = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
AHEAD = dt.timedelta(days=1)
"""How far a clock elsewhere may be ahead of ours."""
MAX_DAYS = 36_500.0
"""The longest time that a setting may name in days: a century, which the database can still count back."""
MAX_SECONDS = 7 * 24 * 3600.0
"""The longest deadline that a setting may name."""
REPLACEMENT = "\ufffd"


class UnstorableError(Exception):
    """What was to be written is at fault, and not who writes it: it would fail each time."""


_NO_NUL = "must not contain the character NUL (U+0000)"
_NO_SURROGATE = "must not contain half of a surrogate pair, which is no character"

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_CONTROL = re.compile("[\x01-\x1f\x7f-\x9f\u2028\u2029]")
_UNSEEN = re.compile(
    "[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u2060-\u2065\u206a-\u206f\u2800\u3164\ufeff\uffa0\ufff0-\ufffb]"
    "|[\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
    "|[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]"
    # Joiners and choices of a form: among letters that are written with them, and in pictures.
    "|(?:^|(?<=[\0-\u05ff]))[\u200c\u200d]|[\u200c\u200d](?=[\0-\u05ff\u200c\u200d]|$)"
    "|(?:^|(?<=[\0-\u1fff]))[\ufe00-\ufe0f](?!\u20e3)"
)
"""What nobody sees in a name, or takes for an ordinary space."""
_TURNING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""What has a part of a text shown in another order (UAX 9): a name never needs it."""
_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""The escape of U+0000 in JSON, but not a backslash's before the text u0000 (RFC 8259, section 7)."""


def storable(text: str) -> str:
    """`text`, if PostgreSQL can store it and UTF-8 can carry it. Raises `ValueError`."""
    if not _is_plain(text) and (found := _UNSTORABLE.search(text)) is not None:
        raise ValueError(_NO_NUL if found[0] == "\0" else _NO_SURROGATE)
    return text


def one_line(text: str) -> str:
    """`text`, if it is `storable` and a line without anything that could steer a terminal. Raises `ValueError`."""
    if _CONTROL.search(storable(text)) is not None:
        raise ValueError("must be one line, without control characters")
    return text


def visible_name(text: str) -> str:
    """`text`, if it is `one_line` and nothing in it stays unseen or turns the rest around. Raises `ValueError`."""
    if not one_line(text).isascii():
        if (found := _TURNING.search(text)) is not None:
            raise ValueError(
                f"must not contain U+{ord(found[0]):04X}, which turns around the order of what is shown"
            )
        if (found := _UNSEEN.search(text)) is not None:
            raise ValueError(
                f"must not contain U+{ord(found[0]):04X}, which cannot be seen or told from a space"
            )
    return text


def composed(value: Any) -> Any:
    """A text in Unicode's composed form (NFC), so that one name that is typed in two ways is one; the rest as it is."""
    return unicodedata.normalize("NFC", value) if isinstance(value, str) else value


def cleaned(text: str, longest: int | None = None) -> str:
    """`text` with U+FFFD for what cannot be stored, and no more than its first `longest` characters."""
    text = text[:longest]
    return text if _is_plain(text) else _UNSTORABLE.sub(REPLACEMENT, text)


def storable_document(document: str) -> str:
    """`document`, a text of JSON in UTF-8, if all texts in it are `storable`. Raises `ValueError`."""
    # The plain search first: it costs a fiftieth, and nearly always finds nothing.
    if r"\u0000" in document and _ESCAPED_NUL.search(document):
        raise ValueError(_NO_NUL)
    return document


def bounded_json(value: Any, *, max_bytes: int | None = None) -> Any:
    """`value`, if it is JSON that can be stored. Raises `ValueError`.

    Its depth is bounded by `MAX_DEPTH`, its size as JSON by `max_bytes`; its texts (keys too) are `storable`, its
    numbers finite and within what a float reaches.
    """
    level, depth = [value], 0
    while level:
        if depth > MAX_DEPTH:
            raise ValueError(f"must not be nested more than {MAX_DEPTH} deep")
        below: list[Any] = []
        for one in level:
            if isinstance(one, str):
                storable(one)
            elif isinstance(one, dict):
                for key in one:
                    if not isinstance(key, str):
                        raise ValueError("must be JSON: the names in an object are texts")
                    storable(key)
                below.extend(one.values())
            elif isinstance(one, list | tuple):
                below.extend(one)
            elif isinstance(one, int | float):
                _check_number(one)
            elif one is not None:
                raise ValueError(f"must be JSON, which has no {type(one).__name__}")
        level, depth = below, depth + 1
    if max_bytes is not None and (size := _size(value)) > max_bytes:
        raise ValueError(f"must have at most {max_bytes} bytes as JSON, not {size}")
    return value


def cleaned_json(value: Any) -> Any:
    """`value` with U+FFFD for what its texts have that cannot be stored. Raises `ValueError` as `bounded_json` does."""
    return bounded_json(_cleaned(value, 0))


def moment(value: dt.datetime) -> dt.datetime:
    """`value` in UTC, if it lies between the year 2000 and a day ahead. Raises `ValueError`."""
    if value.tzinfo is None:
        raise ValueError("must say its time zone, as in 2030-01-31T12:00:00Z")
    # Compared first: what lies at an end of the calendar cannot even be converted.
    if not EARLIEST <= value <= dt.datetime.now(dt.UTC) + AHEAD:
        raise ValueError("must lie between 2000-01-01 and a day ahead of now")
    return value.astimezone(dt.UTC)


def _is_plain(text: str) -> bool:
    """Whether a quick look is enough: it costs a hundredth of the search, and most texts are ASCII."""
    return text.isascii() and "\0" not in text


def _check_number(number: float) -> None:
    try:
        finite = math.isfinite(number)
    except OverflowError:  # an integer beyond every float
        finite = False
    if not finite:
        raise ValueError("must not contain a number that is infinite, beyond 1.8e308, or none at all")


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def _cleaned(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return cleaned(value)
    if depth > MAX_DEPTH:  # refused by `bounded_json`, which tells it
        return value
    if isinstance(value, dict):
        return {
            cleaned(key) if isinstance(key, str) else key: _cleaned(one, depth + 1)
            for key, one in value.items()
        }
    if isinstance(value, list | tuple):
        return [_cleaned(one, depth + 1) for one in value]
    return value


STORABLE = AfterValidator(storable)
"""For a text with bounds of its own: `Annotated[str, StringConstraints(max_length=…), STORABLE]`."""

Text = Annotated[str, STORABLE]
"""Bounded by what it comes in: a request's body, a frame."""
ShortText = Annotated[str, StringConstraints(max_length=200), STORABLE]
LongText = Annotated[str, StringConstraints(max_length=2000), STORABLE]
Reason = Annotated[str, StringConstraints(max_length=1000), STORABLE]
"""Why somebody changes something, in their words."""
Label = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=100),
    AfterValidator(visible_name),
    BeforeValidator(composed),
]
"""A name for people: one line, all of which can be seen. Letters of different scripts may look alike all the same."""
Printed = Annotated[str, BeforeValidator(lambda value: cleaned(value) if isinstance(value, str) else value)]
"""What a program has printed."""

# Numbers of JSON: neither true nor a text of digits is one. A query is text, and has them read by `int` or `float`.
Finite = Annotated[StrictFloat, Field(allow_inf_nan=False)]
Int32 = Annotated[StrictInt, Field(ge=-(2**31), lt=2**31)]
Int64 = Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)]
Days = Annotated[float, Field(gt=0, le=MAX_DAYS, allow_inf_nan=False)]
"""How long something is kept, in days."""
Seconds = Annotated[float, Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False)]
"""A deadline, or a pause, in seconds."""

Moment = Annotated[AwareDatetime, AfterValidator(moment)]

Json = Annotated[Any, AfterValidator(bounded_json)]
JsonObject = Annotated[dict[str, Any], AfterValidator(bounded_json)]
PrintedJson = Annotated[dict[str, Any], AfterValidator(cleaned_json)]
"""What is known of a run, in which there may be what a program has printed."""
