"""Which plugins there are, and in which order they live: discovery by entry points, and a topological sort."""

from __future__ import annotations

import graphlib
import importlib.metadata
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import ringfence
from ringfence.plugins.registry import API_VERSION, PluginError, PluginInfo
from ringfence.process.variables import ENTRY_POINTS, OPTIONAL_ENTRY_POINTS
from ringfence.slow_start import watched


class Plugin(Protocol):
    """The least that an object must have to be a plugin; its moments are pluggy hook implementations."""

    info: PluginInfo


@dataclass
class UnfitPlugin:
    """Stands where an optional plugin would that cannot even be begun with: who it is, and why not."""

    info: PluginInfo
    cause: PluginError


def discover() -> list[Plugin]:
    """Make one object of every installed plugin (entry-point groups `ringfence.plugins` and `….optional`).

    One of the optional group that cannot be loaded becomes an `UnfitPlugin`; for any other, raises `PluginError` naming
    its distribution.
    """
    plugins: list[Plugin] = []
    # Every distribution is looked at for it, whatever is asked for.
    entries = importlib.metadata.entry_points()
    for group in (ENTRY_POINTS, OPTIONAL_ENTRY_POINTS):
        for entry in entries.select(group=group):
            try:
                plugins.append(_load(entry))
            except PluginError as error:
                if group == ENTRY_POINTS:
                    raise
                plugins.append(_unfit(entry, error))
    return sorted(plugins, key=lambda plugin: plugin.info.id)


def _load(entry: importlib.metadata.EntryPoint) -> Plugin:
    try:
        with watched(entry.name, "import"):
            plugin: Plugin = entry.load()()
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"plugin {_origin(entry)} cannot be loaded: {type(error).__name__}: {error}{_advice(error)}"
        ) from error
    info = getattr(plugin, "info", None)
    if not isinstance(info, PluginInfo):
        raise PluginError(f"plugin {_origin(entry)} has no `info = PluginInfo(...)`")
    if info.id != entry.name:
        raise PluginError(
            f"plugin {_origin(entry)} calls itself {info.id}: its entry point must have the same name"
        )
    if entry.group == OPTIONAL_ENTRY_POINTS and not info.optional:
        raise PluginError(
            f"plugin {_origin(entry)} is declared in {OPTIONAL_ENTRY_POINTS}, so say the same inside: "
            "PluginInfo(..., optional=True)"
        )
    return plugin


def _origin(entry: importlib.metadata.EntryPoint) -> str:
    """Which entry point it is, for an error: to read what a distribution is called takes a while."""
    distribution = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown distribution"
    return f"{entry.name} ({entry.value}, from {distribution})"


def _unfit(entry: importlib.metadata.EntryPoint, error: PluginError) -> UnfitPlugin:
    version = entry.dist.version if entry.dist else "unknown"
    try:
        info = PluginInfo(entry.name, version, optional=True)
    except PluginError:
        # A name that is no plugin's is what may be wrong with it, and it needs one to be told of.
        name = re.sub(r"[^a-z0-9]+", "-", f"unfit-{entry.name.lower()}").strip("-")
        info = PluginInfo(name, version, optional=True)
    return UnfitPlugin(info, error)


def _advice(error: BaseException) -> str:
    """A plugin that was written for another API may not come so far as to say so."""
    match error:
        case ImportError(name=str(module)):
            of_the_api = module.partition(".")[0] == "ringfence"
        case AttributeError(obj=missing_in):
            of_the_api = missing_in is ringfence
        case TypeError():
            refused = re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument", str(error))
            of_the_api = refused is not None and refused[1] in ringfence.__all__
        case _:
            of_the_api = False
    return f"; this host has plugin API {API_VERSION}: is the plugin for another?" if of_the_api else ""


def order(plugins: Sequence[Plugin]) -> list[Plugin]:
    """The plugins with each after all that it requires; among equals, by id. Nothing of theirs has run yet.

    An optional one that does not fit this host, or requires one that is not installed, is replaced by an `UnfitPlugin`,
    and so are optional ones that require one another in a circle. Raises `PluginError` for duplicates, other circles,
    and what is wrong with plugins that are not optional.
    """
    by_id: dict[str, Plugin] = {}
    for plugin in sorted(plugins, key=lambda plugin: plugin.info.id):
        info = plugin.info
        if other := by_id.get(info.id):
            raise PluginError(f"two plugins call themselves {info.id}: {_kind(other)} and {_kind(plugin)}")
        by_id[info.id] = plugin
    problems = [(info, problem) for info in _infos(by_id) if (problem := _api_mismatch(info))]
    if not any(not info.optional for info, _ in problems):
        problems += [(info, problem) for info in _infos(by_id) if (problem := _unknown(info, by_id))]
    if unbearable := [problem for info, problem in problems if not info.optional]:
        raise PluginError("; ".join(unbearable))
    for info, problem in problems:
        by_id[info.id] = UnfitPlugin(replace(info, requires=()), PluginError(problem))
    while (sorter := _sorter(by_id)) is None:
        pass
    ordered: list[Plugin] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        ordered += [by_id[id_] for id_ in ready]
        sorter.done(*ready)
    return ordered


def _sorter(plugins: dict[str, Plugin]) -> graphlib.TopologicalSorter[str] | None:
    """What tells their order; or None when a circle of optional ones had to be replaced first."""
    sorter = graphlib.TopologicalSorter({id_: plugin.info.requires for id_, plugin in plugins.items()})
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        # The node list of graphlib runs from the required to the requiring, and closes the circle.
        circle: list[str] = error.args[1][::-1]
        cause = PluginError(f"plugins require one another in a circle: {' → '.join(circle)}")
        if not all(plugins[id_].info.optional for id_ in circle):
            raise cause from error
        for id_ in circle:
            plugins[id_] = UnfitPlugin(replace(plugins[id_].info, requires=()), cause)
        return None
    return sorter


def _infos(plugins: Mapping[str, Plugin]) -> list[PluginInfo]:
    return [plugin.info for plugin in plugins.values()]


def _api_mismatch(info: PluginInfo) -> str | None:
    if info.api == API_VERSION:
        return None
    return (
        f"plugin {info.id} {info.version} was written for plugin API {info.api}, this host has {API_VERSION}: "
        f"install a release of {info.id} for it, or another ringfence"
    )


def _unknown(info: PluginInfo, plugins: Mapping[str, Plugin]) -> str | None:
    missing = [required for required in info.requires if required not in plugins]
    if not missing:
        return None
    return f"unknown plugin {missing[0]}, required by {' → '.join(_chain(plugins, info.id))}"


def _chain(plugins: Mapping[str, Plugin], id_: str) -> list[str]:
    """Who requires whom, from a plugin that nobody requires down to `id_`."""
    chain = [id_]
    while requirers := [
        one for one, plugin in plugins.items() if chain[0] in plugin.info.requires and one not in chain
    ]:
        chain.insert(0, requirers[0])
    return chain


def _kind(plugin: Plugin) -> str:
    if isinstance(plugin, UnfitPlugin):
        return f"one that does not fit ({plugin.cause})"
    return f"{type(plugin).__module__}.{type(plugin).__qualname__}"
