"""What plugins bring to the command line: their commands, and what they add to the host's own.

Each plugin names one module for it in the entry-point group `ringfence.commands`. All of them are loaded by every
command line, so they import next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from ringfence import hookspecs

GROUP = "ringfence.commands"
"""The entry-point group: the id of a plugin, and its module for the command line."""


def installed() -> Iterable[EntryPoint]:
    """The modules for the command line that the installed plugins name."""
    return entry_points(group=GROUP)


class Plugged:
    """The modules for the command line that plugins have, asked through pluggy, and the commands that they name."""

    def __init__(self, entries: Iterable[EntryPoint], *, own: Mapping[str, str] | None = None) -> None:
        """`own` are the host's commands, whose words no plugin can have."""
        self._pluggy = pluggy.PluginManager(hookspecs.PROJECT)
        self._pluggy.add_hookspecs(hookspecs)
        self.places = dict(own or {})
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

    def _add(self, entry: EntryPoint) -> None:
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
