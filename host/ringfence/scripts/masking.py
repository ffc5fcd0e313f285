"""Secrets are blotted out of whatever a run gives back, before anybody else sees it.

Threat: a script prints the secret that it was given (`set -x`, a debug line, a URL in an error), and the output is
stored, shown and logged. Mechanism: a run's output is masked as a whole, after it was collected, so that it does not
matter in how many pieces the script wrote it; overlapping secrets are blotted out together; and where the run was cut
short, so is the beginning of a secret that the cut left at the end. Not covered: a script that *wants* to tell, for it
can encode (base64, hexadecimal, reversed, one character a line). Masking keeps accidents out of sight; what keeps a
secret from a script is not to name it for that script, and what keeps it from the network is the policy.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

MASK = "***"
"""What stands in place of a secret."""
MIN_SECRET = 6
"""The least characters that a secret should have: a shorter one is masked too, but so is other text then."""
MIN_LINE = 8
"""A line of a secret of several lines is masked by itself too, if it has at least so many characters."""
MIN_STUMP = 4
"""The least characters of a secret's beginning that are masked at the end of output that was cut off."""


class Mask:
    """Blots out `secrets`. Empty ones are left aside: they would be everywhere."""

    __slots__ = ("_words",)

    def __init__(self, secrets: Iterable[str]) -> None:
        self._words = tuple(sorted({word for secret in secrets for word in _words(secret)}))

    def __bool__(self) -> bool:
        """Whether there is anything to blot out."""
        return bool(self._words)

    def text(self, text: str, *, cut: bool = False) -> str:
        """`text` with `MASK` for each stretch of it that is a secret. `cut`: its end is where somebody cut it off."""
        spans = sorted(self._spans(text, cut))
        kept: list[str] = []
        end = 0
        for start, stop in spans:
            if start >= end:
                kept += (text[end:start], MASK)
            end = max(end, stop)
        return "".join((*kept, text[end:]))

    def value(self, value: object) -> object:
        """A JSON value with every text in it masked, the names of its members included."""
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self.text(str(name)): self.value(member) for name, member in value.items()}
            case list():
                return [self.value(member) for member in value]
            case _:
                return value

    def _spans(self, text: str, cut: bool) -> Iterator[tuple[int, int]]:
        for word in self._words:
            start = text.find(word)
            while start >= 0:
                yield start, start + len(word)
                # From the next character on, not from the end of this one: a secret may overlap itself.
                start = text.find(word, start + 1)
            if cut and (length := _stump(text, word)):
                yield len(text) - length, len(text)


def _words(secret: str) -> Iterator[str]:
    """What is looked for: the secret, without the blanks around it, and the long lines that it is made of."""
    if word := secret.strip():
        yield word
    if len(lines := secret.splitlines()) > 1:
        yield from (line for each in lines if len(line := each.strip()) >= MIN_LINE)


def _stump(text: str, word: str) -> int:
    """How many characters at the end of `text` are the beginning of `word`; 0 for fewer than `MIN_STUMP`."""
    for length in range(min(len(word) - 1, len(text)), MIN_STUMP - 1, -1):
        if text.endswith(word[:length]):
            return length
    return 0
