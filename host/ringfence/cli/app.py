"""The command's entry point: its groups, its global options, and how every failure is told."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import itertools
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, NoReturn, cast

import typer
from typer.core import TyperGroup

from ringfence.cli import ending, output
from ringfence.process.errors import FAILURE, INTERRUPTED, CliError, UsageMistake

COMMANDS = "ringfence.commands"
"""The entry-point group of the commands that plugins bring."""

_WrongCommandLine = cast("type[typer.BadParameter]", typer.BadParameter.__base__)
"""What typer raises for whatever is wrong with a command line; it exports this subclass of it alone."""


class _Root(TyperGroup):
    """All commands. What is wrong with a command line typer tells to people; here machines are told, too."""

    def make_context(self, *args: Any, **more: Any) -> Any:
        with _told_to_machines():
            return super().make_context(*args, **more)

    def invoke(self, ctx: Any) -> Any:
        with _told_to_machines():
            return super().invoke(ctx)


@contextlib.contextmanager
def _told_to_machines() -> Iterator[None]:
    try:
        yield
    except _WrongCommandLine as error:
        command = error.ctx.command_path if error.ctx else app.info.name
        output.show_error_to_machines(UsageMistake(error.format_message(), hint=f"See: {command} --help"))
        raise


app = typer.Typer(
    name="ringfence",
    cls=_Root,
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
        drain,
        events,
        plugins,
        policy,
        rollout,
        run,
        satellite,
        satellite_runs,
        secret,
        token,
        up,
    )

    app.command("up")(up.up)
    app.command("demo")(demo.demo)
    app.command("run")(run.run)
    app.command("drain")(drain.drain)
    app.command("doctor")(doctor.doctor)
    policy.app.command("rollout")(rollout.rollout)
    app.add_typer(policy.app, name="policy")
    satellite.app.add_typer(satellite_runs.app, name="runs")
    app.add_typer(satellite.app, name="satellite")
    app.add_typer(check.app, name="check")
    app.add_typer(secret.app, name="secret")
    app.add_typer(token.app, name="token")
    app.add_typer(events.app, name="events")
    app.command("plugins")(plugins.plugins)
    for command in importlib.metadata.entry_points(group=COMMANDS):
        _add_plugins_command(command)


def _add_plugins_command(command: importlib.metadata.EntryPoint) -> None:
    """Add it; where it cannot be loaded, one that says so whatever it is given, so that all others go on working."""
    try:
        function: Callable[..., None] = command.load()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"

        def broken() -> None:
            raise CliError(f"`ringfence {command.name}` ({command.value}) cannot be loaded: {reason}")

        broken.__doc__ = "Cannot be loaded; run it to see why."
        anything = {"ignore_unknown_options": True, "allow_extra_args": True}
        app.command(command.name, context_settings=anything)(broken)
    else:
        app.command(command.name)(function)


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
    given = sys.argv[1:] if arguments is None else list(arguments)
    output.tell_machines(_mentions_json(given))
    try:
        app(args=given, prog_name="ringfence")
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


def _mentions_json(arguments: Sequence[str]) -> bool:
    """Whether machines are to be told what is wrong with a command line before it is understood.

    Once it is, the callback of the command's own `--json` knows better: the word may have been an option's value.
    """
    options = itertools.takewhile(lambda word: word != "--", arguments)
    return "--json" in options


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
