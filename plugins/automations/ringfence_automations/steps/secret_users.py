"""Which automations have scripts or requests given a secret, for whoever deletes it."""

from __future__ import annotations

from collections.abc import Sequence

from ringfence_automations.definitions.wiring import Definitions


class SecretUsers:
    """Implements `SecretUser`."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions

    async def using(self, name: str) -> Sequence[str]:
        """See `SecretUser`."""
        return []
