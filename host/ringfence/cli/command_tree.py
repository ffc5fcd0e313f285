"""The commands of `ringfence`, the host's own and those of plugins: each is imported when it is run, or in help."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator, MutableMapping
from typing import Any, cast

import typer
import typer.main

from ringfence.cli import options
from ringfence.cli.given.scripts import WithArguments
from ringfence.plugins.command_line import Plugged, installed
from ringfence.process.errors import CliError

_HERE = "ringfence.cli.commands"
OWN = {
    "up": f"{_HERE}.up:up",
    "run": f"{_HERE}.run:run",
    "apply": f"{_HERE}.declaring:apply",
    "diff": f"{_HERE}.declaring:diff",
    "export": f"{_HERE}.declaring:export",
    "schema": f"{_HERE}.declaring:schema",
    "backup": f"{_HERE}.backup:backup",
    "restore": f"{_HERE}.backup:restore",
    "support-bundle": f"{_HERE}.support_bundle:support_bundle",
    "logs": f"{_HERE}.logs:logs",
    "upgrade": f"{_HERE}.upgrade:upgrade",
    "drain": f"{_HERE}.drain:drain",
    "doctor": f"{_HERE}.doctor:doctor",
    "open": f"{_HERE}.open:open_",
    "login": f"{_HERE}.login:login",
    "logout": f"{_HERE}.login:logout",
    "profiles": f"{_HERE}.login:profiles",
    "sessions": f"{_HERE}.sessions:app",
    "token": f"{_HERE}.token:app",
    "events": f"{_HERE}.events:app",
    "jobs": f"{_HERE}.jobs:app",
    "status": f"{_HERE}.status:status",
    "plugin": f"{_HERE}.plugin:app",
    "plugins": f"{_HERE}.plugins:plugins",
    "settings": f"{_HERE}.settings:settings",
}
"""The host's own commands, named as a plugin names its own."""

_ANYTHING = {"ignore_unknown_options": True, "allow_extra_args": True}


@functools.cache
def plugged() -> Plugged:
    """What the installed plugins bring to this command line."""
    return Plugged(installed(), own=OWN)


class Commands(MutableMapping[str, Any]):
    """The commands of a typer group by name, each built when it is asked for."""

    def __init__(self, plugged: Plugged) -> None:
        self._places, self._broken = plugged.places, plugged.broken
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._built:
            self._built[name] = self._build(name)
        return self._built[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._built[name] = command

    def __delitem__(self, name: str) -> None:
        del self._built[name]

    def __iter__(self) -> Iterator[str]:
        words = [*self._places, *self._broken, *self._built]
        return iter(dict.fromkeys(one.partition(" ")[0] for one in words))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _build(self, name: str) -> Any:
        return options.complete(self._assembled(name))

    def _assembled(self, name: str) -> Any:
        places = self._places
        beneath = {words: place for words, place in places.items() if words.startswith(f"{name} ")}
        if name in places:
            command = _loaded(name, places[name])
        elif name in self._broken:
            return _unusable(name, f"`ringfence {name}` {self._broken[name]}")
        elif beneath:
            command = _made(name, typer.Typer(no_args_is_help=True))
        else:
            raise KeyError(name)
        if not hasattr(command, "add_command"):  # it cannot be loaded, and says so whatever follows
            return command
        for words, place in beneath.items():
            last = words.removeprefix(f"{name} ")
            command.add_command(_loaded(words, place), last)
        return command


def _loaded(words: str, place: str) -> Any:
    """The command at a place; where it cannot be loaded, one that says so whatever it is given.

    All others go on working.
    """
    try:
        module, _, name = place.partition(":")
        target = getattr(importlib.import_module(module), name)
    except Exception as error:
        reason = f"`ringfence {words}` ({place}) cannot be loaded: {type(error).__name__}: {error}"
        return _unusable(words, reason)
    return _made(words, target)


def _made(words: str, target: Any) -> Any:
    name = words.rpartition(" ")[2]
    carrier = typer.Typer()
    if isinstance(target, typer.Typer):
        carrier.add_typer(target, name=name)
    else:
        carrier.command(name, cls=WithArguments)(target)
    return _built(carrier, name)


def _unusable(words: str, reason: str) -> Any:
    def broken() -> None:
        raise CliError(reason)

    options.asks_no_host(broken)
    broken.__doc__ = "Cannot be loaded; run it to see why."
    name = words.rpartition(" ")[2]
    carrier = typer.Typer()
    carrier.command(name, context_settings=_ANYTHING)(broken)
    return _built(carrier, name)


def _built(carrier: typer.Typer, name: str) -> Any:
    return cast("Any", typer.main.get_group(carrier)).commands[name]
