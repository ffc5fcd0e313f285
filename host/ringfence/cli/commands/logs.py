"""`ringfence logs`: what the host, and the agent beside it, have logged on this machine."""

from __future__ import annotations

import datetime as dt
import os
from collections import deque
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ringfence.cli import output
from ringfence.cli.commands.on_database import DataDirOption
from ringfence.cli.completing import names_here
from ringfence.cli.given.durations import duration
from ringfence.cli.log_lines import Line, Wanted
from ringfence.cli.log_sources import follow, history, source
from ringfence.cli.options import AsJson, asks_no_host
from ringfence.process import kept_logs
from ringfence.process.errors import CliError, UsageMistake
from ringfence.storage.datadir import DataDirError, default_data_dir

LINES = 100
_STYLES = {"error": output.BAD, "warning": output.WARN, "debug": output.DIM}
_SHOWN = frozenset({"timestamp", "level", "event", "exception"})


class Level(StrEnum):
    """From which level on lines are shown."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@asks_no_host
def logs(
    follows: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")
    ] = False,
    lines: Annotated[
        int | None,
        typer.Option(
            "--lines",
            "-n",
            min=0,
            help="How many of the newest lines.",
            show_default="100; with --since: all",
        ),
    ] = None,
    level: Annotated[
        Level | None, typer.Option(help="Lines of this level and above.", show_default="all")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="SPAN|TIME", help="Lines since then: 30m, 2h, or 2026-03-01T12:00.", show_default="all"
        ),
    ] = None,
    run: Annotated[
        str | None, typer.Option(metavar="ID", help="Lines about this run.", show_default="all")
    ] = None,
    request: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Lines of this request: its X-Request-ID.", show_default="all"),
    ] = None,
    program: Annotated[
        str | None,
        typer.Option(
            metavar="PROGRAM",
            help="`host` or `agent`.",
            autocompletion=names_here(lambda: ("host", "agent")),
            show_default="both",
        ),
    ] = None,
    data_dir: DataDirOption = None,
    as_json: AsJson = False,
) -> None:
    """Show what the host of a data directory has logged, and the agent that keeps its state there.

    They are read where they are kept: in files of the directory, or in the journal under a unit of systemd. What has
    happened is told by `ringfence events`.
    """
    directory = _directory(data_dir)
    kept = [one for one in kept_logs.found(directory) if program is None or one.of(program)]
    if not kept:
        raise CliError(
            f"no host or agent has kept a log in {directory}",
            hint="Name its directory with --data-dir. One that was started elsewhere logs to where its stderr goes.",
        )
    wanted = Wanted(
        None if level is None else level.value, None if since is None else _moment(since), run, request
    )
    most = lines if lines is not None else None if since is not None else LINES
    sources = [source(one, wanted.since) for one in kept]
    try:
        _show(deque(_those(history(sources), wanted), most), as_json)
        if follows:
            _show(_those(follow(sources), wanted), as_json)
    finally:
        for one in sources:
            one.close()


def _directory(data_dir: Path | None) -> Path:
    if data_dir is not None:
        return data_dir.absolute()
    try:
        return Path(os.environ.get("RINGFENCE_DATA_DIR") or default_data_dir()).expanduser().absolute()
    except DataDirError as error:
        raise UsageMistake(str(error)) from error


def _moment(text: str) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        try:
            return dt.datetime.now(dt.UTC) - dt.timedelta(seconds=duration(text))
        except (typer.BadParameter, OverflowError):
            raise UsageMistake(
                f"--since takes a span of time such as 30m, or a time such as 2026-03-01T12:00, not {text!r}"
            ) from None
    return moment.astimezone()


def _those(lines: Iterable[Line], wanted: Wanted) -> Iterator[Line]:
    return (line for line in lines if wanted.has(line))


def _show(lines: Iterable[Line], as_json: bool) -> None:
    for line in lines:
        if as_json:
            output.print_entry({"program": line.program, "level": line.level, **line.fields})
        else:
            output.say(_text(line), style=_STYLES.get(line.level))


def _text(line: Line) -> str:
    """A line for people. Pure."""
    more = " ".join(f"{name}={value}" for name, value in line.fields.items() if name not in _SHOWN)
    text = output.line(
        f"{line.at.astimezone():%Y-%m-%d %H:%M:%S} {line.level:<7} {line.fields.get('event')}  {more}"
    )
    exception = line.fields.get("exception")
    return text.rstrip() + (f"\n{output.plain(exception)}" if exception else "")
