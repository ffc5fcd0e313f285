"""A wrong command line is told to people as ever and, where JSON was asked for, to machines too: of every command."""

from __future__ import annotations

import enum
import typing
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from ringfence.cli.app import app

from tests.cli.conftest import Command, Outcome

WORD = "no-such-value"
USAGE = 2
OF_PYDANTIC = ("Value error", "Input should", "valid integer", "valid number", "unable to parse")


def walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every group and command, with the words that name it."""
    yield path, command
    for name, one in getattr(command, "commands", {}).items():
        yield from walk(one, (*path, name))


TREE = dict(walk(typer.main.get_command(app)))


def mistakes(command: Any) -> Iterator[tuple[str, ...]]:
    """What to write after a command's name in order to be wrong, in each way that there is."""
    yield ("--no-such-option",)
    if hasattr(command, "commands"):
        yield ("no-such-command",)
        return
    hints = typing.get_type_hints(command.callback)
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    words = (WORD,) * len(arguments)
    if any(one.required for one in command.params):
        yield ()
    if all(one.nargs == 1 for one in arguments):
        yield (*words, WORD)
    if any(takes_few(hints[one.name]) for one in arguments):
        yield words
    for option in command.params:
        if option in arguments or option.name in {"help", "install_completion", "show_completion"}:
            continue
        if option.name not in hints:  # one that all commands of its kind have
            yield (*words, option.opts[0])
            continue
        if bool in (hints[option.name], *typing.get_args(hints[option.name])):
            yield (f"{option.opts[0]}={WORD}",)
        else:
            yield (*words, option.opts[0])
            if takes_few(hints[option.name]):
                yield (*words, option.opts[0], WORD)


def takes_few(hint: Any) -> bool:
    """Whether a parameter of that type takes numbers, or one of a few words, and so not `WORD`."""
    if inner := typing.get_args(hint):
        return any(takes_few(one) for one in inner)
    return isinstance(hint, type) and issubclass(hint, (int, float, enum.Enum))


def takes_json(command: Any) -> bool:
    return any("--json" in one.opts for one in command.params)


def words_of(text: str) -> list[str]:
    """The words in what was printed, without the box around them."""
    return text.translate(dict.fromkeys(map(ord, "│╭╮╰╯─"), " ")).split()


def test_the_tree_is_walked() -> None:
    assert {("policy", "show"), ("agent",), ("up",), ("check", "results"), ()} <= TREE.keys()
    assert sum(takes_json(one) for one in TREE.values()) > 30


@pytest.mark.parametrize("path", TREE, ids=lambda path: " ".join(path) or "ringfence")
def test_each_mistake_is_one_document_with_json_and_as_ever_without(
    path: tuple[str, ...], command: Command
) -> None:
    for mistake in mistakes(TREE[path]):
        silent, told = command(*path, *mistake), command(*path, "--json", *mistake)
        assert (silent.status, silent.stdout) == (USAGE, ""), mistake
        assert (told.status, told.stdout.count("\n")) == (USAGE, 1), mistake
        error = told.json["error"]
        assert error.keys() == {"message", "hint"}
        assert message_is_in(told, error["message"]), mistake
        assert error["hint"].startswith("See: ringfence")
        assert error["hint"].endswith(" --help")
        assert not [words for words in OF_PYDANTIC if words in error["message"]], mistake
        if takes_json(TREE[path]):
            assert told.stderr == silent.stderr, mistake


def message_is_in(outcome: Outcome, message: str) -> bool:
    """Whether people were told the same."""
    told, wanted = words_of(outcome.stderr), message.split()
    return any(told[start : start + len(wanted)] == wanted for start in range(len(told)))


@pytest.mark.parametrize(
    "mistake", [("--json", "revert", "1"), ("revert", "x", "--json"), ("revert", "--json")]
)
def test_it_may_stand_anywhere(mistake: tuple[str, ...], command: Command) -> None:
    assert command("policy", *mistake).json["error"]["message"]


def test_it_is_no_option_behind_two_dashes(command: Command) -> None:
    assert command("policy", "show", "--", "--json").stdout == ""


def test_it_is_no_option_where_it_is_the_value_of_one(command: Command) -> None:
    told = command("policy", "patch", "--reason", "--json", "x.y=1")
    assert "no running host is known" in told.stderr
    assert told.stdout == ""


def test_the_words_of_a_mistake_are_told_once(command: Command) -> None:
    told = command("policy", "show", "--bogus", "--json")
    assert told.json == {
        "error": {"message": "No such option: --bogus", "hint": "See: ringfence policy show --help"}
    }
    assert told.stderr.count("--bogus") == 1
