"""What a reader types: the statements of a block, and what the block shows of their output."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from tests.documents.blocks import Block

SHELLS = frozenset({"sh", "bash", "console"})
"""The languages of blocks that a reader types."""

_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")


@dataclass(frozen=True)
class Statement:
    """One statement, and what is shown of its output; None where nothing is."""

    text: str
    shown: str | None = None

    @property
    def words(self) -> list[str] | None:
        """Its words, if it is a `ringfence` of which a shell makes nothing else."""
        if not self.text.startswith("ringfence ") or _has_syntax(self.text):
            return None
        return shlex.split(self.text, comments=True)


def statements(block: Block) -> list[Statement]:
    """The statements of a block that a reader types, in order."""
    if block.language != "console":
        return [Statement(one) for one in whole(block.text)]
    before, *parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    assert not before, f"{block.place}: a console begins with `$ `"
    found = []
    for part in parts:
        lines = part.splitlines(keepends=True)
        count = next(one for one in range(1, len(lines) + 1) if is_whole("".join(lines[:one])))
        found.append(Statement("".join(lines[:count]).strip(), "".join(lines[count:])))
    return found


def whole(text: str) -> Iterator[str]:
    """The fewest lines each that a shell takes as a whole."""
    collected = ""
    for line in text.splitlines(keepends=True):
        collected += line
        if collected.strip() and is_whole(collected):
            if shlex.split(collected, comments=True):  # or else a comment alone
                yield collected.strip()
            collected = ""
    assert not collected.strip(), f"no shell takes this as a whole: {collected}"


def is_whole(text: str) -> bool:
    """Whether a shell would wait for no more lines."""
    if text.endswith("\\\n"):
        return False
    looked = subprocess.run(["bash", "-n", "-c", text], capture_output=True, text=True)
    return looked.returncode == 0 and "here-document" not in looked.stderr


def ringfences(text: str) -> Iterator[list[str]]:
    """The arguments of every `ringfence` in a shell's text, wherever it stands in it."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="();<>|&\n`")
    lexer.whitespace = " \t"
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words: list[str] = []
    starts, at = True, False
    for token in lexer:
        if set(token) <= set("();<>|&\n`$"):
            if at:
                yield words
            words, starts, at = [], not set(token) & set("<>"), False
        elif at:
            words.append(token)
        elif starts and token in (
            "ringfence",
            ".venv/bin/ringfence",
            "sudo",
            "exec",
            "then",
            "do",
            "if",
            "!",
        ):
            at = token.endswith("ringfence")
        elif starts and not re.match(r"\w+=", token):
            starts = False
    if at:
        yield words


def fits(shown: str, printed: str, beside: str = "") -> bool:
    """Whether output is what a block shows: `…` is anything within a line, or any lines, and ids are all alike.

    Of standard error (`beside`), a block shows as many lines as it likes, between the others.
    """
    at_the_side = _UUID.sub("ID", beside).splitlines()
    pattern = ""
    for line in _UUID.sub("ID", shown).splitlines():
        like = rf"{re.escape(line).replace('…', '.*')}[ \t]*"
        if line.strip() == "…":
            pattern += r"(?:.*\n)*"
        elif not any(re.fullmatch(like, one) for one in at_the_side):
            pattern += rf"{like}\n"
    return re.fullmatch(pattern, _UUID.sub("ID", printed)) is not None


def _has_syntax(text: str) -> bool:
    """Whether a shell would do more with it than split it."""
    bare = re.sub(r"'[^']*'", "", re.sub(r"(?<=\s)#.*", "", text))
    return bool(re.search(r"[$`]", bare) or re.search(r"[;<>|&*~{}()]", re.sub(r'"[^"]*"', "", bare)))
