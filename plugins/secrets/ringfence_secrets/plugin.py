"""The secrets plugin: a service, extension points, and a store of its own."""

from __future__ import annotations

import importlib.metadata

from ringfence import AccessRule, PluginContext, PluginInfo, Registry, hookimpl

from ringfence_secrets import routes
from ringfence_secrets.hooks import secret_changed
from ringfence_secrets.kept import Kept
from ringfence_secrets.keyring import Keyring, read_keyring
from ringfence_secrets.service import KeptValues, Secrets, SecretStore, SecretUser
from ringfence_secrets.settings import SecretsSettings
from ringfence_secrets.vault import AllStores, Vault


class SecretsPlugin:
    """Wires the vault to the host."""

    info = PluginInfo(id="secrets", version=importlib.metadata.version("ringfence"))

    _rule: AccessRule

    @hookimpl
    def settings(self) -> type[SecretsSettings]:
        """What an operator can set of secrets."""
        return SecretsSettings

    @hookimpl
    def register(self, registry: Registry) -> None:
        """Declare the service, the extension points, the table and the rules."""
        self._rule = registry.access_rule(
            "secret", "manage", "Set, list and delete secrets; none can be read"
        )
        registry.access_rule("secret", "use", "Have secrets given to scripts")
        registry.hook(secret_changed)
        registry.migrations("ringfence_migrations.secrets")
        registry.service(Secrets)
        registry.service(KeptValues)
        registry.extension_point(SecretStore)
        registry.extension_point(SecretUser)

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        """Offer secrets to administrators and to other plugins."""

        def read_keys() -> Keyring:
            key = context.own_settings(SecretsSettings).secrets_key
            return read_keyring(None if key is None else key.get_secret_value(), context.settings.data_dir)

        kept = Kept(context, read_keys)
        vault = Vault(context, read_keys, kept)
        context.web.router(routes.build(context, vault, self._rule))
        context.services.provide(Secrets, AllStores(context, vault))
        context.services.provide(KeptValues, kept)
