"""A script as a command line gives it: in a file, on standard input or itself, and of which kind it is."""

from __future__ import annotations

import enum
import sys
from pathlib import Path
from typing import Annotated

import typer

from ringfence.process.errors import UsageMistake


class Kind(enum.StrEnum):
    """Which runner runs the script."""

    SHELL = "shell"
    PYTHON = "python"
    ESM = "esm"


KIND_BY_SUFFIX = {".py": Kind.PYTHON, ".mjs": Kind.ESM, ".js": Kind.ESM, ".sh": Kind.SHELL}

ScriptFile = Annotated[
    str | None, typer.Argument(metavar="FILE", help="The script; - reads it from standard input.")
]
Code = Annotated[str | None, typer.Option("-c", metavar="CODE", help="The script itself.")]
ScriptKind = Annotated[
    Kind | None, typer.Option(help="By default what the file's suffix says (.py, .mjs, .js), else shell.")
]


def kind_of(file: str | None) -> Kind:
    """The kind that a file's suffix says; shell if it says none."""
    return KIND_BY_SUFFIX.get(Path(file).suffix if file else "", Kind.SHELL)


def read_script(file: str | None, code: str | None) -> bytes:
    """The script that a command line gives, in a file (`-`: standard input) or itself. Raises `UsageMistake`."""
    if (file is None) == (code is None):
        raise UsageMistake(
            "give a script: either FILE or -c CODE", hint="Example: ringfence run -c 'echo hello'"
        )
    if code is not None:
        return code.encode(errors="surrogateescape")
    assert file is not None
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise UsageMistake(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:  # a name with a zero byte
        raise UsageMistake(f"cannot read {file!r}: {error}") from error
