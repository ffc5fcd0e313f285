"""The words of an expression: names, numbers, texts and signs, each with its place. Pure.

Every character is looked at once: a text that never ends costs as much as one that does.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ringfence.expressions.computing.values import MAX_INT, UInt, Value
from ringfence.expressions.errors import ExpressionError, at

MAX_UINT = 2**64 - 1


class Kind(enum.Enum):
    """What kind of word a token is."""

    NAME = "name"
    QUOTED_NAME = "quoted name"
    LITERAL = "literal"
    SIGN = "sign"
    END = "end"


@dataclass(frozen=True, slots=True)
class Token:
    """One word. `text` is a name or a sign as it is written, `value` what a literal stands for."""

    kind: Kind
    text: str
    offset: int
    end: int
    value: Value = None


RESERVED = frozenset(
    (
        *(
            "as",
            "break",
            "const",
            "continue",
            "else",
            "for",
            "function",
            "if",
            "import",
            "let",
            "loop",
            "package",
        ),
        *("namespace", "return", "var", "void", "while"),
    )
)
"""Words that cannot be names, by the language's definition."""
WORDS: dict[str, Value] = {"true": True, "false": False, "null": None}

_SPACE = re.compile(r"(?:[ \t\n\f\r]|//[^\n]*)*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_QUOTED_NAME = re.compile(r"`([A-Za-z0-9_.\-/ ]+)`")
_STRING = re.compile(r"([rR]?[bB]?|[bB][rR])(\"\"\"|'''|\"|')")
_NUMBER = re.compile(
    r"(?P<hex>0[xX][0-9A-Fa-f]+)(?P<hexu>[uU])?"
    r"|(?P<float>[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|\.[0-9]+(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<int>[0-9]+)(?P<u>[uU])?"
)
_SIGNS = ("&&", "||", "==", "!=", "<=", ">=", *"?:<>+-*/%!.,()[]{}")
_ESCAPES = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    "?": "?",
    '"': '"',
    "'": "'",
    "`": "`",
}
_NUMBERED = {"x": (2, 16), "X": (2, 16), "u": (4, 16), "U": (8, 16)}
_HINTS = {
    "=": "write == to compare",
    "&": "write && for and",
    "|": "write || for or",
    "\u201c": 'write " around texts',
    "\u201d": 'write " around texts',
}
_DIGITS = frozenset("0123456789abcdefABCDEF")
_LONGEST_NUMBER = 400


def tokens(text: str, start: int = 0) -> Iterator[Token]:
    """The words of `text` from `start` on; the last one is the end. Raises `ExpressionError` where it gets to it."""
    place = start
    while True:
        match = _SPACE.match(text, place)
        place = place if match is None else match.end()
        if place >= len(text):
            yield Token(Kind.END, "", place, place)
            return
        token = _next(text, place)
        yield token
        place = token.end


def _next(text: str, place: int) -> Token:
    if (string := _STRING.match(text, place)) is not None:
        return _text(text, string)
    if (name := _NAME.match(text, place)) is not None:
        word = name[0]
        if word in WORDS:
            return Token(Kind.LITERAL, word, place, name.end(), WORDS[word])
        return Token(Kind.NAME, word, place, name.end())
    if (quoted := _QUOTED_NAME.match(text, place)) is not None:
        return Token(Kind.QUOTED_NAME, quoted[1], place, quoted.end())
    if (number := _NUMBER.match(text, place)) is not None:
        return _number(text, number)
    for sign in _SIGNS:
        if text.startswith(sign, place):
            return Token(Kind.SIGN, sign, place, place + len(sign))
    found = text[place]
    hint = f": {_HINTS[found]}" if found in _HINTS else ""
    raise ExpressionError(f"{found!r} means nothing here{hint}", *at(text, place))


def _number(text: str, match: re.Match[str]) -> Token:
    start, end = match.span()
    if end - start > _LONGEST_NUMBER:
        raise ExpressionError("the number is too long", *at(text, start))
    if match["float"] is not None:
        value: Value = float(match["float"])
        if value in (float("inf"), float("-inf")):
            raise ExpressionError("the number is too large", *at(text, start))
        return Token(Kind.LITERAL, match[0], start, end, value)
    digits = match["hex"] or match["int"]
    number = int(digits, 16 if match["hex"] else 10)
    if match["hexu"] or match["u"]:
        if number > MAX_UINT:
            raise ExpressionError("the number is too large: an unsigned one has 64 bits", *at(text, start))
        return Token(Kind.LITERAL, match[0], start, end, UInt(number))
    # The least number is written as the negative of one that is too large by itself: the parser looks at that.
    if number > MAX_INT + 1:
        raise ExpressionError("the number is too large: a whole one has 64 bits", *at(text, start))
    return Token(Kind.LITERAL, match[0], start, end, number)


def _text(text: str, match: re.Match[str]) -> Token:
    """A text, or bytes. They end where the quotation marks do with which they begin."""
    prefix, quotes = match[1].lower(), match[2]
    is_raw, is_bytes, is_long = "r" in prefix, "b" in prefix, len(quotes) == 3
    place, parts, codes = match.end(), list[str](), bytearray()
    while True:
        if place >= len(text) or (not is_long and text[place] in "\r\n"):
            raise ExpressionError(
                f"the text that begins here has no {quotes} at its end", *at(text, match.start())
            )
        if text.startswith(quotes, place):
            end = place + len(quotes)
            value: Value = bytes(codes) if is_bytes else "".join(parts)
            return Token(Kind.LITERAL, match[0], match.start(), end, value)
        if text[place] == "\\" and not is_raw:
            character, is_byte, place = _escaped(text, place, is_bytes=is_bytes)
        else:
            character, is_byte, place = text[place], False, place + 1
        if not is_bytes:
            parts.append(character)
        elif is_byte:
            codes.append(ord(character))
        else:
            codes += character.encode()


def _escaped(text: str, place: int, *, is_bytes: bool) -> tuple[str, bool, int]:
    """The character that a backslash stands for, whether it is a byte by its number, and where the text goes on."""
    kind = text[place + 1 : place + 2]
    if kind in _ESCAPES and kind:
        return _ESCAPES[kind], False, place + 2
    if kind in _NUMBERED and not (is_bytes and kind in "uU"):
        length, base = _NUMBERED[kind]
        digits, end = text[place + 2 : place + 2 + length], place + 2 + length
    elif kind in "0123" and kind:
        length, base = 3, 8
        digits, end = text[place + 1 : place + 4], place + 4
    else:
        raise ExpressionError(
            f"\\{kind} is no escape: write \\\\ for a backslash, or r before the text", *at(text, place)
        )
    if len(digits) != length or not _DIGITS.issuperset(digits) or (base == 8 and max(digits) > "7"):
        raise ExpressionError(f"\\{kind} needs {length} digits behind it", *at(text, place))
    code = int(digits, base)
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise ExpressionError(f"\\{kind}{digits} is no character", *at(text, place))
    return chr(code), is_bytes, end
