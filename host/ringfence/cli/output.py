"""What commands print: tables for people, one JSON document for machines, and no control characters.

Threat: a script's output, a satellite's name or a reason that somebody typed may hold escape sequences that
rewrite the screen, retitle the window or make a terminal answer as if the user had typed. Mechanism: whatever
comes from elsewhere passes through `plain`, no string is read as markup, and JSON is escaped to ASCII. Not
covered: a script's output that the user sends to a file or a pipe, which is passed on as it was written.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ringfence.cli.errors import CliError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

GOOD = "green"
BAD = "red"
WARN = "yellow"
DIM = "dim"
STRONG = "bold"

PIPE_WIDTH = 200
_KEPT_CONTROLS = frozenset("\n\t")
_SPELLED_OUT = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories: controls, invisible formatting, surrogates, and the separators that break lines."""


_for_machines = False
"""Whether the command that runs was given `--json`, as far as its command line has been understood."""


def plain(value: object) -> str:
    """`value` as text in which every control or invisible formatting character is spelled out.

    Newlines and tabs stay; surrogates, which no terminal can be sent, are spelled out too.
    """
    return "".join(_plain(character) for character in str(value))


def line(value: object) -> str:
    """`plain`, on one line."""
    return plain(value).replace("\n", "\\n").replace("\t", "\\t")


def _plain(character: str) -> str:
    if character in _KEPT_CONTROLS or unicodedata.category(character) not in _SPELLED_OUT:
        return character
    return character.encode("unicode_escape").decode("ascii")


def console(*, stderr: bool = False) -> Console:
    """A console that takes every string literally. Tables and results go to stdout, the rest to stderr.

    In a pipe there is no width to keep to, so that `grep` finds whole lines.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(stderr=stderr, width=width, markup=False, highlight=False, emoji=False)


def say(text: str, *, style: str | None = None) -> None:
    """One line of result, to stdout."""
    console().print(text, style=style, soft_wrap=True)


def note(text: str, *, style: str | None = None) -> None:
    """One line that is not the result (progress, advice), to stderr."""
    console(stderr=True).print(text, style=style, soft_wrap=True)


def tell_machines(wanted: bool) -> bool:
    """Have failures told as JSON too, if that is `wanted`: the callback of each `--json`."""
    global _for_machines
    _for_machines = wanted
    return wanted


def show_error(error: CliError) -> None:
    """Say what went wrong and what to do, on stderr; and on stdout, for machines, as one line of JSON."""
    from rich.text import Text

    show_error_to_machines(error)
    stderr = console(stderr=True)
    stderr.print(Text.assemble(("error: ", f"{STRONG} {BAD}"), plain(error.message)), soft_wrap=True)
    if error.hint:
        stderr.print(Text(plain(error.hint)), soft_wrap=True)


def show_error_to_machines(error: CliError) -> None:
    """One line of JSON on stdout, if the command was given `--json`."""
    if _for_machines:
        sys.stdout.write(json.dumps(error.document(), ensure_ascii=True, default=str) + "\n")
        sys.stdout.flush()


def print_json(document: object) -> None:
    """Print exactly one JSON document, in ASCII, to stdout."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=True, default=str) + "\n")
    sys.stdout.flush()


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[RenderableType]], *, title: str | None = None
) -> None:
    """A table on stdout; cells that are strings are shown literally and made plain."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(plain(cell) if isinstance(cell, str) else cell for cell in row))
    console().print(table)


def show_facts(facts: Iterable[tuple[str, RenderableType]]) -> None:
    """Names and values in two columns on stdout."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style=DIM)
    grid.add_column(overflow="fold")
    for name, value in facts:
        grid.add_row(name, plain(value) if isinstance(value, str) else value)
    console().print(grid)


def when(value: object, *, now: dt.datetime | None = None) -> str:
    """An ISO 8601 time as local time and how long ago that was; a dash for none."""
    moment = _moment(value)
    return (
        moment
        if isinstance(moment, str)
        else f"{moment.astimezone():%Y-%m-%d %H:%M:%S} ({ago(value, now=now)})"
    )


def ago(value: object, *, now: dt.datetime | None = None) -> str:
    """How long ago an ISO 8601 time was; a dash for none."""
    moment = _moment(value)
    if isinstance(moment, str):
        return moment
    return _age(((now or dt.datetime.now(dt.UTC)) - moment).total_seconds())


def _moment(value: object) -> dt.datetime | str:
    """The moment, or what to show where there is none."""
    if not isinstance(value, str) or not value:
        return "–"
    try:
        moment = dt.datetime.fromisoformat(value)
    except ValueError:
        return line(value)
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def _age(seconds: float) -> str:
    if seconds < 0:
        return "in the future"
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit} ago"
    return f"{int(seconds)} s ago"
