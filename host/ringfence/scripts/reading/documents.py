"""The JSON document at the end of what a script has printed. Pure.

Threat: a script prints what takes for ever to read, so that nothing else is done meanwhile, or hides what it says in
the middle of so much that a reader gives up and takes it for well. Mechanism: the work is bounded by the length of the
text, and a text whose reading is given up is told apart from one that has no document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

_SPARE_WORK = 4 * 1024 * 1024
_WORK_PER_CHARACTER = 4
"""How much work a search may be, beside `_SPARE_WORK`, for each character of the text. Reading one is a unit of it."""
_COPIED_AT_ONCE = 64
"""How many characters are copied for one unit of work."""

_DECODER = json.JSONDecoder()
_CLOSERS = {"}": "{", "]": "["}


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON value that was printed; `NaN` and the infinities, which Python prints, are floats in it."""

    value: object


@dataclass(frozen=True, slots=True)
class Unreadable:
    """There may be a document, but it cannot be read; `reason` says why."""

    reason: str


def last_document(text: str) -> Document | Unreadable | None:
    """The object or list that `text` ends with, however it is laid out; None if it ends with neither.

    It begins where a line begins, but for blanks, or anywhere in the last line.
    """
    text = text.lstrip("\ufeff").rstrip()
    opener = _CLOSERS.get(text[-1:])
    if opener is None:
        return None
    if text.lstrip().startswith(opener) and not isinstance(whole := _whole(text), _NotOne):
        return whole
    work = _SPARE_WORK + _WORK_PER_CHARACTER * len(text)
    # From the innermost that could be it: what is within another value ends before the text does.
    for start in _starts(text, opener):
        rest = text[start:]  # since the decoder's errors count all lines from the beginning
        work -= len(rest) // _COPIED_AT_ONCE + 1
        try:
            value, end = _DECODER.raw_decode(rest)
        except json.JSONDecodeError as error:
            end = error.pos
        except RecursionError:
            return Unreadable("what it printed last is nested too deeply to be read as JSON")
        else:
            if end == len(rest):
                return Document(value)
        work -= end
        if work < 0:
            return Unreadable("what it printed last takes too long to be read as JSON")
    return None


def whole_document(text: str) -> Document | Unreadable | None:
    """All of `text` as one JSON value; else the document that it ends with."""
    whole = _whole(text)
    return last_document(text) if isinstance(whole, _NotOne) else whole


class _NotOne:
    """The text is not one JSON value."""


def _whole(text: str) -> Document | Unreadable | _NotOne:
    try:
        return Document(json.loads(text))
    except RecursionError:
        return Unreadable("what it printed is nested too deeply to be read as JSON")
    except ValueError:
        return _NotOne()


def _starts(text: str, opener: str) -> Iterator[int]:
    """Where a document could begin: in the last line, and then from the end."""
    line = text.rfind("\n") + 1
    # One value in a line is what is printed most, and may hold thousands of others.
    if (first := text.find(opener, line)) >= 0:
        yield first
    start = len(text)
    while (start := text.rfind(opener, line, start)) >= 0:
        yield start
    for found in reversed([*re.finditer(rf"^[ \t]*(?={re.escape(opener)})", text[:line], re.MULTILINE)]):
        yield found.end()
