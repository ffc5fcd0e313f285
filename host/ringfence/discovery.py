"""Which plugins there are, and in which order they live: discovery by entry points, and a topological sort."""

from __future__ import annotations

import graphlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Protocol

from ringfence.plugin import API_VERSION, PluginError, PluginInfo

ENTRY_POINTS = "ringfence.plugins"


class Plugin(Protocol):
    """The least that an object must have to be a plugin; its moments are pluggy hook implementations."""

    info: PluginInfo


def discover() -> list[Plugin]:
    """Make one object of every installed plugin (entry-point group `ringfence.plugins`).

    Raises `PluginError` naming the distribution of one that cannot be loaded.
    """
    plugins = []
    for entry in sorted(importlib.metadata.entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name):
        distribution = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown distribution"
        origin = f"{entry.name} ({entry.value}, from {distribution})"
        try:
            plugin = entry.load()()
        except Exception as error:
            raise PluginError(f"plugin {origin} cannot be loaded: {type(error).__name__}: {error}") from error
        info = getattr(plugin, "info", None)
        if not isinstance(info, PluginInfo):
            raise PluginError(f"plugin {origin} has no `info = PluginInfo(...)`")
        if info.id != entry.name:
            raise PluginError(
                f"plugin {origin} calls itself {info.id}: its entry point must have the same name"
            )
        plugins.append(plugin)
    return plugins


def order(plugins: Sequence[Plugin]) -> list[Plugin]:
    """The plugins with each after all that it requires; among equals, by id. Nothing of theirs has run yet.

    Raises `PluginError` for duplicates, unknown requirements, cycles and API versions that do not match.
    """
    if misfits := [plugin.info for plugin in plugins if plugin.info.api != API_VERSION]:
        raise PluginError(
            "; ".join(
                f"plugin {info.id} {info.version} was written for plugin API {info.api}, this host has {API_VERSION}: "
                f"install a release of {info.id} for it, or another ringfence"
                for info in misfits
            )
        )
    by_id: dict[str, Plugin] = {}
    for plugin in sorted(plugins, key=lambda plugin: plugin.info.id):
        info = plugin.info
        if other := by_id.get(info.id):
            raise PluginError(f"two plugins call themselves {info.id}: {_kind(other)} and {_kind(plugin)}")
        by_id[info.id] = plugin
    for plugin in by_id.values():
        for required in plugin.info.requires:
            if required not in by_id:
                raise PluginError(
                    f"unknown plugin {required}, required by {' → '.join(_chain(by_id, plugin.info.id))}"
                )
    sorter = graphlib.TopologicalSorter({id_: plugin.info.requires for id_, plugin in by_id.items()})
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        # The node list of graphlib runs from the required to the requiring, and closes the circle.
        raise PluginError(
            f"plugins require one another in a circle: {' → '.join(reversed(error.args[1]))}"
        ) from error
    ordered: list[Plugin] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        ordered += [by_id[id_] for id_ in ready]
        sorter.done(*ready)
    return ordered


def _chain(plugins: Mapping[str, Plugin], id_: str) -> list[str]:
    """Who requires whom, from a plugin that nobody requires down to `id_`."""
    chain = [id_]
    while requirers := [
        one for one, plugin in plugins.items() if chain[0] in plugin.info.requires and one not in chain
    ]:
        chain.insert(0, requirers[0])
    return chain


def _kind(plugin: Plugin) -> str:
    return f"{type(plugin).__module__}.{type(plugin).__qualname__}"
