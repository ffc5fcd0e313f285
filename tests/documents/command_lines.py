"""Whether a command line is one that there is: its command, its options, and as many arguments as it takes."""

from __future__ import annotations

import functools
from typing import Any

import typer.main
from ringfence.cli import WithProgram
from ringfence.cli.app import app

OF_AN_EXAMPLE = frozenset({"diary"})
"""Commands of the plugin that the guide writes."""


@functools.cache
def _root() -> Any:
    return typer.main.get_command(app)


def mistake(words: list[str], *, partly: bool = False) -> str | None:
    """What is wrong with the words after `ringfence`; None if nothing is.

    With `partly`, and where `…` stands for something, what is missing is no mistake.
    """
    partly = partly or "…" in words
    words = [word for word in words if word != "…"]
    command, context, name = _root(), None, "ringfence"
    if words and words[0] in OF_AN_EXAMPLE:
        return None
    while True:
        context = command.context_class(command, parent=context, info_name=name, **command.context_settings)
        if not hasattr(command, "commands"):
            return _mistake_of(command, context, list(words), partly)
        try:
            given, rest, _ = command.make_parser(context).parse_args(list(words))
        except Exception as error:
            return _told(error, name, partly)
        if not rest:
            is_whole = partly or given or command.invoke_without_command
            return None if is_whole else f"{name}: a command is missing"
        if rest[0] not in command.commands:
            return f"{name}: there is no command {rest[0]}"
        name, words = rest[0], rest[1:]
        command = command.commands[name]


def _mistake_of(command: Any, context: Any, words: list[str], partly: bool) -> str | None:
    if isinstance(command, WithProgram) and any(word.startswith("/usr/") for word in words):
        words.insert(0, "--command")  # the program need not be on this machine
    try:
        command.parse_args(context, words)
    except Exception as error:
        return _told(error, context.info_name, partly)
    return None


def _told(error: Exception, name: str, partly: bool) -> str | None:
    told = str(getattr(error, "message", "")) or f"{type(error).__name__} {error}"
    if "does not exist" in told or (partly and ("requires an argument" in told or "Missing" in told)):
        return None
    return f"{name}: {told}"
