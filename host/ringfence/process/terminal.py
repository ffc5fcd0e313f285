"""Text for a terminal: what comes from elsewhere cannot steer it.

Threat: a script's output, a satellite's name or a reason that somebody typed may hold escape sequences that
rewrite the screen, retitle the window or make a terminal answer as if the user had typed. Mechanism: whatever
comes from elsewhere passes through `plain`, and no string is read as markup.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_KEPT_CONTROLS = frozenset("\n\t")
_SPELLED_OUT = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories: controls, invisible formatting, surrogates, and the separators that break lines."""


def plain(value: object) -> str:
    """`value` as text in which every control or invisible formatting character is spelled out.

    Newlines and tabs stay; surrogates, which no terminal can be sent, are spelled out too.
    """
    text = str(value)
    # What Python takes for printable holds none of these categories, and most texts are.
    return text if text.isprintable() else "".join(map(_plain, text))


def line(value: object) -> str:
    """`plain`, on one line."""
    return plain(value).replace("\n", "\\n").replace("\t", "\\t")


def _plain(character: str) -> str:
    if character in _KEPT_CONTROLS or unicodedata.category(character) not in _SPELLED_OUT:
        return character
    return character.encode("unicode_escape").decode("ascii")


def console(*, stderr: bool = False) -> Console:
    """A console that takes every string literally. Tables and results go to stdout, the rest to stderr.

    What is printed on it should be as wide as it is (`soft_wrap`): the terminal's own folding can be copied.
    """
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)
