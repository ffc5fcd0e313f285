"""Options that many commands have, so that each means the same everywhere."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
import typer.main

from ringfence.cli import chosen, output
from ringfence.cli.completing import names_here
from ringfence.cli.documents import Format
from ringfence.process import settings_file

AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        callback=output.tell_machines,
        help="Print one JSON document, and nothing else: --output json.",
    ),
]

Command = TypeVar("Command", bound=Callable[..., Any])

_MARK = "__ringfence_asks_no_host__"
PANEL = "Which host"

PROFILE = (
    "The host to talk to, by the name that `ringfence login` gave it; `local` is the one on this machine."
)
URL = "The host to talk to, by its address."
TOKEN_FILE = "File that holds the token to sign in with."  # noqa: S105  (an option's help, not a token)
DATA_DIR = "Data directory of the host on this machine; its settings file counts, too."


def _profiles() -> Iterator[str]:
    from ringfence.cli import profiles

    yield from (profiles.LOCAL, *profiles.Profiles.read().all)


PROFILES = names_here(_profiles)
"""Completes the name of a profile."""


def asks_no_host(command: Command) -> Command:
    """Mark a command that talks to no host, so that it takes no options that say to which."""
    setattr(command, _MARK, True)
    return command


def use_data_dir(value: Path | None) -> Path | None:
    """Let a data directory hold for all that this command line does: the callback of each `--data-dir`."""
    if value is not None:
        directory = value.expanduser().absolute()
        chosen.choose(data_dir=str(directory))
        os.environ["RINGFENCE_DATA_DIR"] = str(directory)
        settings_file.apply(directory)
    return value


def complete(command: Any) -> Any:
    """A built command, or group of them, with the options that its kind has and it does not bring itself."""
    for one in getattr(command, "commands", {}).values():
        complete(one)
    if hasattr(command, "commands"):
        return command
    taken = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    if "--json" in taken:
        command.params += _built(_how_to_print)
    if hasattr(command.callback, _MARK):
        return command
    if "--url" in taken:  # it says itself which host it talks to
        return command
    command.params += [option for option in _built(_which_host) if not taken.intersection(option.opts)]
    return command


def _choose(param: typer.CallbackParam, value: str | None) -> None:
    chosen.choose(**{str(param.name): value})


def _choose_data_dir(value: Path | None) -> None:
    use_data_dir(value)


def _how_to_print(
    # No option of a command has this name, by which its value would be taken for that one's.
    printed_as: Annotated[
        Format | None,
        typer.Option(
            "--output",
            "-o",
            callback=output.choose,
            is_eager=True,  # before --json, which is short for one of them
            help="How to print the result; `name` prints one name a line, for pipes.",
            show_default="table",
        ),
    ] = None,
) -> None:
    """In which format results are printed."""


def _which_host(
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=PROFILE,
            callback=_choose,
            autocompletion=PROFILES,
            show_default=False,
            rich_help_panel=PANEL,
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help=URL, callback=_choose, show_default=False, rich_help_panel=PANEL),
    ] = None,
    token_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help=TOKEN_FILE, callback=_choose, show_default=False, rich_help_panel=PANEL
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help=DATA_DIR,
            callback=_choose_data_dir,
            is_eager=True,  # before other options look for what the settings file says
            show_default=False,
            rich_help_panel=PANEL,
        ),
    ] = None,
) -> None:
    """Which host a command talks to."""


@functools.cache
def _built(declared: Callable[..., None]) -> list[Any]:
    """The options that a function's signature declares, and whose callbacks keep their values; for all commands."""
    carrier = typer.Typer(add_completion=False)
    carrier.command()(declared)
    command: Any = typer.main.get_command(carrier)
    options = [option for option in command.params if option.name != "help"]
    for option in options:
        option.expose_value = False
    return options
