"""Fakes by interface: a plugin that takes another one's place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ringfence.hooks import Event, Hook, P
from ringfence.hookspecs import hookimpl
from ringfence.plugins.context import PluginContext
from ringfence.plugins.discovery import Plugin, UnfitPlugin, discover
from ringfence.plugins.registry import API_VERSION, PluginError, PluginInfo, Registry
from ringfence.plugins.services import PartialFake


class StandIn:
    """Takes the place of the plugin `id`: it offers `services` and `extensions`, by interface, and emits `hooks`.

    `run_host(plugins=[StandIn("clocks", services={Clock: FakeClock()}), MyPlugin()])`
    """

    def __init__(
        self,
        id: str,
        *,
        services: Mapping[type, object] | None = None,
        extensions: Mapping[type, Sequence[object]] | None = None,
        hooks: Iterable[Hook[Any]] = (),
    ) -> None:
        self.info = PluginInfo(id=id, version="0", api=API_VERSION)
        self._services = dict(services or {})
        self._extensions = dict(extensions or {})
        self._hooks = tuple(hooks)
        self._context: PluginContext | None = None

    @hookimpl
    def register(self, registry: Registry) -> None:
        """Declare what it was made with."""
        for interface in self._services:
            registry.service(interface)
        for hook in self._hooks:
            registry.hook(hook)

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        """Put the fakes in place."""
        for interface, fake in self._services.items():
            context.services.provide(interface, PartialFake(fake))
        for interface, fakes in self._extensions.items():
            for fake in fakes:
                context.services.extend(interface, PartialFake(fake))

    @hookimpl
    async def after_plugins_ready(self, context: PluginContext) -> None:
        """From now on it can emit."""
        self._context = context

    async def emit(
        self, hook: Hook[P], payload: P, *, actor: str | None = None, reason: str | None = None
    ) -> Event[P]:
        """Emit one of its hooks, in a transaction of its own. Returns when this instance's listeners have had it."""
        if (context := self._context) is None:
            raise PluginError(
                f"the stand-in for {self.info.id} emits {hook.name} before the host has started"
            )
        event = await context.emit_hook(hook, payload, standalone=hook.stored, actor=actor, reason=reason)
        if hook.stored:
            await context.wait_for_event(event.position, by_every_plugin=True)
        return event


def installed(*ids: str) -> list[Plugin]:
    """The installed plugins of these ids, as the host would make them, with all that they require.

    Raises `PluginError` for one that is not installed, or cannot be loaded.
    """
    found = {plugin.info.id: plugin for plugin in discover()}
    wanted: dict[str, Plugin] = {}
    missing = list(ids)
    while missing:
        id = missing.pop()
        if id not in found:
            raise PluginError(f"no plugin {id} is installed; there are: {', '.join(found) or 'none'}")
        if id not in wanted:
            if isinstance(unfit := found[id], UnfitPlugin):
                raise unfit.cause
            wanted[id] = found[id]
            missing += found[id].info.requires
    return list(wanted.values())
