"""Who imports from a set, as far as plugins say so."""

from __future__ import annotations

from collections.abc import Sequence

from ringfence import PluginContext

from ringfence_script_packages.packages.ports import PackageUser


class Users:
    """Asks every plugin that has told of itself as a `PackageUser`."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context

    async def of(self, set: str) -> Sequence[str]:
        """What imports from a set, in words."""
        found: list[str] = []
        for user in self._context.services.extensions(PackageUser):
            found += await user.using(set)
        return found
