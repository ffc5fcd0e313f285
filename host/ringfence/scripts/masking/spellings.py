"""How programs write text by themselves, and how that is read back: by escapes, percent-encoding and entities.

A text is undone as a whole into a `View`, which knows for each stretch of what came out where in the original it is.
So it does not matter which characters a program chose to encode, how, or whether it encoded twice.

Pure.
"""

from __future__ import annotations

import bisect
import html
import itertools
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

_BACKSLASH = re.compile(
    r"""
      ['"`][ ]\+\n[ ]*['"`] | (?P<quote>['"])\n[ ]*b?(?P=quote)   # long texts, as util.inspect and pprint break them
    | (?: \\x[0-9A-Fa-f]{2} | \\[0-7]{1,3} )+             # bytes: repr, util.inspect, $'…', C
    | (?: \\u[0-9A-Fa-f]{4} )+ | \\U[0-9A-Fa-f]{8} | \\u\{[0-9A-Fa-f]{1,6}\}
    | \\[abtnvfreE]
    | \\[^0-9A-Za-z\n]                                    # a quote, a slash, a blank, the backslash itself
    """,
    re.VERBOSE,
)
_QUOTE = re.compile(r"""'\\''|'"'"'""")
_PERCENT = re.compile(r"(?:%[0-9A-Fa-f]{2})+|(?:%u[0-9A-Fa-f]{4})+")
_FORM = re.compile(r"\+|(?:%[0-9A-Fa-f]{2})+")
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_BYTE = re.compile(r"\\x([0-9A-Fa-f]{2})|\\([0-7]{1,3})")
_SIMPLE = dict(zip("abtnvfreE", "\a\b\t\n\v\f\r\x1b\x1b", strict=True))


def _utf8(data: bytes) -> str:
    """Bytes as text; where they are no UTF-8, each is a character, as `ascii` and `repr` mean it."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _utf16(units: list[str]) -> str:
    """What the hexadecimal numbers of halves of pairs, and of whole characters, stand for (RFC 8259, section 7)."""
    return bytes.fromhex("".join(units)).decode("utf-16-be", "replace")


def _unescaped(token: str, decode: Callable[[bytes], str]) -> str:
    if token[0] != "\\":
        return ""
    kind = token[1]
    if kind == "x" or kind in "01234567":
        return decode(bytes(int(h, 16) if h else int(octal, 8) & 0xFF for h, octal in _BYTE.findall(token)))
    if kind == "u" and token[2] != "{":
        return _utf16(token.split("\\u")[1:])
    if kind in "uU" and len(token) > 2:
        number = int(token[2:].strip("{}"), 16)
        return chr(number) if number <= 0x10FFFF else token
    return _SIMPLE.get(kind, kind)


def _by_backslash(token: str) -> str:
    return _unescaped(token, _utf8)


def _by_backslash_of_latin(token: str) -> str:
    return _unescaped(token, lambda data: data.decode("latin-1"))


def _by_percent(token: str) -> str:
    if token[1:2] == "u":
        return _utf16(token.split("%u")[1:])
    return _utf8(bytes.fromhex(token.replace("%", "")))


def _by_form(token: str) -> str:
    return _by_percent(token) if token[0] == "%" else " "


def _by_entity(token: str) -> str:
    if token[1] != "#":
        return html.unescape(token)
    number = int(token[3:-1], 16) if token[2] in "xX" else int(token[2:-1])
    return chr(number) if number <= 0x10FFFF else token


class Scheme(NamedTuple):
    """One way to write text: its tokens, what each means, and without what there are none."""

    tokens: re.Pattern[str]
    meaning: Callable[[str], str]
    needs: re.Pattern[str]


SCHEMES = (
    Scheme(_BACKSLASH, _by_backslash, re.compile(r"""\\|['"`](?:[ ]\+)?\n""")),
    Scheme(_BACKSLASH, _by_backslash_of_latin, re.compile(r"\\x[89A-Fa-f]|\\[23][0-7][0-7]")),
    Scheme(_PERCENT, _by_percent, re.compile("%")),
    Scheme(_FORM, _by_form, re.compile(r"\+")),
    Scheme(_QUOTE, lambda _: "'", _QUOTE),
    Scheme(_ENTITY, _by_entity, re.compile("&")),
)
"""Escapes by backslash (with bytes as UTF-8 and as characters), percent-encoding of paths and of forms, a quote within
a shell's quotes, and HTML."""

