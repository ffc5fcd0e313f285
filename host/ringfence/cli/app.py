"""The command's entry point: its groups, its global options, and how every failure is told."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, NoReturn

import typer

from ringfence.cli import ending, output
from ringfence.cli.errors import FAILURE, INTERRUPTED, CliError

COMMANDS = "ringfence.commands"
"""The entry-point group of the commands that plugins bring."""

app = typer.Typer(
    name="ringfence",
    help="Run scripts inside an OS-level sandbox, under one durable policy that reaches every satellite.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_debug = False
"""Whether the command line that runs asks for tracebacks; it is known before anything can go wrong."""


def _show_version(wanted: bool) -> None:
    if wanted:
        output.say(f"ringfence {importlib.metadata.version('ringfence')}")
        raise typer.Exit


@app.callback()
def _global_options(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="RINGFENCE_DEBUG", help="Show tracebacks of unexpected errors.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    del version
    global _debug
    _debug = debug


def _add_commands() -> None:
    from ringfence.cli import (
        check,
        demo,
        doctor,
        events,
        plugins,
        policy,
        rollout,
        run,
        satellite,
        secret,
        token,
        up,
    )

    app.command("up")(up.up)
    app.command("demo")(demo.demo)
    app.command("run")(run.run)
    app.command("doctor")(doctor.doctor)
    policy.app.command("rollout")(rollout.rollout)
    app.add_typer(policy.app, name="policy")
    app.add_typer(satellite.app, name="satellite")
    app.add_typer(check.app, name="check")
    app.add_typer(secret.app, name="secret")
    app.add_typer(token.app, name="token")
    app.add_typer(events.app, name="events")
    app.command("plugins")(plugins.plugins)
    for command in importlib.metadata.entry_points(group=COMMANDS):
        app.command(command.name)(_loaded(command))


def _loaded(command: importlib.metadata.EntryPoint) -> Callable[..., None]:
    """A plugin's command; where it cannot be loaded, one that says so, so that all others go on working."""
    try:
        function: Callable[..., None] = command.load()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"

        def broken() -> None:
            raise CliError(f"`ringfence {command.name}` ({command.value}) cannot be loaded: {reason}")

        broken.__doc__ = "Cannot be loaded; run it to see why."
        return broken
    return function


_add_commands()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line, by default this process's, and exit with its status.

    A traceback is shown only with --debug.
    """
    try:
        _run(arguments)
    except SystemExit as ended:
        ending.exit_now(ended.code)
        raise


def _run(arguments: Sequence[str] | None) -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    output.tell_machines(False)
    try:
        app(args=None if arguments is None else list(arguments), prog_name="ringfence")
    except CliError as error:
        _fail(error)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        _silence_stdout()
        sys.exit(FAILURE)
    except Exception as error:  # the last line before the user, who must not get a traceback
        _fail(
            CliError(
                f"unexpected {type(error).__name__}: {error}",
                hint="This is a fault in Ringfence. Run it again with --debug to see where.",
            )
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
