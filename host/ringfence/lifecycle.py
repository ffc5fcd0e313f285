"""The lives of plugins: discovery, order, phases, failure and shutdown."""

from __future__ import annotations

import asyncio
import enum
import graphlib
import importlib.metadata
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast
from uuid import UUID

import pluggy
import structlog

from ringfence import hookspecs
from ringfence.database import Database
from ringfence.delivery import HookDelivery
from ringfence.eventlog import Tailer
from ringfence.hooks import HookBus
from ringfence.plugin import API_VERSION, PluginContext, PluginError, PluginInfo, Registry
from ringfence.services import ServiceDirectory
from ringfence.settings import HostSettings
from ringfence.tasks import OwnedTasks

ENTRY_POINTS = "ringfence.plugins"
_log = structlog.get_logger("ringfence.lifecycle")


class Phase(enum.StrEnum):
    """How far a plugin has come."""

    DISCOVERED = "discovered"
    REGISTERED = "registered"
    INITIALISED = "initialised"
    READY = "ready"
    STOPPED = "stopped"


class Plugin(Protocol):
    """The least that an object must have to be a plugin; its moments are pluggy hook implementations."""

    info: PluginInfo


@dataclass(slots=True)
class LoadedPlugin:
    """A plugin in this instance: its object, what it declared, how far it has come, and why it is left out if it is."""

    plugin: Plugin
    registry: Registry
    phase: Phase = Phase.DISCOVERED
    error: str | None = None

    @property
    def info(self) -> PluginInfo:
        """Who it is."""
        return self.plugin.info

    @property
    def alive(self) -> bool:
        """Whether it takes part."""
        return self.error is None and self.phase is not Phase.STOPPED


@dataclass(slots=True)
class Runtime:
    """What the plugins of one instance share, reached by each only through its own context."""

    settings: HostSettings
    instance_id: UUID
    database: Database
    tailer: Tailer
    bus: HookBus
    delivery: HookDelivery
    services: ServiceDirectory
    tasks: OwnedTasks
    ready: bool = False

    def check_ready(self, plugin: str, use: str) -> None:
        """Raise `PluginError` when it is too early for `use`."""
        if not self.ready:
            raise PluginError(
                f"{plugin} used {use} before every plugin was ready: move it to after_plugins_ready, or later"
            )


def discover() -> list[Plugin]:
    """Make one object of every installed plugin (entry-point group `ringfence.plugins`).

    Raises `PluginError` naming the distribution of one that cannot be loaded.
    """
    plugins = []
    for entry in sorted(importlib.metadata.entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name):
        origin = f"{entry.name} ({entry.value}, from {entry.dist.name if entry.dist else 'an unknown distribution'})"
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
    """The plugins with each after all that it requires; among equals, by id.

    Raises `PluginError` for duplicates, unknown requirements, cycles and API versions that do not match.
    """
    by_id: dict[str, Plugin] = {}
    for plugin in sorted(plugins, key=lambda plugin: plugin.info.id):
        info = plugin.info
        if info.api != API_VERSION:
            raise PluginError(
                f"plugin {info.id} {info.version} was written for plugin API {info.api}, this host has {API_VERSION}: "
                f"install a release of {info.id} for it, or another ringfence"
            )
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