_CUT = re.compile(
    r"""\\(?:x[0-9A-Fa-f]?|[uU]\{?[0-9A-Fa-f]{0,7}|[0-7]{1,2})?\Z"""
    r"""|%u?[0-9A-Fa-f]{0,3}\Z|&\#?\w{0,31}\Z|['"`][ ]?\+?\n?[ ]*\Z|'\\?'?\Z|'"?'?"?\Z"""
)
"""What may be left of a token at the end of a text that was cut off."""

DEPTH = 2
"""How often a text may have been encoded, one way over another."""

MOST_TOKENS = 500_000
"""How many tokens of a text are undone, over all its views, so that this takes a second or two at most."""


@dataclass(frozen=True, slots=True)
class View:
    """A text as it reads after some of its spellings were undone.

    Attributes:
        text: what it reads.
        parent: what it was made from; None for the original.
        starts, stops: where what the tokens mean stands in `text`.
        froms, tos: where the tokens stand in the parent's text.
    """

    text: str
    parent: View | None = None
    starts: Sequence[int] = ()
    stops: Sequence[int] = ()
    froms: Sequence[int] = ()
    tos: Sequence[int] = ()

    def origin(self, start: int, stop: int) -> tuple[int, int]:
        """Where a stretch of `text` stands in the original, with the tokens at its ends whole."""
        if self.parent is None:
            return start, stop
        first, last = bisect.bisect_right(self.starts, start) - 1, bisect.bisect_left(self.starts, stop) - 1
        if first >= 0:
            inside = start < self.stops[first]
            start = self.froms[first] if inside else self.tos[first] + start - self.stops[first]
        if last >= 0:
            stop = self.tos[last] + max(stop - self.stops[last], 0)
        return self.parent.origin(start, stop)

    def undone(self, scheme: Scheme, most: int) -> View | None:
        """What this reads when one more way of writing is undone; None for no tokens, and for more than `most`."""
        if scheme.needs.search(self.text) is None:
            return None
        meanings: dict[str, str] = {}
        pieces: list[str] = []
        starts, stops, froms, tos = array("I"), array("I"), array("I"), array("I")
        written = position = 0
        for found in scheme.tokens.finditer(self.text):
            if (most := most - 1) < 0:
                return None
            start, position_after = found.span()
            token = found[0]
            if (meaning := meanings.get(token)) is None:
                meaning = meanings[token] = scheme.meaning(token)
            pieces += (self.text[position:start], meaning)
            written += start - position
            position = position_after
            starts.append(written)
            written += len(meaning)
            stops.append(written)
            froms.append(start)
            tos.append(position)
        if not starts:
            return None
        pieces.append(self.text[position:])
        return View("".join(pieces), self, starts, stops, froms, tos)

    def ends(self) -> set[int]:
        """Where `text` may have ended before a token, or a character of several bytes, was cut off in the middle."""
        length = len(self.text)
        ends = {length}
        for start in range(max(length - 40, 0), length):
            if _CUT.match(self.text, start):
                ends.add(start)
        for end in tuple(ends):
            while end > max(length - 44, 0) and ord(self.text[end - 1]) >= 0x80:
                end -= 1
                ends.add(end)
        return ends


def views(text: str) -> Iterator[View]:
    """The text as it is, and as it reads when each way of writing, and each over each other, is undone."""
    level, left = [View(text)], MOST_TOKENS
    yield level[0]
    seen = {text}
    for _ in range(DEPTH):
        parents, level = level, []
        for parent, scheme in itertools.product(parents, SCHEMES):
            view = parent.undone(scheme, left)
            if view is not None and view.text not in seen:
                left -= len(view.starts)
                seen.add(view.text)
                level.append(view)
                yield view
