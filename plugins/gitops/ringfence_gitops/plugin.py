"""The gitops plugin: git repositories are followed, and what they declare holds."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence

from ringfence import PluginContext, PluginInfo, Registry, hookimpl
from ringfence.declaring import ObjectHolder
from ringfence.metrics import Metric
from ringfence.pages import Pages
from ringfence_secrets.service import SecretUser

from ringfence_gitops import hooks, jobs, pages
from ringfence_gitops.access_rules import AccessRules
from ringfence_gitops.api import routes
from ringfence_gitops.holder import GitHolder
from ringfence_gitops.metrics import of_sources
from ringfence_gitops.remotes.fetching import sweep
from ringfence_gitops.settings import GitopsSettings
from ringfence_gitops.sources.sources import Sources
from ringfence_gitops.syncing.syncing import Syncing
from ringfence_gitops.syncing.webhooks import Webhooks


class GitopsPlugin:
    """Wires the rooms to the host and to each other."""

    info = PluginInfo(
        id="gitops", version=importlib.metadata.version("ringfence"), requires=("secrets",), optional=True
    )

    _rules: AccessRules
    _sources: Sources
    _syncing: Syncing

    @hookimpl
    def settings(self) -> type[GitopsSettings]:
        """What an operator can set of git repositories."""
        return GitopsSettings

    @hookimpl
    def register(self, registry: Registry) -> None:
        """Declare the rules, the hooks, the jobs and the tables."""
        self._rules = AccessRules.declared(registry)
        registry.hook(hooks.gitops_synced)
        registry.hook(hooks.gitops_failed)
        registry.hook(hooks.gitops_source_changed)
        registry.hook(hooks.gitops_object_released)
        registry.job(jobs.sync_job)
        registry.job(jobs.tick_job)
        registry.migrations("ringfence_migrations.gitops")

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        """Build the rooms, and hold what comes from git."""
        self._sources, self._syncing = Sources(context), Syncing(context)
        context.services.extend(SecretUser, self._sources)
        context.services.extend(ObjectHolder, GitHolder())
        context.web.router(routes.build(self._sources, self._rules))
        context.web.router(routes.open_to_all(Webhooks(context)))
        context.web.streams(routes.RECEIVE)

    @hookimpl
    async def after_plugins_ready(self, context: PluginContext) -> None:
        """Follow the sources."""
        context.on_job(jobs.sync_job, self._syncing.on_job)
        context.on_job(jobs.tick_job, self._syncing.on_tick)
        await sweep(self._syncing.room)

    @hookimpl
    async def metrics(self) -> Sequence[Metric]:
        """How following goes."""
        return await of_sources(self._sources, self._syncing)

    @hookimpl
    def pages(self) -> Pages:
        """What people see of it."""
        return pages.pages_of(pages.SourcePages(self._sources, self._rules), self._rules)
