"""A command line that may name a program in place of a script's file, with that program's own options after it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import typer

from ringfence.cli.given.scripts import WithArguments

SHOWN = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin")
"""The directories of programs that every sandbox shows (see `ringfence.sandbox.capabilities.layout`)."""

IsCommand = Annotated[
    bool | None,
    typer.Option(
        "--command/--script",
        help="FILE is a program that is in the sandbox, or a script. By default an executable under /usr is a program.",
        show_default=False,
    ),
]


def is_program(file: str | None) -> bool:
    """Whether a file is a program that is in every sandbox under the same path."""
    if file is None or not file.startswith("/"):
        return False
    places = (os.path.normpath(file), os.path.realpath(file))
    if not all(place.startswith(tuple(f"{top}/" for top in SHOWN)) for place in places):
        return False
    return os.path.isfile(file) and os.access(file, os.X_OK)


class WithProgram(WithArguments):
    """A command with the parameters `file`, `command` and `args`, of which FILE may be a program.

    What follows a program is given to it, options too, apart from long options of this command. What follows `--` is
    given to it whatever it looks like. After a script's file, an unknown option stays a mistake.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        params: list[Any] = self.get_params(ctx)
        takes_value = {
            name: not (option.is_flag or option.count)
            for option in params
            if option.param_type_name == "option"
            for name in (*option.opts, *option.secondary_opts)
        }
        place = self._place_of_file(args[:end], takes_value)
        if place is None or "--script" in args[:end]:
            return super().parse_args(ctx, args)
        if "--command" not in args[:place] and not is_program(args[place]):
            return super().parse_args(ctx, args)
        ours, theirs = _divided(args[place + 1 : end], takes_value)
        rest = super().parse_args(ctx, [*args[: place + 1], *ours])
        ctx.params["command"] = True
        ctx.params["args"] = [*(ctx.params.get("args") or ()), *theirs, *args[end + 1 :]]
        return rest

    def _place_of_file(self, words: list[str], takes_value: dict[str, bool]) -> int | None:
        names = [each.name for each in self.params if each.param_type_name == "argument"]
        places = _positional(words, takes_value)
        for name in names:
            place = next(places, None)
            if name == "file":
                return place
        return None


def _positional(words: Iterable[str], takes_value: dict[str, bool]) -> Iterator[int]:
    """Where the words are that are neither options nor their values."""
    remaining = iter(enumerate(words))
    for place, word in remaining:
        if takes_value.get(word, False):
            next(remaining, None)
        elif word == "-" or not word.startswith("-"):
            yield place


def _divided(words: Iterable[str], takes_value: dict[str, bool]) -> tuple[list[str], list[str]]:
    """The long options of this command with their values, and all the rest."""
    ours: list[str] = []
    theirs: list[str] = []
    remaining = iter(words)
    for word in remaining:
        name, equals, _ = word.partition("=")
        if not word.startswith("--") or name not in takes_value:
            theirs.append(word)
            continue
        ours.append(word)
        if takes_value[name] and not equals:
            ours += [value for value in [next(remaining, None)] if value is not None]
    return ours, theirs
