"""The whole contract between the host and a plugin: the moments in a plugin's life, in this order.

A plugin implements any of them with `@hookimpl`. Everything else that a plugin can do, it does through the
`Registry` and the `PluginContext` that it is handed here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from ringfence.plugins.context import PluginContext
    from ringfence.plugins.registry import Registry

PROJECT = "ringfence"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register(registry: Registry) -> None:
    """Declare what the plugin has: services, access rules, hooks, routes, migrations. No I/O."""


@hookspec
async def init(context: PluginContext) -> None:
    """Build the plugin's services; the database is migrated, and what it requires has been initialised."""


@hookspec
async def after_plugins_ready(context: PluginContext) -> None:
    """Subscribe, emit and call others: every plugin is initialised now, and not before."""


@hookspec
async def drain(context: PluginContext) -> None:
    """Take nothing new, and bring to an end what is under way: the instance is about to stop. It may stop without."""


@hookspec
async def shutdown(context: PluginContext) -> None:
    """Let go of everything that the plugin holds; runs in reverse order, with a deadline."""
