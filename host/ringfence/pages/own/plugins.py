"""Plugins: how far each has come, why one is left out, and what each has declared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ringfence.access import Access
from ringfence.eventlog.groups import standing
from ringfence.http.problems import Problem
from ringfence.pages.declared import Found, Page, Pages, View
from ringfence.plugins.command_line import Plugged
from ringfence.plugins.lifecycle import LoadedPlugin
from ringfence.plugins.runtime import Runtime
from ringfence.web.host_routes import READ_PLUGINS, plugin_document


class PluginPages:
    """The pages."""

    def __init__(
        self,
        runtime: Runtime,
        plugins: Sequence[LoadedPlugin],
        access: Access,
        commands: Callable[[], Plugged],
        *,
        live: Sequence[str],
    ) -> None:
        self._live = live
        self._runtime = runtime
        self._plugins = plugins
        self._access = access
        self._commands = commands

    def declared(self) -> Pages:
        """The list, and each plugin."""
        return Pages(
            package="",
            pages=[
                Page(
                    path="/plugins",
                    title="Plugins",
                    template="plugins.html",
                    show=self.listed,
                    rule=READ_PLUGINS,
                    group="System",
                    order=85,
                ),
                Page(
                    path="/plugins/{id}",
                    title="Plugin",
                    template="plugin.html",
                    show=self.one,
                    rule=READ_PLUGINS,
                    live=self._live,
                ),
            ],
            find=self.find,
        )

    async def listed(self, _: View) -> Mapping[str, Any]:
        """All of this instance."""
        return {
            "plugins": [
                {
                    "id": one.info.id,
                    "version": one.info.version,
                    "phase": one.phase,
                    "error": one.error,
                    "requires": one.info.requires,
                    "optional": one.info.optional,
                    "hooks": len(one.registry.hooks),
                    "rules": len(one.registry.rules),
                }
                for one in self._plugins
            ]
        }

    async def one(self, view: View) -> Mapping[str, Any]:
        """All that is known of one."""
        id = view.parameters["id"]
        plugin = next((one for one in self._plugins if one.info.id == id), None)
        if plugin is None:
            raise Problem(404, detail="This instance has no plugin of that name.")
        async with self._runtime.database.sessions() as session:
            groups = await standing.groups(session, plugin=id)
        rules = [self._access.rules[name] for name in plugin.registry.rules if name in self._access.rules]
        return {
            "plugin": plugin_document(plugin, self._runtime, self._commands()),
            "groups": groups,
            "rules": sorted(rules, key=lambda rule: rule.name),
            "slow": self._runtime.delivery.lanes.behind.get(id),
            "missed": self._runtime.delivery.missed.get(id),
        }

    async def find(self, view: View, words: str) -> Sequence[Found]:
        """Plugins by their name."""
        if not view.may(READ_PLUGINS):
            return ()
        ids = [one.info.id for one in self._plugins if words.lower() in one.info.id]
        return [Found(id, f"/plugins/{id}", "plugin") for id in ids[:5]]
