"""The commands, from the tree that the command line is made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer.main
from ringfence.cli.app import app

from tools.site.tables import code, table

_EVERYWHERE = ("--json", "-o, --output", "--help")
_HEAD = """# Commands

Every command takes `--help`. Those that talk to a host take `--profile NAME`, `--url URL`, `--token-file
FILE` and `--data-dir DIR`, which say to which one and as whom; those that show something take `--output`
(`-o`) with `table`, `json`, `yaml` or `name`, and `--json`, which is short for `--output json`. [The command
line](../command-line.md) tells how a host is chosen.

"""


def page() -> str:
    """The page."""
    return _HEAD + "\n".join(_told(typer.main.get_command(app), ("ringfence",), None))


def _told(command: Any, words: tuple[str, ...], parent: Any) -> Iterator[str]:
    context = command.context_class(command, parent=parent, info_name=words[-1], **command.context_settings)
    if len(words) > 1:
        yield f"{'#' * min(len(words), 4)} ringfence {' '.join(words[1:])}\n"
        yield f"{_prose(command.help or '')}\n"
        if not hasattr(command, "commands") or command.invoke_without_command:
            yield f"```text\n{' '.join(context.get_usage().split()).removeprefix('Usage: ')}\n```\n"
            yield table(("option or argument", "meaning"), _parameters(command, context))
    for name, one in sorted(getattr(command, "commands", {}).items()):
        yield from _told(one, (*words, name), context)


def _parameters(command: Any, context: Any) -> Iterator[tuple[str, str]]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None or parameter.rich_help_panel == "Which host" or record[0].startswith(_EVERYWHERE):
            continue
        yield code(record[0]), _prose(record[1])


def _prose(text: str) -> str:
    """A text in which nothing is taken for a tag or a link."""
    return text.replace("\b\n", "").replace("<", "&lt;").replace("[", "\\[")
