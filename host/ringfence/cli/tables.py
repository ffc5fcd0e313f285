"""Tables and facts as lines of text, in the room that there is: nothing is cut, and no word is broken in two.

What people copy (a name, an id, a revision, an address) is one word, and a terminal gives a word back in one piece only
if no line feed of ours is in it. So long texts fold between words alone; then columns are left out that the caller can
spare, and named; and then each row becomes a list of facts. A word that is longer than a line is left to the terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich.cells import cell_len
from rich.text import Span, Text

COMFORT = 16
"""A text may be folded to so many cells, or to its longest word; not further, since nobody would like to read that."""

GAP = 2
STRONG = "bold"
DIM = "dim"


@dataclass(frozen=True, slots=True)
class Fitted:
    """A table that fits: which columns, how wide each is, and which were left out."""

    columns: tuple[int, ...]
    widths: tuple[int, ...]
    left_out: tuple[str, ...]


def fitted(
    columns: Sequence[str], rows: Sequence[Sequence[Text]], room: int, spare: Sequence[str]
) -> Fitted | None:
    """How to show a table in `room` cells, without as few of the columns in `spare` (the first to go first) as can be.

    None if it does not fit in any way.
    """
    for count in range(len(spare) + 1):
        left_out = tuple(name for name in columns if name in spare[:count])
        kept = tuple(index for index, name in enumerate(columns) if name not in left_out)
        cells = [[Text(columns[index]), *(row[index] for row in rows)] for index in kept]
        natural = [max(map(_width, column)) for column in cells]
        space = room - GAP * (len(kept) - 1)
        if sum(natural) <= space:  # as in a pipe, and most of the time: nothing need be known of the words
            return Fitted(kept, tuple(natural), left_out)
        widths = _narrowed(natural, [max(map(_longest_word, column)) for column in cells], space)
        if widths is not None:
            return Fitted(kept, widths, left_out)
    return None


def _narrowed(natural: Sequence[int], least: Sequence[int], room: int) -> tuple[int, ...] | None:
    """The widths with the widest made narrower until all are in `room`; None if that is more than they bear."""
    widths = list(natural)
    least = [min(one, max(COMFORT, word)) for one, word in zip(natural, least, strict=True)]
    while sum(widths) > room:
        spacious = [index for index, width in enumerate(widths) if width > least[index]]
        if not spacious:
            return None
        widths[max(spacious, key=lambda index: widths[index])] -= 1
    return tuple(widths)


def table_lines(
    columns: Sequence[str], rows: Sequence[Sequence[Text]], shape: Fitted, *, rule: str
) -> Iterator[Text]:
    """The header, a line of `rule`, and the rows."""
    yield from _row([Text(columns[index], style=STRONG) for index in shape.columns], shape.widths)
    yield Text(rule * (sum(shape.widths) + GAP * (len(shape.widths) - 1)))
    for row in rows:
        yield from _row([row[index] for index in shape.columns], shape.widths)


def record_lines(columns: Sequence[str], rows: Sequence[Sequence[Text]], room: int) -> Iterator[Text]:
    """Each row as facts, those that are empty left out, with an empty line between rows."""
    for number, row in enumerate(rows):
        if number:
            yield Text()
        facts = zip(columns, row, strict=True)
        yield from fact_lines([(name, value) for name, value in facts if value.plain], room)


def fact_lines(facts: Sequence[tuple[str, Text]], room: int) -> Iterator[Text]:
    """Names and values; a value that does not fit beside the names is on lines of its own."""
    names = max((cell_len(name) for name, _ in facts), default=0)
    for name, value in facts:
        label = Text(name, style=DIM)
        beside = room - names - GAP
        if _width(value) <= beside or (_longest_word(value) <= beside >= COMFORT):
            yield from _row([label, value], (names, beside))
        else:
            yield label
            yield from _row([Text(), value], (0, room - GAP))


def _row(cells: Sequence[Text], widths: Sequence[int]) -> Iterator[Text]:
    if all(_is_line(cell, width) for cell, width in zip(cells, widths, strict=True)):
        yield _line(cells, widths)
        return
    folded = [_folded(cell, width) for cell, width in zip(cells, widths, strict=True)]
    for parts in zip_longest(*folded):
        line = Text()
        column = 0
        for part, width in zip(parts, widths, strict=True):
            if part:
                line.append(" " * (column - line.cell_len)).append_text(part)
            column += width + GAP
        line.rstrip()
        yield line


def _is_line(cell: Text, width: int) -> bool:
    return "\n" not in cell.plain and cell_len(cell.plain) <= width


def _line(cells: Sequence[Text], widths: Sequence[int]) -> Text:
    """What most rows are: one line, which is made some ten times as fast from strings as from texts."""
    line, spans, room = "", list[Span](), 0
    for cell, width in zip(cells, widths, strict=True):
        text = cell.plain
        if text:
            line += " " * room  # only now: nothing may come, and a last column may be as wide as it likes
            if cell.style:
                spans.append(Span(len(line), len(line) + len(text), cell.style))
            spans += [Span(len(line) + span.start, len(line) + span.end, span.style) for span in cell.spans]
            line, room = line + text, 0
        room += width + GAP - cell_len(text)
    found = Text(line, spans=spans)
    found.rstrip()
    return found


def _folded(cell: Text, width: int) -> Iterator[Text]:
    """The cell's lines, folded before each word that goes beyond `width`; a word that is wider stands alone."""
    if _is_line(cell, width):
        yield cell
        return
    for line in cell.split(allow_blank=True):
        folds: list[int] = []
        start = end = 0
        for word in re.finditer(r"\S+", line.plain):
            if end and cell_len(line.plain[start : word.end()]) > width:
                folds.append(word.start())
                start = word.start()
            end = word.end()
        yield from line.divide(folds)


def _width(cell: Text) -> int:
    return max(cell_len(line) for line in cell.plain.split("\n"))


def _longest_word(cell: Text) -> int:
    """The width of the longest piece that folding leaves whole; leading spaces belong to the first word."""
    return max((cell_len(word) for word in re.findall(r"^ *\S+|\S+", cell.plain, re.MULTILINE)), default=0)
