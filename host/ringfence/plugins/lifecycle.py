"""The lives of plugins: their phases, their failures and their shutdown."""

from __future__ import annotations

import asyncio
import enum
import inspect
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import pluggy
import structlog
from pydantic_settings import BaseSettings

from ringfence import hookspecs
from ringfence.acting import acting
from ringfence.eventlog import event_log_resumed
from ringfence.hooks import HookBus, WorkGroup
from ringfence.metrics import Metric
from ringfence.pages.declared import Pages
from ringfence.pages.rendering import check_templates
from ringfence.pages.site import Site
from ringfence.plugins.context import PluginContext
from ringfence.plugins.discovery import Plugin, UnfitPlugin, order
from ringfence.plugins.registry import PluginError, PluginInfo, Registry, check_routes
from ringfence.plugins.runtime import Runtime
from ringfence.plugins.services import ServiceDirectory
from ringfence.process.variables import PREFIX
from ringfence.redaction import describe
from ringfence.settings import (
    EVERYWHERE,
    START_SECONDS,
    HostSettings,
    Setting,
    SettingsError,
    build,
    of_model,
)
from ringfence.slow_start import watched
from ringfence.storage.errors import MigrationError
from ringfence.storage.migrating import MigrationBranch
from ringfence.tasks import CANCEL_SECONDS, contained, run_within

_MOMENTS = sorted(
    {name for name, value in vars(hookspecs).items() if hasattr(value, f"{hookspecs.PROJECT}_spec")}
    - hookspecs.OF_A_COMMAND_LINE
)
_log = structlog.get_logger("ringfence.lifecycle")


class Phase(enum.StrEnum):
    """How far a plugin has come."""

    DISCOVERED = "discovered"
    REGISTERED = "registered"
    INITIALISED = "initialised"
    READY = "ready"
    STOPPED = "stopped"


@dataclass(slots=True)
class LoadedPlugin:
    """A plugin in this instance: its object, what it declared, how far it has come, and why it is left out if it is."""

    plugin: Plugin
    registry: Registry
    phase: Phase = Phase.DISCOVERED
    error: str | None = None
    settings: tuple[Setting, ...] = ()
    cause: Exception | None = None
    """What it has raised itself, if that is why it is left out."""

    @property
    def info(self) -> PluginInfo:
        """Who it is."""
        return self.plugin.info

    @property
    def alive(self) -> bool:
        """Whether it takes part."""
        return self.error is None and self.phase is not Phase.STOPPED


