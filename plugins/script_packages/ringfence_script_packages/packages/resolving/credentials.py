"""The credentials of registries, as the secrets plugin keeps them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from ringfence import PluginContext
from ringfence_secrets.service import SecretError, Secrets

from ringfence_script_packages.packages.resolving.registries import RegistrySettings


class Credentials:
    """Gives the values of secrets for one request to a registry; nobody keeps them."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context

    async def __call__(self, names: Collection[str]) -> Mapping[str, str]:
        """The values of all of `names`. Raises `SecretError`, which says what to do."""
        secrets = self._context.services.find(Secrets)
        if secrets is None:
            raise SecretError("the secrets plugin is not on this host")
        return await secrets.get(names)


class CredentialUsers:
    """Says which registries have a secret as their credential. Implements `SecretUser`."""

    def __init__(self, settings: RegistrySettings) -> None:
        self._settings = settings

    async def using(self, name: str) -> Sequence[str]:
        """See `SecretUser`."""
        return [
            f"registry of packages {url}"
            for url, secret in self._settings.credentials.items()
            if secret == name
        ]

    async def used(self) -> Mapping[str, int]:
        """See `SecretUser`."""
        return Counter(self._settings.credentials.values())
