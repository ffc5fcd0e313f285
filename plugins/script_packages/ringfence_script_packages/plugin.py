"""The script-packages plugin: owner of the one sandbox policy, and of what scripts may import."""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import Callable, Sequence

from ringfence import AccessRule, Event, PluginContext, PluginInfo, Registry, hookimpl
from ringfence.declaring import ObjectKind
from ringfence.metrics import Metric
from ringfence.pages import Pages
from ringfence.sandbox.policy.provider import clear_policy_provider, set_policy_provider
from ringfence.scripts import clear_package_provider, set_package_provider
from ringfence_secrets.service import SecretUser

from ringfence_script_packages import routes
from ringfence_script_packages.declared import PackagesKind, PolicyKind
from ringfence_script_packages.hooks import (
    ScriptPackagesRequested,
    sandbox_policy_changed,
    script_packages_allowed,
    script_packages_changed,
    script_packages_failed,
    script_packages_requested,
    script_packages_vulnerable,
)
from ringfence_script_packages.metrics import of_policy
from ringfence_script_packages.packages import routes as package_routes
from ringfence_script_packages.packages.allowlist import Allowlist
from ringfence_script_packages.packages.auditing import Auditor, Audits
from ringfence_script_packages.packages.blobs import AllBlobs, PostgresBlobs
from ringfence_script_packages.packages.carrying import Carrying
from ringfence_script_packages.packages.collecting import Collector
from ringfence_script_packages.packages.contents import Contents
from ringfence_script_packages.packages.here import PackagesHere
from ringfence_script_packages.packages.installing import Installer
from ringfence_script_packages.packages.offered import Offered
from ringfence_script_packages.packages.own_platform import OwnPlatform
from ringfence_script_packages.packages.platforms import Platforms
from ringfence_script_packages.packages.ports import Fetcher, Resolver
from ringfence_script_packages.packages.resolving.credentials import Credentials, CredentialUsers
from ringfence_script_packages.packages.resolving.resolver import RegistryPackages
from ringfence_script_packages.packages.sets import Sets
from ringfence_script_packages.packages.sets_of_scripts import SetsOfScripts
from ringfence_script_packages.packages.upkeep import AUDIT, COLLECT, Upkeep
from ringfence_script_packages.packages.users import Users
from ringfence_script_packages.pages import packages as package_pages
from ringfence_script_packages.pages import together, wiring
from ringfence_script_packages.pages.history import HistoryPages
from ringfence_script_packages.pages.overview import PolicyOverview
from ringfence_script_packages.pages.policy import PolicyPage
from ringfence_script_packages.policy_copy import PolicyHolder
from ringfence_script_packages.policy_store import POLICY_CONFIG, SandboxPolicies
from ringfence_script_packages.previewing import Previews
from ringfence_script_packages.service import (
    BlobStore,
    PackageHolder,
    PackageUser,
    PolicyPreviewer,
    SandboxPolicyService,
    ScriptPackages,
    ScriptSets,
)
from ringfence_script_packages.settings import ScriptPackagesSettings
from ringfence_script_packages.startup_notice import announce
from ringfence_script_packages.verifying import Verifying


