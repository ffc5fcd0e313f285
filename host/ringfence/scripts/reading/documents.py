"""The JSON document at the end of what a script has printed. Pure.

Threat: a script prints what takes for ever to read, so that nothing else is done meanwhile, or hides what it says in
the middle of so much that a reader gives up and takes it for well. Mechanism: the work is bounded by the length of the
text, and a text whose reading is given up is told apart from one that has no document; so is one in which a name has
two values. What steers a terminal (colours, marks, zero bytes) is no part of what was said.
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

_NEAR_THE_END = 64 * 1024
"""How far from the end a document may begin behind other text in its line, if its brackets do not tell where."""
_FAR_FROM_THE_END = 1024 * 1024
"""How far it may begin if they do."""

_STEERING = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufeff]"
)
"""Escape sequences (ECMA-48: control sequences, commands, and the short ones), other control characters, and marks."""
_INVISIBLE = "\u200b\u200c\u200d\u2060"
_BEHIND = "\"'`,;)" + _INVISIBLE
"""What may come behind a verdict that is no JSON document, for what stands behind it."""
_LIKE_A_VERDICT = re.compile(
    r"""\bstatus\\?["']?\s*(?::|=>?)\s*\\?["']?(degraded|unhealthy|unknown)\b""", re.IGNORECASE
)

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

    It begins anywhere in a line: what was printed before may not have ended its own.
    """
    text = _said(text)
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
                return _unambiguous(rest, value)
        work -= end
        if work < 0:
            return Unreadable("what it printed last takes too long to be read as JSON")
    return None


def whole_document(text: str) -> Document | Unreadable | None:
    """All of `text` as one JSON value; else the document that it ends with."""
    whole = _whole(_said(text))
    return last_document(text) if isinstance(whole, _NotOne) else whole


def seeming_verdict(text: str) -> str | None:
    """The state, other than healthy, in a verdict that `text` ends with and that is no JSON; None without one.

    It is one as Python or Node.js print objects, one with a comma too many, or one within a text of JSON.
    """
    text = _said(text).rstrip(_BEHIND + " \t\n\r")
    if not text.endswith("}"):
        return None
    start = min(text.rfind("\n") + 1, next(_balanced(text, "{"), len(text)))
    found = _LIKE_A_VERDICT.search(text, start)
    return None if found is None else found[1]


def _said(text: str) -> str:
    """A text without what steers a terminal, or is not seen, at its ends."""
    return _STEERING.sub("", text).strip().strip(_INVISIBLE).strip()


class _TwiceError(ValueError):
    """A name has two values in one object."""


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        for name, value in pairs:
            if members[name] != value:
                raise _TwiceError(f"in what it printed, the name {name[:40]!r} has two values in one object")
    return members


def _unambiguous(text: str, value: object) -> Document | Unreadable:
    """The document of `text`, which was read as `value`, unless another reader could read it otherwise."""
    try:
        json.loads(text, object_pairs_hook=_once)
    except _TwiceError as error:
        return Unreadable(str(error))
    except RecursionError:
        return Unreadable("what it printed is nested too deeply to be read as JSON")
    return Document(value)


class _NotOne:
    """The text is not one JSON value."""


def _whole(text: str) -> Document | Unreadable | _NotOne:
    try:
        return _unambiguous(text, json.loads(text))
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
    yield from _balanced(text, opener)
    for found in reversed([*re.finditer(rf"^[ \t]*(?={re.escape(opener)})", text[:line], re.MULTILINE)]):
        yield found.end()
    start, nearest = line, max(len(text) - _NEAR_THE_END, 0)
    while (start := text.rfind(opener, nearest, start)) >= 0:
        yield start


def _balanced(text: str, opener: str) -> Iterator[int]:
    """Where the bracket that `text` ends with was opened, if all brackets in it are."""
    closer, depth = text[-1:], 0
    for at in range(len(text) - 1, max(len(text) - _FAR_FROM_THE_END, 0) - 1, -1):
        if text[at] == closer:
            depth += 1
        elif text[at] == opener:
            depth -= 1
            if depth == 0:
                yield at
                return
