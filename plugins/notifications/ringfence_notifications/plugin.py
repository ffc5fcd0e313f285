"""The notifications plugin: what happens is told to people."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence

from ringfence import PluginContext, PluginInfo, Registry, hookimpl
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_notifications.access_rules import AccessRules
from ringfence_notifications.service import Notifications, Severity, UnknownChannelError


class NoChannels:
    """Implements `Notifications` where there is no channel."""

    async def notify(
        self,
        session: AsyncSession,
        *,
        channel: str,
        title: str,
        text: str,
        severity: Severity,
        group: str | None = None,
        link: str | None = None,
    ) -> None:
        """See `Notifications`."""
        raise UnknownChannelError(channel)

    async def channels(self) -> Sequence[str]:
        """See `Notifications`."""
        return ()


class NotificationsPlugin:
    """Wires the rooms to the host and to each other."""

    info = PluginInfo(
        id="notifications",
        version=importlib.metadata.version("ringfence"),
        requires=("secrets",),
        optional=True,
    )

    _rules: AccessRules

    @hookimpl
    def register(self, registry: Registry) -> None:
        """Declare the rules, the hooks, the jobs and the tables."""
        self._rules = AccessRules.declared(registry)
        registry.service(Notifications)

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        """Offer the service to other plugins."""
        context.services.provide(Notifications, NoChannels())