class ScriptPackagesPlugin:
    """Wires the policy and the packages to the host: rows, hooks, routes, and the providers of this process.

    Tests pass a resolver, a fetcher and an auditor of their own, which ask no registry.
    """

    info = PluginInfo(id="script-packages", version=importlib.metadata.version("ringfence"))

    _holder: PolicyHolder
    _policy_rule: AccessRule
    _manage: AccessRule
    _read: AccessRule
    _installer: Installer
    _own_platform: OwnPlatform
    _offered: Offered
    _upkeep: Upkeep
    _here: PackagesHere
    _package_pages: Pages
    _leading: asyncio.Task[None]
    _policy_page: PolicyPage
    _history_pages: HistoryPages
    _policy_overview: PolicyOverview

    def __init__(
        self,
        *,
        resolver: Resolver | None = None,
        fetcher: Fetcher | None = None,
        auditor: Auditor | None = None,
    ) -> None:
        self._resolver = resolver
        self._fetcher = fetcher
        self._auditor = auditor

    @hookimpl
    def settings(self) -> type[ScriptPackagesSettings]:
        """What an operator can set of script packages."""
        return ScriptPackagesSettings

    @hookimpl
    def register(self, registry: Registry) -> None:
        """Declare the rules, the policy's row, the hooks and tables, and what others may use and add."""
        self._policy_rule = registry.access_rule(
            "script-sandbox", "manage", "Read and change the global sandbox policy"
        )
        self._manage = registry.access_rule("package", "manage", "Decide what scripts may import")
        self._read = registry.access_rule("package", "read", "See what scripts may import")
        registry.config(POLICY_CONFIG)
        registry.hook(sandbox_policy_changed)
        registry.hook(script_packages_allowed)
        registry.hook(script_packages_requested)
        registry.hook(script_packages_changed)
        registry.hook(script_packages_failed)
        registry.hook(script_packages_vulnerable)
        registry.job(AUDIT)
        registry.job(COLLECT)
        registry.migrations("ringfence_migrations.script_packages")
        registry.service(SandboxPolicyService)
        registry.service(ScriptSets)
        registry.extension_point(PolicyPreviewer)
        registry.extension_point(BlobStore)
        registry.extension_point(PackageUser)
        registry.extension_point(PackageHolder)
        registry.service(ScriptPackages)

    @hookimpl
    async def metrics(self) -> Sequence[Metric]:
        """Which revision of the policy is where."""
        return await of_policy(self._holder)

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        """Offer the policy and the packages to administrators and to other plugins."""
        policies = SandboxPolicies(context)
        self._holder = PolicyHolder(context, policies)
        policies.written, policies.known = self._holder.keep, self._holder.known
        previews, verifying = Previews(context), Verifying(policies)
        context.web.router(routes.build(policies, previews, self._policy_rule))
        self._policy_page = PolicyPage(policies, previews, self._policy_rule)
        self._history_pages = HistoryPages(policies, previews, verifying, self._policy_rule)
        self._policy_overview = PolicyOverview(policies, verifying, self._policy_rule)
        context.services.provide(SandboxPolicyService, self._holder)
        context.services.extend(
            ObjectKind, PolicyKind(context, read_rule=self._policy_rule, write_rule=self._policy_rule)
        )
        context.services.extend(
            ObjectKind, PackagesKind(context, read_rule=self._read, write_rule=self._manage)
        )
        self._init_packages(context)

    def _init_packages(self, context: PluginContext) -> None:
        settings = context.own_settings(ScriptPackagesSettings)
        most_bytes = settings.max_set_bytes
        registries = RegistryPackages(settings.registries, Credentials(context))
        if settings.registries.credentials:
            context.services.extend(SecretUser, CredentialUsers(settings.registries))
        blobs = AllBlobs(context, PostgresBlobs(context))
        sets, platforms = Sets(context), Platforms(context)
        self._own_platform = OwnPlatform(platforms)
        self._here = PackagesHere(
            sets,
            blobs,
            self._own_platform,
            context.settings.data_dir / "packages",
            grace_seconds=settings.unused_seconds,
        )
        self._installer = Installer(
            sets,
            blobs,
            platforms,
            self._own_platform,
            self._resolver or registries,
            self._fetcher or registries,
            most_bytes=most_bytes,
        )
        contents = Contents(
            sets,
            blobs,
            platforms,
            self._holders(context),
            most_bytes=most_bytes,
        )
        self._offered = Offered(sets, blobs, platforms, wake=self._installer.wake)
        context.services.provide(ScriptPackages, self._offered)
        allowlist = Allowlist(context)
        self._upkeep = Upkeep(
            context,
            Audits(context, sets, self._auditor or registries),
            Collector(context, sets, blobs, grace_seconds=settings.unused_seconds),
        )
        scripts = SetsOfScripts(context, allowlist, sets, platforms, self._own_platform)
        context.services.provide(ScriptSets, scripts)
        context.web.router(
            package_routes.build(
                allowlist,
                sets,
                contents,
                self._upkeep,
                Carrying(sets, blobs, most_bytes=most_bytes),
                scripts,
                manage=self._manage,
                read=self._read,
            )
        )
        context.web.streams(package_routes.IMPORT)
        users = Users(context)
        set_pages = package_pages.SetPages(
            sets, contents, self._upkeep.audits, users, self._holders(context), self._manage
        )
        self._package_pages = package_pages.pages_of(
            self._read,
            self._manage,
            package_pages.AllowedPages(allowlist, set_pages, users, self._upkeep, self._manage),
            set_pages,
            package_pages.Following(sets, self._holders(context)),
            package_pages.Noticing(allowlist, sets, self._upkeep.audits, self._holders(context), self._read),
        )

    @staticmethod
    def _holders(context: PluginContext) -> Callable[[], Sequence[PackageHolder]]:
        return lambda: context.services.extensions(PackageHolder)

    @hookimpl
    def pages(self) -> Pages:
        """The policy and its history, for people."""
        policy = wiring.pages(self._policy_page, self._history_pages, self._policy_overview)
        return together(policy, self._package_pages)

    @hookimpl
    async def after_plugins_ready(self, context: PluginContext) -> None:
        """Follow the policy, answer for it in this process, and say once what this host can enforce."""
        context.on_hook(sandbox_policy_changed, self._holder.on_change)
        context.on_hook(script_packages_requested, self._requested)
        set_policy_provider(self._holder.provide)
        await announce(context.logger, self._holder)
        await self._here.begin()
        context.on_hook(script_packages_changed, self._here.changed)
        set_package_provider(self._here.provide)
        context.supervise(self._here.serve, name="packages here")
        self._upkeep.begin()
        leadership = context.lead("packages")
        self._leading = context.supervise(lambda: leadership.serve(self._installer.lead), name="packages")

    @hookimpl
    async def drain(self, context: PluginContext) -> None:
        """Leave what is to be installed to another instance."""
        self._leading.cancel()
        await asyncio.wait({self._leading})

    @hookimpl
    async def shutdown(self, context: PluginContext) -> None:
        """Runs that come after this are fail-closed."""
        await self._offered.close()
        clear_policy_provider()
        clear_package_provider()

    async def _requested(self, _: Event[ScriptPackagesRequested]) -> None:
        self._installer.wake()
        await self._own_platform.note()
