"""What is asked of plugins where no host runs: their settings, their keys and their migrations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pluggy
from pydantic_settings import BaseSettings

from ringfence import hookspecs
from ringfence.backup.keys import KeysOutside
from ringfence.plugins.discovery import Plugin
from ringfence.plugins.lifecycle import Lifecycle
from ringfence.plugins.services import ServiceDirectory
from ringfence.settings import HostSettings
from ringfence.storage.migrating import HOST_MIGRATIONS, MigrationBranch


def models_of(plugins: Sequence[Plugin]) -> Iterator[tuple[type[BaseSettings], str]]:
    """The models of the plugins' settings, each with the plugin's id; nothing else is asked of a plugin."""
    return _asked(plugins, "settings")


def keys_of(plugins: Sequence[Plugin], settings: HostSettings) -> dict[str, KeysOutside]:
    """The keys of rows that plugins have outside of the database, by the plugin's id. Raises what they raise."""
    return {plugin: keys for keys, plugin in _asked(plugins, "keys", settings=settings)}


def branches_of(plugins: Sequence[Plugin]) -> list[MigrationBranch]:
    """The migrations of the host and of the plugins that take part, in order. Raises as a start does."""
    lifecycle = Lifecycle(plugins, ServiceDirectory())
    own = (one.registry.branch for one in lifecycle.alive())
    return [MigrationBranch("host", HOST_MIGRATIONS), *(branch for branch in own if branch is not None)]


def _asked(plugins: Sequence[Plugin], moment: str, **arguments: object) -> Iterator[tuple[Any, str]]:
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    for plugin in plugins:
        manager.register(plugin, name=plugin.info.id)
        others = [one for one in manager.get_plugins() if one is not plugin]
        for answer in manager.subset_hook_caller(moment, others)(**arguments):
            yield answer, plugin.info.id
