"""How a command asks before it does what cannot be taken back, or what somebody may regret."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ringfence.cli import output
from ringfence.process.errors import CliError

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether to go on: for scripts.")]


def can_ask() -> bool:
    """Whether somebody is at a terminal who can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(question: str, *, yes: bool) -> None:
    """Return if the answer to the question is yes: by `--yes`, or by whoever is at the terminal.

    Raises:
        CliError: if it is no, or there is nobody to ask.
    """
    if yes:
        return
    if not can_ask():
        raise CliError(
            "nothing was done: this has to be confirmed, and there is no terminal to ask at",
            hint="Add --yes to go on without being asked.",
        )
    if not agrees(question):
        raise CliError("nothing was done")


def agrees(question: str) -> bool:
    """What whoever is at the terminal says; all but a yes is a no."""
    output.console(stderr=True).print(f"{output.line(question)} [y/N] ", end="", soft_wrap=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
