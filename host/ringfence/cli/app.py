"""The command's entry point: its groups, its global options, and how every failure is told."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import io
import itertools
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
import typer.core
from typer.core import TyperGroup

from ringfence.cli import chosen, options, output, process_end
from ringfence.cli.address import local_data_dir
from ringfence.cli.command_tree import Commands, plugged
from ringfence.cli.given.scripts import WrongCommandLine
from ringfence.process import settings_file, standard_streams
from ringfence.process.errors import FAILURE, INTERRUPTED, CliError, UsageMistake
from ringfence.process.variables import unknown_without_a_host
from ringfence.refusals import in_words

NARROW_COLUMNS = 72
"""In less than so many columns, help and mistakes are told as plain text."""


class _Root(TyperGroup):
    """All commands, the host's own and those of plugins.

    What is wrong with a command line typer tells to people, and Ctrl-C to nobody; here machines are told, too.
    """

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.commands = Commands(plugged())

    def make_context(self, *args: Any, **more: Any) -> Any:
        # In a narrow terminal, boxes leave so little room that names of options are cut off.
        typer.core.HAS_RICH = shutil.get_terminal_size().columns >= NARROW_COLUMNS
        with _told_to_machines():
            return super().make_context(*args, **more)

    def invoke(self, ctx: Any) -> Any:
        with _told_to_machines():
            return super().invoke(ctx)


@contextlib.contextmanager
def _told_to_machines() -> Iterator[None]:
    try:
        yield
    except WrongCommandLine as error:
        _put_into_words(error)
        command = error.ctx.command_path if error.ctx else app.info.name
        output.show_error_to_machines(UsageMistake(error.format_message(), hint=f"See: {command} --help"))
        raise
    except KeyboardInterrupt:
        output.show_error_to_machines(CliError("interrupted", exit_code=INTERRUPTED))
        raise


def _put_into_words(error: Any) -> None:
    """Have a value that typer's models refuse told in plain words."""
    if error.__cause__ is not None and hasattr(error.__cause__, "errors"):
        first = error.__cause__.errors(include_url=False, include_input=False)[0]
        error.message = f"it {in_words(first)}" if first["type"] != "value_error" else in_words(first)


app = typer.Typer(
    name="ringfence",
    cls=_Root,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_TELL_THEMSELVES = frozenset({"up", "agent", "settings"})
"""The commands that tell of variables that are no settings in their own way: in their log, or in their list."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What is told where nothing more can be written (write(2))."""

_debug = False
"""Whether the command line that runs asks for tracebacks; it is known before anything can go wrong."""


def _show_version(wanted: bool) -> None:
    if wanted:
        output.say(f"ringfence {importlib.metadata.version('ringfence')}")
        raise typer.Exit


@app.callback()
def _global_options(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="RINGFENCE_DEBUG", help="Show tracebacks of unexpected errors.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=options.PROFILE,
            autocompletion=options.PROFILES,
            show_default=False,
            rich_help_panel=options.PANEL,
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help=options.URL, show_default=False, rich_help_panel=options.PANEL),
    ] = None,
    token_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help=options.TOKEN_FILE, show_default=False, rich_help_panel=options.PANEL
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help=options.DATA_DIR, show_default=False, rich_help_panel=options.PANEL),
    ] = None,
    ca_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Certificates (PEM) of authorities to trust beside the system's.",
            show_default=False,
            rich_help_panel=options.PANEL,
        ),
    ] = None,
    client_cert: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Certificate (PEM) to show where a proxy before the host asks for one.",
            show_default=False,
            rich_help_panel=options.PANEL,
        ),
    ] = None,
    client_key: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Key (PEM) of that certificate, if its file does not hold it.",
            show_default=False,
            rich_help_panel=options.PANEL,
        ),
    ] = None,
) -> None:
    """Run scripts inside an OS-level sandbox, under one durable policy that reaches every satellite.

    Which host a command talks to: what an option says, else what the environment says (RINGFENCE_URL,
    RINGFENCE_PROFILE, RINGFENCE_DATA_DIR), else the host that was signed in to last, else the one on this machine.
    """
    del version
    chosen.forget()
    chosen.choose(
        profile=profile,
        url=url,
        token_file=token_file,
        ca_file=ca_file,
        client_cert=client_cert,
        client_key=client_key,
    )
    options.use_data_dir(data_dir)
    global _debug
    _debug = debug
    if context.invoked_subcommand != "up" and data_dir is None:
        settings_file.apply(local_data_dir())
    if context.invoked_subcommand != "up":
        _debug = debug or settings_file.applied().get("RINGFENCE_DEBUG", "0") not in {"0", "false"}
    if context.invoked_subcommand not in _TELL_THEMSELVES:
        for one in unknown_without_a_host(os.environ):
            output.note(output.line(one), style=output.WARN)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line, by default this process's, and exit with its status.

    A traceback is shown only with --debug.
    """
    # Whoever started us may ignore it, and what we start could not be waited for then (waitpid(2), ECHILD).
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    standard_streams.open_closed()
    try:
        _run(arguments)
    except SystemExit as ended:
        process_end.exit_now(ended.code)
        raise
    finally:
        chosen.forget()


def _run(arguments: Sequence[str] | None) -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    given = sys.argv[1:] if arguments is None else list(arguments)
    output.begin(_mentions_json(given))
    try:
        app(args=given, prog_name="ringfence")
    except CliError as error:
        _fail(error)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        _silence_stdout()
        sys.exit(FAILURE)
    except OSError as error:
        if error.errno not in _FULL:
            _fail(_unexpected(error))
        _silence_stdout()  # what is left of it cannot be written either
        _fail(
            CliError(
                f"cannot write: {str(error.strerror).lower()}",
                hint="Make room where the output goes, or where this machine keeps its files.",
            )
        )
    except Exception as error:  # the last line before the user, who must not get a traceback
        _fail(_unexpected(error))


def _unexpected(error: Exception) -> CliError:
    return CliError(
        f"unexpected {type(error).__name__}: {error}",
        hint="This is a fault in Ringfence. Run it again with --debug to see where.",
    )


def _mentions_json(arguments: Sequence[str]) -> bool:
    """Whether machines are to be told what is wrong with a command line before it is understood.

    Once it is, the callback of the command's own `--json` knows better: the word may have been an option's value.
    """
    words = list(itertools.takewhile(lambda word: word != "--", arguments))
    pairs = {f"{one}={value}" for one, value in itertools.pairwise(words)}
    return (
        any(
            f"{name}={format}" in (*words, *pairs)
            for name in ("--output", "-o")
            for format in ("json", "yaml")
        )
        or "--json" in words
    )


def _fail(error: CliError) -> NoReturn:
    if _debug:
        traceback.print_exc()
    try:
        output.show_error(error)
    except OSError:  # nobody reads us any more, or the terminal was closed
        _silence_stdout()
    sys.exit(error.exit_code)


def _silence_stdout() -> None:
    """The reader of our output is gone: keep the interpreter from complaining about that at its end."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
