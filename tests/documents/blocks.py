"""The fenced blocks of the documents, and what comments that no reader sees say of how a test runs them.

A comment stands right before its block, and is one of these. With words in quotes it is about the commands of the block
that begin with them, and without about all of them:

    <!-- not run: WHY -->                     it is parsed alone: commands and options have to be there
    <!-- not run "ringfence up": WHY -->
    <!-- first: COMMANDS -->                  what is done before, for the block to have what it is about
    <!-- given "ringfence secret set": TEXT -->   what stands on its standard input
    <!-- asked "ringfence policy": y -->      what is typed at its terminal, whenever it asks
    <!-- status "ringfence check run": 1 -->  how it ends, if not with 0
    <!-- background "ringfence agent": TEXT -->   it goes on beside the others once it has said that
    <!-- again "ringfence runs": WHY -->      it is typed again until it shows what the page does
    <!-- here: TEXT = COMMAND -->             what stands in place of that text, from where it comes first
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

_COMMENT = re.compile(r"<!--(.*?)-->", re.DOTALL)
_FENCE = re.compile(
    r"(?P<comments>(?:^ *<!--(?:(?!-->).)*-->\s*\n)*)"
    r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


class Said(StrEnum):
    """What a comment says of the block after it."""

    NOT_RUN = "not run"
    FIRST = "first"
    GIVEN = "given"
    ASKED = "asked"
    STATUS = "status"
    BACKGROUND = "background"
    AGAIN = "again"
    HERE = "here"


_MARK = re.compile(rf"\s*({'|'.join(Said)})(?: \"([^\"]+)\")?:\s(.*)", re.DOTALL)


@dataclass(frozen=True)
class Mark:
    """One comment: `about` is how the commands begin that it is about, and empty for all of them."""

    said: Said
    about: str
    text: str


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    language: str
    file: str | None
    """What the reader is to call it, where the block is a file."""
    text: str
    marks: tuple[Mark, ...]

    def said(self, what: Said, statement: str = "") -> Mark | None:
        """The mark of that kind that is about a statement."""
        fitting = (one for one in self.marks if one.said is what and statement.startswith(one.about))
        return next(fitting, None)

    @property
    def place(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    return list(_blocks(page, page.read_text()))


def _blocks(page: Path, markdown: str) -> Iterator[Block]:
    for found in _FENCE.finditer(markdown):
        language, _, named = found["info"].strip().partition(" ")
        indent = found["indent"]
        text = re.sub(rf"^{indent}", "", found["text"], flags=re.MULTILINE)
        line = markdown[: found.start("indent")].count("\n") + 1
        marks = tuple(_marks(found["comments"]))
        yield Block(page, line, language, named.strip().removeprefix("file=") or None, text, marks)


def _marks(comments: str) -> Iterator[Mark]:
    for comment in _COMMENT.findall(comments):
        if mark := _MARK.fullmatch(comment.strip()):
            yield Mark(Said(mark[1]), mark[2] or "", mark[3].strip())
