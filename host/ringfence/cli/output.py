"""What commands print: tables for people, one JSON document for machines, and no control characters.

Threat: a script's output, a satellite's name or a reason that somebody typed may hold escape sequences that
rewrite the screen, retitle the window or make a terminal answer as if the user had typed. Mechanism: whatever
comes from elsewhere passes through `plain`, no string is read as markup, and JSON is escaped to ASCII. Not
covered: a script's output that the user sends to a file or a pipe, which is passed on as it was written.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from ringfence.cli import documents
from ringfence.process.errors import CliError
from ringfence.process.terminal import console as console
from ringfence.process.terminal import line as line
from ringfence.process.terminal import plain as plain

if TYPE_CHECKING:
    from rich.text import Text

    Cell = str | Text

GOOD = "green"
BAD = "red"
WARN = "yellow"
DIM = "dim"
STRONG = "bold"

LINES_AT_ONCE = 200
TAB_CELLS = 8

_for_machines = False
"""Whether the command that runs is to answer in JSON or YAML, as far as its command line has been understood."""

_asked: documents.Format | None = None
"""What was given as `--output`, until it is known whether `--json` was, too."""

_format: documents.Format | None = None
"""In which format the command that runs prints its results; None: for people."""


def say(text: str, *, style: str | None = None) -> None:
    """One line of result, to stdout."""
    console().print(text, style=style, soft_wrap=True)


def note(text: str, *, style: str | None = None) -> None:
    """One line that is not the result (progress, advice), to stderr."""
    console(stderr=True).print(text, style=style, soft_wrap=True)


def begin(for_machines: bool) -> None:
    """Begin another command line; failures are told as JSON too, if it seems to ask for that."""
    global _for_machines, _format, _asked
    _for_machines, _format, _asked = for_machines, None, None


def choose(format: documents.Format | None) -> None:
    """Print results in that format: the callback of each `--output`, before that of `--json`."""
    global _asked
    _asked = format


def tell_machines(wanted: bool) -> bool:
    """Whether to print a document, as `--json` or `--output` says: the callback of each `--json`.

    Failures are told as JSON too, then, unless names alone are asked for.
    """
    global _for_machines, _format, _asked
    # What one command was given is not for the next one.
    _format, _asked = _asked or (documents.Format.JSON if wanted else None), None
    _for_machines = _format in {documents.Format.JSON, documents.Format.YAML}
    return _format not in {None, documents.Format.TABLE}


def show_error(error: CliError) -> None:
    """Say what went wrong and what to do, on stderr; and on stdout, for machines, as one line of JSON."""
    from rich.text import Text

    show_error_to_machines(error)
    stderr = console(stderr=True)
    stderr.print(Text.assemble(("error: ", f"{STRONG} {BAD}"), plain(error.message)), soft_wrap=True)
    if error.hint:
        stderr.print(Text(plain(error.hint)), soft_wrap=True)


def show_error_to_machines(error: CliError) -> None:
    """One line of JSON, which is YAML too, on stdout, if the command answers in either."""
    if _for_machines:
        sys.stdout.write(json.dumps(error.document(), ensure_ascii=True, default=str) + "\n")
        sys.stdout.flush()


def print_json(document: object) -> None:
    """Print exactly one document to stdout, as `--output` says: as JSON in ASCII, as YAML, or its names alone."""
    sys.stdout.write(documents.written(document, _format or documents.Format.JSON))
    sys.stdout.flush()


def print_entry(document: object) -> None:
    """The same for one of many that come one after another: on one line, or as a YAML document of its own."""
    sys.stdout.write(documents.entry(document, _format or documents.Format.JSON))
    sys.stdout.flush()


def show_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    title: str | None = None,
    spare: Sequence[str] = (),
) -> None:
    """A table on stdout; cells that are strings are shown literally and made plain.

    Where a terminal is too narrow, long texts are folded between words, then columns in `spare` are left out, and then
    each row is shown as facts. In a pipe every line is as long as it is, so that `grep` finds whole lines.
    """
    from ringfence.cli import tables

    cells = [[_text(cell) for cell in row] for row in rows]
    room = _room()
    shape = tables.fitted(columns, cells, room, spare)
    if title is not None:
        say(title, style=STRONG)
    if shape is None:
        _print(tables.record_lines(columns, cells, room))
        return
    _print(tables.table_lines(columns, cells, shape, rule=_rule()))
    if shape.left_out:
        note(f"Hidden to fit the terminal: {', '.join(shape.left_out)}.", style=DIM)


def show_facts(facts: Iterable[tuple[str, Cell]]) -> None:
    """Names and values in two columns on stdout."""
    from ringfence.cli import tables

    _print(tables.fact_lines([(name, _text(value)) for name, value in facts], _room()))


def _text(cell: Cell) -> Text:
    from rich.text import Text

    text = Text(plain(cell)) if isinstance(cell, str) else cell
    if "\t" in text.plain:
        text = text.copy()
        text.expand_tabs(TAB_CELLS)
    return text


def _room() -> int:
    """How many cells wide stdout is; in a pipe, as many as are wanted."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize


def _rule() -> str:
    """What a line across is drawn with."""
    return "-" if console().options.ascii_only else "─"


def _print(lines: Iterable[Text]) -> None:
    from rich.text import Text

    stdout, remaining = console(), iter(lines)
    if stdout.color_system is None:  # as in a pipe: what rich would make of each line is the line
        stdout.file.writelines(f"{text.plain}\n" for text in remaining)
        return
    # Many at once, since each call costs more than a line.
    while part := list(islice(remaining, LINES_AT_ONCE)):
        stdout.print(Text("\n").join(part), soft_wrap=True)


def when(value: object, *, now: dt.datetime | None = None) -> str:
    """An ISO 8601 time as local time and how long ago that was; a dash for none."""
    moment = _moment(value)
    return (
        moment
        if isinstance(moment, str)
        else f"{moment.astimezone():%Y-%m-%d %H:%M:%S} ({ago(value, now=now)})"
    )


def clock(value: object) -> str:
    """An ISO 8601 time as the local time of day; a dash for none."""
    moment = _moment(value)
    return moment if isinstance(moment, str) else f"{moment.astimezone():%H:%M:%S}"


def ago(value: object, *, now: dt.datetime | None = None) -> str:
    """How long ago an ISO 8601 time was, or how soon it comes; a dash for none."""
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
    length, unit = next(
        (one for one in ((86_400, "d"), (3_600, "h"), (60, "min")) if abs(seconds) >= one[0]), (1, "s")
    )
    span = f"{int(abs(seconds) // length)} {unit}"
    return f"in {span}" if seconds < 0 else f"{span} ago"