class Lifecycle:
    """Takes the plugins through their phases, one after the other in dependency order, and back down again."""

    def __init__(self, plugins: Sequence[Plugin], services: ServiceDirectory) -> None:
        """Order the plugins and have each `register`. Raises `PluginError`."""
        self._services = services
        self._contexts: dict[str, PluginContext] = {}
        self.plugins = [LoadedPlugin(plugin, Registry(plugin.info.id, services)) for plugin in order(plugins)]
        self._pluggy = pluggy.PluginManager(hookspecs.PROJECT)
        self._pluggy.add_hookspecs(hookspecs)
        for one in self.plugins:
            self._pluggy.register(one.plugin, name=one.info.id)
        try:
            self._pluggy.check_pending()
        except pluggy.PluginValidationError as error:
            raise PluginError(f"a plugin implements a moment that does not exist: {error}") from error
        for one in self._alive():
            try:
                self._call(one, "register", registry=one.registry)
            except Exception as error:
                self._leave_out(one, "register", error)
            else:
                one.phase = Phase.REGISTERED

    def alive(self) -> tuple[LoadedPlugin, ...]:
        """The plugins that take part, in dependency order."""
        return tuple(self._alive())

    async def start(self, runtime: Runtime) -> None:
        """Run `init` and then `after_plugins_ready` of every plugin. Raises `PluginError`; `stop` undoes it."""
        for one in self._alive():
            logger = structlog.get_logger("ringfence.plugin").bind(plugin=one.info.id)
            self._contexts[one.info.id] = PluginContext(one.registry, runtime, logger)
        await self._phase(runtime, "init", Phase.INITIALISED)
        runtime.ready = True
        await self._phase(runtime, "after_plugins_ready", Phase.READY)
        for point, extenders in runtime.services.undeclared_points().items():
            _log.warning("extension of a point that no plugin declares", point=point, plugins=extenders)

    async def stop(self, runtime: Runtime) -> None:
        """Shut down what was initialised, in reverse order, each within its deadline. Never raises."""
        for one in reversed(self.plugins):
            await self._withdraw(one, runtime)

    async def _phase(self, runtime: Runtime, moment: str, reached: Phase) -> None:
        for one in self._alive():
            try:
                for pending in self._call(one, moment, context=self._contexts[one.info.id]):
                    await pending
            except Exception as error:
                for leaving in self._leave_out(one, moment, error):
                    await self._withdraw(leaving, runtime)
            else:
                one.phase = reached

    def _alive(self) -> Iterator[LoadedPlugin]:
        """Those that take part, looked at one by one: a failure on the way may leave later ones out."""
        return (one for one in self.plugins if one.alive)

    def _call(self, one: LoadedPlugin, moment: str, **arguments: object) -> list[Awaitable[None]]:
        others = [plugin for plugin in self._pluggy.get_plugins() if plugin is not one.plugin]
        return cast("list[Awaitable[None]]", self._pluggy.subset_hook_caller(moment, others)(**arguments))

    def _leave_out(self, one: LoadedPlugin, moment: str, error: Exception) -> list[LoadedPlugin]:
        """Leave an optional plugin out with all that requires it, and answer those, dependents first.

        Any other plugin's failure stops the start: raises `PluginError`.
        """
        one.error = f"plugin {one.info.id} failed in {moment}: {type(error).__name__}: {error}"
        if not one.info.optional:
            raise PluginError(one.error) from error
        _log.error("optional plugin left out", plugin=one.info.id, moment=moment, exc_info=error)
        leaving = [one]
        for other in self.plugins:
            missing = {gone.info.id for gone in leaving}.intersection(other.info.requires)
            if other.alive and missing:
                other.error = (
                    f"plugin {other.info.id} left out: it requires {', '.join(sorted(missing))}, which failed"
                )
                _log.error(other.error)
                leaving.append(other)
        leaving.reverse()
        for gone in leaving:
            self._services.remove_plugin(gone.info.id)
        return leaving

    async def _withdraw(self, one: LoadedPlugin, runtime: Runtime) -> None:
        """Take a plugin's tasks and subscriptions away, and have it shut down if it was initialised."""
        runtime.bus.disconnect_plugin(one.info.id)
        await runtime.tasks.cancel(one.info.id)
        if one.phase not in {Phase.INITIALISED, Phase.READY}:
            return
        try:
            async with asyncio.timeout(runtime.settings.shutdown_seconds):
                for pending in self._call(one, "shutdown", context=self._contexts[one.info.id]):
                    await pending
        except Exception as error:
            _log.exception(
                "plugin did not shut down cleanly",
                plugin=one.info.id,
                error=f"{type(error).__name__}: {error}",
            )
        one.phase = Phase.STOPPED
