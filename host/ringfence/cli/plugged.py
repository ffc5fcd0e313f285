"""What plugins bring to the command line: their commands, and what they add to the host's own.

Each plugin names one module for it in the entry-point group `ringfence.commands`. All of them are loaded by every
command line, so they import next to nothing; a command itself is imported when it is run, or when help is shown.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, cast

import pluggy
import typer
import typer.main

from ringfence import hookspecs
from ringfence.process.errors import CliError

GROUP = "ringfence.commands"
"""The entry-point group: the id of a plugin, and its module for the command line."""

_HERE = "ringfence.cli.commands"
OWN = {
    "up": f"{_HERE}.up:up",
    "run": f"{_HERE}.run:run",
    "drain": f"{_HERE}.drain:drain",
    "doctor": f"{_HERE}.doctor:doctor",
    "token": f"{_HERE}.token:app",
    "events": f"{_HERE}.events:app",
    "plugins": f"{_HERE}.plugins:plugins",
    "settings": f"{_HERE}.settings:settings",
}
"""The host's own commands, named as a plugin names its own."""

_ANYTHING = {"ignore_unknown_options": True, "allow_extra_args": True}


@functools.cache
def plugged() -> Plugged:
    """What the installed plugins bring to this command line."""
    return Plugged(importlib.metadata.entry_points(group=GROUP))


class Plugged:
    """The modules for the command line that plugins have, asked through pluggy, and the commands that they name."""

    def __init__(self, entries: Iterable[importlib.metadata.EntryPoint]) -> None:
        self._pluggy = pluggy.PluginManager(hookspecs.PROJECT)
        self._pluggy.add_hookspecs(hookspecs)
        self.places = dict(OWN)
        """Each command by the words to type, and where it is."""
        self.broken: dict[str, str] = {}
        """Modules that cannot be loaded, by the plugin's id, and why."""
        for entry in sorted(entries, key=lambda entry: entry.name):
            try:
                self._add(entry)
            except Exception as error:
                self.broken[entry.name] = f"({entry.value}) cannot be loaded: {type(error).__name__}: {error}"

    @property
    def hook(self) -> Any:
        """Asks every plugin at once, as pluggy does."""
        return self._pluggy.hook

    def of(self, plugin: str) -> tuple[str, ...]:
        """The commands of one plugin, as they are typed."""
        return tuple(sorted(self._named(plugin)))

    def _add(self, entry: importlib.metadata.EntryPoint) -> None:
        module = entry.load()
        self._pluggy.register(module, name=entry.name)
        try:
            self._pluggy.check_pending()
            asked = {caller.name for caller in self._pluggy.get_hookcallers(module) or ()}
            if not asked:
                raise TypeError("it implements no moment of a command line (see ringfence.hookspecs)")
            if others := asked - hookspecs.OF_A_COMMAND_LINE:
                raise TypeError(f"{', '.join(sorted(others))} is asked of a plugin in a host, not here")
            named = self._named(entry.name)
            if taken := sorted(named.keys() & self.places):
                raise ValueError(
                    f"there is a command `ringfence {taken[0]}` already ({self.places[taken[0]]})"
                )
            self.places.update(named)
        except Exception:
            self._pluggy.unregister(module)
            raise

    def _named(self, plugin: str) -> Mapping[str, str]:
        module = self._pluggy.get_plugin(plugin)
        if module is None:
            return {}
        others = [one for one in self._pluggy.get_plugins() if one is not module]
        named: dict[str, str] = {}
        for answer in self._pluggy.subset_hook_caller("commands", others)():
            named.update(answer)
        return named


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
        carrier.command(name)(target)
    return _built(carrier, name)


def _unusable(words: str, reason: str) -> Any:
    def broken() -> None:
        raise CliError(reason)

    broken.__doc__ = "Cannot be loaded; run it to see why."
    name = words.rpartition(" ")[2]
    carrier = typer.Typer()
    carrier.command(name, context_settings=_ANYTHING)(broken)
    return _built(carrier, name)


def _built(carrier: typer.Typer, name: str) -> Any:
    return cast("Any", typer.main.get_group(carrier)).commands[name]
