"""What all parts of a plugin's context stand on: which plugin it is, and the running host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringfence.plugins.registry import Registry
from ringfence.storage.configs import PluginConfigs

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

    from ringfence.plugins.runtime import Runtime


class PluginView:
    """One plugin, and the host that it is a part of."""

    def __init__(self, registry: Registry, runtime: Runtime) -> None:
        self._registry = registry
        self._runtime = runtime
        self.id = registry.plugin
        self.configs = PluginConfigs(self.id, registry.configs)

    @property
    def sessions(self) -> async_sessionmaker[AsyncSession]:
        """Database sessions: `async with context.sessions.begin() as session` is one transaction."""
        return self._runtime.database.sessions
