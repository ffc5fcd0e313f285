"""Which things of plugins use which secrets, as far as plugins say so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ringfence import PluginContext

from ringfence_secrets.service import SecretUser

MOST_USERS = 20
"""How many of those that use a secret are named; all are counted."""


class Uses:
    """Asks every plugin that has told of itself as a `SecretUser`."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context

    async def of(self, name: str) -> Sequence[str]:
        """What could not run without a secret, in words."""
        found: list[str] = []
        for user in self._context.services.extensions(SecretUser):
            found += await user.using(name)
        return found

    async def counted(self) -> Mapping[str, int]:
        """How many things use each secret, whether it is there or not."""
        found: Counter[str] = Counter()
        for user in self._context.services.extensions(SecretUser):
            found.update(await user.used())
        return found
