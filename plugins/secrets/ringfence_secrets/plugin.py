"""The secrets plugin: a service, extension points, and a store of its own."""

from __future__ import annotations

import importlib.metadata

from ringfence import AccessRule, PluginContext, PluginInfo, Registry, hookimpl
from ringfence.backup import KeysOutside
from ringfence.pages import Pages
from ringfence.settings import HostSettings

from ringfence_secrets import routes
from ringfence_secrets.hooks import secret_changed
from ringfence_secrets.kept import Kept
from ringfence_secrets.keyring import Keyring, read_keyring
from ringfence_secrets.outside import SecretsKeys
from ringfence_secrets.pages import SecretsPages
from ringfence_secrets.service import KeptValues, Secrets, SecretStore, SecretUser
from ringfence_secrets.settings import SecretsSettings
from ringfence_secrets.uses import Uses
from ringfence_secrets.vault import AllStores, Vault


class SecretsPlugin:
    """Wires the vault to the host."""

    info = PluginInfo(id="secrets", version=importlib.metadata.version("ringfence"))

    _rule: AccessRule
    _context: PluginContext
    _vault: Vault
    _uses: Uses

    @hookimpl
    def settings(self) -> type[SecretsSettings]:
        """What an operator can set of secrets."""
        return SecretsSettings

    @hookimpl
    def keys(self, settings: HostSettings) -> KeysOutside:
        """The keys that seal secrets, for backups."""
        key = SecretsSettings().secrets_key
        return SecretsKeys(None if key is None else key.get_secret_value(), settings.data_dir)

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
        vault, uses = Vault(context, read_keys, kept), Uses(context)
        self._context, self._vault, self._uses = context, vault, uses
        context.web.router(routes.build(vault, uses, self._rule))
        context.services.provide(Secrets, AllStores(context, vault))
        context.services.provide(KeptValues, kept)

    @hookimpl
    def pages(self) -> Pages:
        """What people see of secrets: never a value."""
        has_other_stores = bool(self._context.services.extensions(SecretStore))
        pages = SecretsPages(self._vault, self._uses, self._rule, has_other_stores=has_other_stores)
        return pages.pages()
