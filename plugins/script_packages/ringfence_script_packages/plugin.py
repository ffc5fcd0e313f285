"""The script-packages plugin: owner of the one sandbox policy."""

from __future__ import annotations

import importlib.metadata

from ringfence import AccessRule, PluginContext, PluginInfo, Registry, hookimpl
from ringfence.sandbox.policy.provider import clear_policy_provider, set_policy_provider

from ringfence_script_packages import routes
from ringfence_script_packages.hooks import sandbox_policy_changed
from ringfence_script_packages.policy_copy import PolicyHolder
from ringfence_script_packages.policy_store import POLICY_CONFIG, SandboxPolicies
from ringfence_script_packages.previewing import Previews
from ringfence_script_packages.service import PolicyPreviewer, SandboxPolicyService
from ringfence_script_packages.startup_notice import announce


class ScriptPackagesPlugin:
    """Wires the policy to the host: its row, its hook, its routes, and the provider of this process."""

    info = PluginInfo(id="script-packages", version=importlib.metadata.version("ringfence"))

    _holder: PolicyHolder
    _rule: AccessRule

    @hookimpl
    def register(self, registry: Registry) -> None:
        """Declare the rule, the policy's row and hook, and what others may use and add."""
        self._rule = registry.access_rule(
            "script-sandbox", "manage", "Read and change the global sandbox policy"
        )
        registry.config(POLICY_CONFIG)
        registry.hook(sandbox_policy_changed)
        registry.service(SandboxPolicyService)
        registry.extension_point(PolicyPreviewer)

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        """Offer the policy to administrators and to other plugins."""
        policies = SandboxPolicies(context)
        self._holder = PolicyHolder(context, policies)
        policies.written, policies.known = self._holder.keep, self._holder.known
        context.web.router(routes.build(policies, Previews(context), self._rule))
        context.services.provide(SandboxPolicyService, self._holder)

    @hookimpl
    async def after_plugins_ready(self, context: PluginContext) -> None:
        """Follow the policy, answer for it in this process, and say once what this host can enforce."""
        context.on_hook(sandbox_policy_changed, self._holder.on_change)
        set_policy_provider(self._holder.provide)
        await announce(context.logger, self._holder)

    @hookimpl
    async def shutdown(self, context: PluginContext) -> None:
        """Runs that come after this are fail-closed."""
        clear_policy_provider()