class Lifecycle:
    """Takes the plugins through their phases, one after the other in dependency order, and back down again.

    Threat: a plugin waits for what never comes, and the host never starts. Mechanism: each phase of each plugin has
    `seconds`, and the log says whom the host waits for; one that is async is then cancelled, and has failed. Not
    covered: `register`, and async code that does not let go of the event loop, of which the log can but tell.
    """

    def __init__(
        self, plugins: Sequence[Plugin], services: ServiceDirectory, *, seconds: float = START_SECONDS
    ) -> None:
        """Order the plugins and have each `register`. Raises `PluginError`."""
        self._seconds = seconds
        self._services = services
        self._contexts: dict[str, PluginContext] = {}
        self.plugins: list[LoadedPlugin] = []
        for plugin in order(plugins):
            required = [one.registry for one in self.plugins if one.info.id in plugin.info.requires]
            there = frozenset(plugin.info.requires).union(*(registry.requires for registry in required))
            self.plugins.append(LoadedPlugin(plugin, Registry(plugin.info.id, services, there)))
        self._pluggy = pluggy.PluginManager(hookspecs.PROJECT)
        self._pluggy.add_hookspecs(hookspecs)
        for one in self._alive():
            if isinstance(one.plugin, UnfitPlugin):
                self._leave_out(one, str(one.plugin.cause), one.plugin.cause)
                continue
            try:
                with watched(one.info.id, "register", patience=seconds):
                    self._register(one)
                self._check_hooks(one)
            except Exception as error:
                self._fail(one, "register", error)
            else:
                one.phase = Phase.REGISTERED

    def alive(self) -> tuple[LoadedPlugin, ...]:
        """The plugins that take part, in dependency order."""
        return tuple(self._alive())

    def settings(self) -> tuple[Setting, ...]:
        """Every setting there is: the host's, those that are read everywhere, and the plugins'."""
        own = [each for one in self.plugins for each in one.settings]
        return (*of_model(HostSettings, "host"), *EVERYWHERE, *own)

    async def add_pages(self, site: Site, rules: Collection[str], runtime: Runtime) -> None:
        """Add what the plugins that take part declare of pages; one whose pages cannot be shown has failed.

        Raises `PluginError`.
        """
        for one in self._alive():
            try:
                for declared in self._call(one, "pages"):
                    if not isinstance(declared, Pages):
                        raise PluginError("pages answers a ringfence.pages.Pages")
                    check_templates(one.info.id, declared)
                    site.add(one.info.id, declared, rules=rules)
            except Exception as error:
                for leaving in self._fail(one, "pages", error):
                    await self._withdraw(leaving, runtime)

    def with_metrics(self) -> Iterator[str]:
        """The plugins that take part and have metrics."""
        for one in self._alive():
            asked = {caller.name for caller in self._pluggy.get_hookcallers(one.plugin) or ()}
            if one.phase is Phase.READY and "metrics" in asked:
                yield one.info.id

    async def metrics_of(self, plugin: str) -> list[Metric]:
        """The metrics of one plugin, as they are now. Raises what it raises."""
        one = next(each for each in self.plugins if each.info.id == plugin)
        found: list[Metric] = []
        for pending in cast("list[object]", self._call(one, "metrics")):
            if not inspect.isawaitable(pending):
                raise PluginError(
                    "metrics is an async function that answers a list of ringfence.metrics.Metric"
                )
            with contained("metrics"), acting({"plugin": plugin, "phase": "metrics"}):
                found.extend(await pending)
        return found

    def raise_what_failed(self) -> None:
        """Raise `PluginError`, as if it were not optional, for the first plugin that has failed and was left out."""
        for one in self.plugins:
            if one.cause is not None:
                raise PluginError(one.error) from one.cause

    def branches(self) -> list[MigrationBranch]:
        """The migrations of the plugins that take part and have any."""
        return [one.registry.branch for one in self._alive() if one.registry.branch is not None]

    async def migrate(
        self, run: Callable[[MigrationBranch], Awaitable[None]], branches: Collection[MigrationBranch]
    ) -> None:
        """Have `run` bring those of `branches` that are of plugins to their heads, in order. Raises `PluginError`."""
        for one in self._alive():
            if one.registry.branch is None or one.registry.branch not in branches:
                continue
            try:
                with watched(one.info.id, "migrations"):
                    await run(one.registry.branch)
            except MigrationError as error:
                self._fail(one, "migrations", error)

    async def start(self, runtime: Runtime) -> None:
        """Run `init` and then `after_plugins_ready` of every plugin. Raises `PluginError`; `stop` undoes it."""
        for one in self._alive():
            logger = structlog.get_logger("ringfence.plugin").bind(plugin=one.info.id)
            self._contexts[one.info.id] = PluginContext(one.registry, runtime, logger)
            runtime.hooks.add(one.info.id, one.registry.hooks.values())
        await self._phase(runtime, "init", Phase.INITIALISED)
        runtime.ready = True
        for one in self._alive():
            for put_off in runtime.when_ready.pop(one.info.id, ()):
                put_off()
        await self._phase(runtime, "after_plugins_ready", Phase.READY)
        runtime.following = True
        for point, extenders in runtime.services.undeclared_points().items():
            _log.warning("extension of a point that no plugin declares", point=point, plugins=extenders)
        for hook, subscribers in self._undeclared_hooks(runtime.bus).items():
            _log.warning("subscription to a hook that no plugin declares", hook=hook, plugins=subscribers)

    async def drain(self, seconds: float) -> None:
        """Have the plugins bring to an end what is under way, all at once. One that fails is logged. Never raises."""
        await asyncio.gather(*(self._drained(one, seconds) for one in self._alive()))

    async def _drained(self, one: LoadedPlugin, seconds: float) -> None:
        try:
            await run_within(seconds, self._await(one, "drain"), name=f"{one.info.id}: drain")
        except Exception as error:
            _log.warning("plugin did not drain", plugin=one.info.id, error=describe(error))

    async def stop(self, runtime: Runtime) -> None:
        """Shut down what was initialised, in reverse order, each within its deadline. Never raises."""
        for one in reversed(self.plugins):
            await self._withdraw(one, runtime)

    def _register(self, one: LoadedPlugin) -> None:
        if unmarked := [moment for moment in _MOMENTS if _is_unmarked(one.plugin, moment)]:
            raise PluginError(f"{', '.join(unmarked)} would never be called: mark it with @hookimpl")
        try:
            self._pluggy.register(one.plugin, name=one.info.id)
            self._pluggy.check_pending()
        except pluggy.PluginValidationError as error:
            if self._pluggy.has_plugin(one.info.id):
                self._pluggy.unregister(one.plugin)
            raise PluginError(
                f"{error}; the moments of a plugin, and what each is handed, are in ringfence.hookspecs"
            ) from error
        asked = {caller.name for caller in self._pluggy.get_hookcallers(one.plugin) or ()}
        if misplaced := sorted(asked & hookspecs.OF_A_COMMAND_LINE):
            raise PluginError(
                f"{', '.join(misplaced)} is asked in a command line, of the module that the entry point {one.info.id} "
                "of the group ringfence.commands names"
            )
        self._build_settings(one)
        for pending in self._call(one, "register", registry=one.registry):
            if inspect.iscoroutine(pending):
                pending.close()
            raise PluginError("register only declares: it is not async, and returns nothing")

    def _build_settings(self, one: LoadedPlugin) -> None:
        """Build the plugin's settings from the environment. Raises `SettingsError`, naming what is wrong."""
        for model in self._call(one, "settings"):
            if not (isinstance(model, type) and issubclass(model, BaseSettings)):
                raise PluginError("settings names a model: a class made of pydantic_settings.BaseSettings")
            one.settings = of_model(model, one.info.id)
            if strange := [each.variable for each in one.settings if not each.variable.startswith(PREFIX)]:
                raise PluginError(
                    f"the setting {strange[0]} must begin with {PREFIX}: see the model's env_prefix"
                )
            taken = {each.variable: each.owner for each in self.settings() if each.owner != one.info.id}
            if twice := [each.variable for each in one.settings if each.variable in taken]:
                raise PluginError(f"{taken[twice[0]]} has the setting {twice[0]} already")
            one.registry.settings = build(model)

    async def _phase(self, runtime: Runtime, moment: str, reached: Phase) -> None:
        for one in self._alive():
            try:
                with watched(one.info.id, moment, patience=self._seconds + CANCEL_SECONDS + 1):
                    await run_within(self._seconds, self._await(one, moment), name=f"{one.info.id}: {moment}")
                check_routes(one.registry.web)
                if reached is Phase.INITIALISED:
                    runtime.services.check_provided(one.info.id)
            except Exception as error:
                for leaving in self._fail(one, moment, error):
                    await self._withdraw(leaving, runtime)
            else:
                one.phase = reached

    def _alive(self) -> Iterator[LoadedPlugin]:
        """Those that take part, looked at one by one: a failure on the way may leave later ones out."""
        return (one for one in self.plugins if one.alive)

    def _call(self, one: LoadedPlugin, moment: str, **arguments: object) -> list[Awaitable[None]]:
        others = [plugin for plugin in self._pluggy.get_plugins() if plugin is not one.plugin]
        with contained(moment):
            return cast("list[Awaitable[None]]", self._pluggy.subset_hook_caller(moment, others)(**arguments))

    async def _await(self, one: LoadedPlugin, moment: str) -> None:
        for pending in self._call(one, moment, context=self._contexts[one.info.id]):
            if not inspect.isawaitable(pending):
                raise PluginError(f"{moment} is an async function that returns nothing")
            with contained(moment), acting({"plugin": one.info.id, "phase": moment}):
                await pending

    def _check_hooks(self, one: LoadedPlugin) -> None:
        """Refuse a hook whose name another plugin has taken: events are matched with their listeners by it."""
        for other in self.plugins:
            if (
                other is not one
                and other.alive
                and (taken := one.registry.hooks.keys() & other.registry.hooks)
            ):
                raise PluginError(f"{other.info.id} declares the hook {', '.join(sorted(taken))} already")

    def _fail(self, one: LoadedPlugin, moment: str, error: Exception) -> list[LoadedPlugin]:
        """Leave out an optional plugin that has failed; for any other, stop the start.

        Raises `PluginError`, and `SettingsError` where a setting is wrong.
        """
        reason = f"plugin {one.info.id} failed in {moment}: {type(error).__name__}: {error}"
        if isinstance(error, SettingsError) and not one.info.optional:
            raise error
        if not one.info.optional:
            raise PluginError(reason) from error
        return self._leave_out(one, reason, error)

    def _undeclared_hooks(self, bus: HookBus) -> dict[str, list[str]]:
        """Hooks that somebody listens to though no plugin here can emit them, and who that is."""
        declared = {event_log_resumed.name}
        declared |= {name for one in self._alive() for name in one.registry.hooks}
        subscribed = {(listener.hook.name, listener.plugin) for listener in bus.listeners()}
        subscribed |= {
            (group.hook.name, group.plugin) for group in bus.groups().values() if isinstance(group, WorkGroup)
        }
        found: dict[str, list[str]] = {}
        for hook, plugin in sorted(subscribed):
            if hook not in declared:
                found.setdefault(hook, []).append(plugin)
        return found

    def _leave_out(self, one: LoadedPlugin, reason: str, cause: Exception) -> list[LoadedPlugin]:
        """Leave a plugin out with all that requires it, and answer those, dependents first."""
        one.error, one.cause = reason, cause
        _log.error("optional plugin left out", plugin=one.info.id, reason=reason, exc_info=cause)
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
        runtime.hooks.remove_plugin(one.info.id)
        runtime.board.disconnect_plugin(one.info.id)
        await runtime.tasks.cancel(one.info.id)
        if one.phase in {Phase.INITIALISED, Phase.READY}:
            await self._shut_down(one, runtime)
        runtime.withdrawn.add(one.info.id)

    async def _shut_down(self, one: LoadedPlugin, runtime: Runtime) -> None:
        try:
            await run_within(
                runtime.settings.shutdown_seconds,
                self._await(one, "shutdown"),
                name=f"{one.info.id}: shutdown",
            )
        except Exception as error:
            _log.exception(
                "plugin did not shut down cleanly",
                plugin=one.info.id,
                error=describe(error),
            )
        one.phase = Phase.STOPPED


def _is_unmarked(plugin: Plugin, moment: str) -> bool:
    """Whether the plugin has a function of this name that pluggy would pass over."""
    function = getattr(type(plugin), moment, None)
    return callable(function) and not hasattr(function, f"{hookspecs.PROJECT}_impl")
