"""Secrets are blotted out of whatever a run gives back, before anybody else sees it.

Threat: a script prints the secret that it was given (`set -x`, a debug line, a URL in an error), and the output is
stored, shown and logged. Mechanism: a run's output is masked as a whole, after it was collected, so that it does not
matter in how many pieces the script wrote it; overlapping secrets are blotted out together; a secret is also found in
the spellings in which programs write it by themselves (see `spellings`), and in the base64 of an Authorization header;
and where the run was cut short, so is the beginning of a secret that the cut left at the end. Not covered: a script
that *wants* to tell, for it can encode (hexadecimal, reversed, compressed, one character a line). Masking keeps
accidents out of sight; what keeps a secret from a script is not to name it for that script, and what keeps it from the
network is the policy.

Pure.
"""

from __future__ import annotations

import base64
import decimal
from collections.abc import Iterable, Iterator

from ringfence.scripts.masking.spellings import View, views

MASK = "***"
"""What stands in place of a secret."""
MIN_SECRET = 6
"""The least characters that a secret should have: a shorter one is masked too, but so is other text then."""
MIN_LINE = 8
"""A line of a secret of several lines is masked by itself too, if it has at least so many characters."""
MIN_STUMP = 4
"""The least characters of a secret's beginning that are masked at the end of output that was cut off."""

_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_"
_LONGEST_BASE64 = 65536
"""How far around a secret what is encoded together with it is masked."""


class Mask:
    """Blots out `secrets`. Empty ones are left aside: they would be everywhere."""

    __slots__ = ("_encoded", "_numbers", "_words")

    def __init__(self, secrets: Iterable[str]) -> None:
        known = {word for secret in secrets if (word := secret.strip())}
        self._words: tuple[str, ...] = ()
        self._encoded: tuple[str, ...] = ()
        self._numbers: set[decimal.Decimal] = set()
        if known:
            self._words = tuple(sorted(known | {line for secret in known for line in _lines(secret)}))
            self._encoded = tuple(sorted({core for secret in known for core in _cores(secret)}))
            self._numbers = {number for secret in known if (number := _number(secret)) is not None}

    def __bool__(self) -> bool:
        """Whether there is anything to blot out."""
        return bool(self._words)

    def text(self, text: str, *, cut: bool = False) -> str:
        """`text` with `MASK` for each stretch of it that is a secret. `cut`: its end is where somebody cut it off."""
        spans = sorted(span for view in views(text) for span in self._spans(view, len(text) if cut else None))
        kept: list[str] = []
        end = 0
        for start, stop in spans:
            if start >= end:
                kept += (text[end:start], MASK)
            end = max(end, stop)
        return "".join((*kept, text[end:]))

    def lowered(self) -> Mask:
        """One for text that somebody has put into lower case, as names of hosts are."""
        return Mask(word.lower() for word in self._words)

    def value(self, value: object) -> object:
        """A JSON value with every text and number in it masked, the names of its members included."""
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self.text(str(name)): self.value(member) for name, member in value.items()}
            case list():
                return [self.value(member) for member in value]
            case bool() | None:
                return value
            case int() | float():
                return MASK if self._is_secret(value) else value
            case _:
                return value

    def _is_secret(self, number: float) -> bool:
        """Whether a number is a secret, however many zeros that is written with, or is written with one in it."""
        text = str(number)
        if any(len(word) >= MIN_SECRET and word in text for word in self._words):
            return True
        return bool(self._numbers) and decimal.Decimal(text) in self._numbers

    def _spans(self, view: View, cut: int | None) -> Iterator[tuple[int, int]]:
        """The stretches of the original that are secrets, as they read in this view; `cut` is where it was cut off."""
        for word in self._words:
            for start in _places(view.text, word):
                yield view.origin(start, start + len(word))
        for core in self._encoded:
            for start in _places(view.text, core):
                yield view.origin(*_whole_base64(view.text, start, start + len(core)))
        if cut is not None:
            for end in view.ends():
                for word in (*self._words, *self._encoded):
                    if kept := _stump(view.text, word, end):
                        start = end - kept
                        if word in self._encoded:
                            start, _ = _whole_base64(view.text, start, end)
                        yield view.origin(start, end)[0], cut


def _places(text: str, word: str) -> Iterator[int]:
    start = text.find(word)
    while start >= 0:
        yield start
        # From the next character on, not from the end of this one: a secret may overlap itself.
        start = text.find(word, start + 1)


def _lines(secret: str) -> Iterator[str]:
    """The long lines that a secret is made of."""
    if len(lines := secret.splitlines()) > 1:
        yield from (line for each in lines if len(line := each.strip()) >= MIN_LINE)


def _cores(secret: str) -> Iterator[str]:
    """What base64 makes of a secret, wherever it begins in what is encoded.

    That is all but the characters at its ends, which depend on what is beside it too. In the alphabet of RFC 4648,
    and in that for URLs.
    """
    data = secret.encode(errors="replace")
    if len(data) < MIN_SECRET:
        return
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + data + bytes(-(before + len(data)) % 3)).decode()
        core = encoded[-(-8 * before // 6) : 8 * (before + len(data)) // 6]
        yield core
        yield core.replace("+", "-").replace("/", "_")


def _whole_base64(text: str, start: int, stop: int) -> tuple[int, int]:
    """All that is encoded together with what is there."""
    before, after = text[max(start - _LONGEST_BASE64, 0) : start], text[stop : stop + _LONGEST_BASE64]
    start -= len(before) - len(before.rstrip(_BASE64))
    stop += len(after) - len(after.lstrip(_BASE64))
    return start, stop + len(text[stop : stop + 2]) - len(text[stop : stop + 2].lstrip("="))


def _number(secret: str) -> decimal.Decimal | None:
    if len(secret) < MIN_SECRET:
        return None
    try:
        number = decimal.Decimal(secret)
    except decimal.InvalidOperation:
        return None
    return number if number.is_finite() else None


def _stump(text: str, word: str, end: int) -> int:
    """How many characters before `end` are the beginning of `word`; 0 for fewer than `MIN_STUMP`."""
    begin = word[:MIN_STUMP]
    start = text.find(begin, max(end - len(word) + 1, 0), end)
    while start >= 0:
        if word.startswith(text[start:end]):
            return end - start
        start = text.find(begin, start + 1, end)
    return 0
