"""A script as a command line gives it: in a file, on standard input or itself, and what it is given."""

from __future__ import annotations

import enum
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand

from ringfence.process.errors import UsageMistake
from ringfence.process.standard_streams import read_at_most

LARGEST_FILE = 16 * 1024 * 1024
"""No script is this large; what is larger is some other file."""
WrongCommandLine = cast("type[typer.BadParameter]", typer.BadParameter.__base__)
"""What typer raises for whatever is wrong with a command line; it exports this subclass of it alone."""


class Kind(enum.StrEnum):
    """What runs the script; see `ringfence.scripts.request.ScriptKind`, which takes longer to load."""

    AUTO = "auto"
    SHELL = "shell"
    BASH = "bash"
    PYTHON = "python"
    ESM = "esm"
    PROGRAM = "program"


ScriptFile = Annotated[
    str | None, typer.Argument(metavar="FILE", help="The script; - reads it from standard input.")
]
Code = Annotated[str | None, typer.Option("-c", metavar="CODE", help="The script itself.")]
ScriptKind = Annotated[
    Kind | None,
    typer.Option(
        help="What runs it. By default what its first line, its suffix or its bytes say; for CODE, shell."
    ),
]
Arguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="-- ARGS", help="What the script is given as its arguments.", show_default=False),
]
Variables = Annotated[
    list[str] | None,
    typer.Option("--env", metavar="NAME=VALUE", help="A variable of its environment; repeat for more."),
]


class WithArguments(TyperCommand):
    """A command that may have a parameter `args`: what follows `--` is that, whatever it looks like."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if all(each.name != "args" for each in self.params):
            return super().parse_args(ctx, args)
        if "--" not in args:
            try:
                return super().parse_args(ctx, args)
            except WrongCommandLine as error:
                if getattr(error, "option_name", None) is not None:
                    error.message += " (what the script is given comes after --)"
                raise
        end = args.index("--")
        rest = super().parse_args(ctx, args[:end])
        ctx.params["args"] = [*(ctx.params.get("args") or ()), *args[end + 1 :]]
        return rest


def kind_of(file: str | None, script: bytes) -> Kind:
    """The kind of a script that nobody has said: shell for one that has no file, unless its first line says another."""
    return Kind.SHELL if file in (None, "-") and not script.startswith(b"#!") else Kind.AUTO


def lasting_kind_of(file: str | None, script: bytes) -> Kind:
    """The same with what the file's name says decided now, where the kind alone can say it.

    Raises:
        UsageMistake: if nothing certainly runs it.
    """
    from ringfence.scripts.choosing.choice import NotRunnable, choose
    from ringfence.scripts.request import ScriptRequest

    kind = kind_of(file, script)
    if kind is not Kind.AUTO or script.startswith(b"#!"):
        return kind
    try:
        chosen = choose(ScriptRequest("auto", script, name=name_of(file)))  # type: ignore[arg-type]
    except NotRunnable as reason:
        raise UsageMistake(str(reason)) from reason
    # A program's interpreter is found by the name.
    kind = Kind(chosen.kind)
    return Kind.AUTO if kind is Kind.PROGRAM else kind


def name_of(file: str | None) -> str:
    """What a script's file is called."""
    return "" if file in (None, "-") else Path(str(file)).name


def read_script(file: str | None, code: str | None) -> bytes:
    """The script that a command line gives, in a file (`-`: standard input) or itself. Raises `UsageMistake`."""
    if (file is None) == (code is None):
        raise UsageMistake(
            "give a script: either FILE or -c CODE", hint="Example: ringfence run -c 'echo hello'"
        )
    if code is not None:
        return code.encode(errors="surrogateescape")
    assert file is not None
    return read_file(file)


def read_file(file: str) -> bytes:
    """What is in a file, or comes on standard input (`-`). Raises `UsageMistake`."""
    if file == "-":
        return read_at_most(sys.stdin.buffer, LARGEST_FILE, "standard input")
    try:
        with Path(file).open("rb") as opened:
            return read_at_most(opened, LARGEST_FILE, file)
    except OSError as error:
        raise UsageMistake(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:  # a name with a zero byte
        raise UsageMistake(f"cannot read {file!r}: {error}") from error


def variables(given: Sequence[str] | None, *, option: str = "--env") -> dict[str, str]:
    """The variables of options `NAME=VALUE`. Raises `UsageMistake`."""
    found = {}
    for each in given or ():
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise UsageMistake(f"{option} takes NAME=VALUE, not {each!r}")
        found[name] = value
    return found
