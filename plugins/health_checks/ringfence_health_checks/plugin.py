"""The health-checks plugin: scripts that look at systems again and again."""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import Sequence

from ringfence import (
    AccessRule,
    Event,
    Job,
    Mode,
    Nothing,
    PluginContext,
    PluginInfo,
    Registry,
    RunningJob,
    hookimpl,
)
from ringfence.declaring import ObjectKind
from ringfence.eventlog import EventLogResumed, event_log_resumed
from ringfence.metrics import Metric
from ringfence.pages import Pages
from ringfence_satellite.hooks import (
    SatelliteChanged,
    SatelliteDeleted,
    SatelliteRegistered,
    satellite_changed,
    satellite_deleted,
    satellite_registered,
)
from ringfence_satellite.service import (
    AssignedSatellite,
    AssignmentSource,
    Satellites,
)
from ringfence_script_packages.service import PackageUser, PolicyPreviewer
from ringfence_secrets.service import SecretUser
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_health_checks.declared import CheckKind, SilenceKind
from ringfence_health_checks.definitions.checks import Checks
from ringfence_health_checks.definitions.checks_copy import ChecksCopy
from ringfence_health_checks.definitions.package_sets import PackageSets
from ringfence_health_checks.destinations.policy_preview import CheckPreviewer
from ringfence_health_checks.destinations.suggesting import Suggestions
from ringfence_health_checks.destinations.table import Destinations
from ringfence_health_checks.hooks import (
    HealthCheckChanged,
    health_check_changed,
    health_check_stopped,
    health_silence_changed,
    health_state_changed,
)
from ringfence_health_checks.metrics import of_checks
from ringfence_health_checks.pages.declared import pages_of
from ringfence_health_checks.pages.parts import Parts
from ringfence_health_checks.pages.suggestions import SuggestionsPanel
from ringfence_health_checks.results.history import History
from ringfence_health_checks.results.results import Results
from ringfence_health_checks.routes import checks as check_routes
from ringfence_health_checks.routes import silences as silence_routes
from ringfence_health_checks.routes import suggestions as suggestion_routes
from ringfence_health_checks.routes.place_names import Names
from ringfence_health_checks.running.assignments import CheckAssignments, is_assigned
from ringfence_health_checks.running.changes import Changes
from ringfence_health_checks.running.core_runner import CoreRunner
from ringfence_health_checks.running.manual_runs import ManualRuns
from ringfence_health_checks.running.tries import Tries
from ringfence_health_checks.settings import HealthChecksSettings
from ringfence_health_checks.silences.asked import AskedSilences
from ringfence_health_checks.silences.silences import Silences
from ringfence_health_checks.states.current_states import States
from ringfence_health_checks.states.expected_places import Expectations
from ringfence_health_checks.states.overview import Overview
from ringfence_health_checks.states.stale_places import Watch

THIN = Job("thin-results", Nothing, deadline_seconds=None, at_once=1)


class HealthChecksPlugin:
    """Wires the checks to the host, to the satellites and to the secrets."""

    info = PluginInfo(
        id="health-checks",
        version=importlib.metadata.version("ringfence"),
        requires=("script-packages", "satellite", "secrets"),
    )

    _manage: AccessRule
    _read: AccessRule
    _run: AccessRule
    _context: PluginContext
    _checks_copy: ChecksCopy
    _core: CoreRunner
    _serving: asyncio.Task[None]
    _pages: Pages
    _results: Results
    _overview: Overview
    _watch: Watch

    @hookimpl
    def settings(self) -> type[HealthChecksSettings]:
        """What an operator can set of health checks."""
        return HealthChecksSettings

    @hookimpl
    def register(self, registry: Registry) -> None:
        """Declare the rules, the hooks and the tables."""
        self._manage = registry.access_rule("check", "manage", "Create, change and delete checks")
        self._read = registry.access_rule("check", "read", "See checks and their results")
        self._run = registry.access_rule("check", "run", "Have a check run now")
        registry.hook(health_check_changed)
        registry.hook(health_state_changed)
        registry.hook(health_silence_changed)
        registry.hook(health_check_stopped)
        registry.job(THIN)
        registry.migrations("ringfence_migrations.health_checks")

    @hookimpl
    async def metrics(self) -> Sequence[Metric]:
        """How the checks are."""
        return await of_checks(self._overview, self._results)

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        """Build the parts, and offer satellites their work."""
        self._context = context
        checks = Checks(context)
        self._results = Results(context)
        self._overview = Overview(context)
        self._checks_copy = ChecksCopy(context, checks)
        expectations = Expectations(context)
        silences = Silences(context)
        asked = AskedSilences(context, silences)
        settings = context.own_settings(HealthChecksSettings)
        self._watch = Watch(
            context, self._checks_copy, expectations, silences, keep_seconds=settings.result_retention_seconds
        )
        self._core = CoreRunner(
            context,
            context.lead("core"),
            self._results,
            also_lead=self._watch.lead,
        )
        runs = ManualRuns(context, self._core, self._results)
        context.services.extend(
            AssignmentSource, CheckAssignments(context, checks, self._checks_copy, self._results)
        )
        destinations = Destinations(context)
        context.services.extend(SecretUser, self._checks_copy)
        context.services.extend(PolicyPreviewer, CheckPreviewer(context, destinations))
        suggestions = Suggestions(context, destinations)
        context.web.router(suggestion_routes.build(suggestions, read=self._read))
        context.web.router(silence_routes.build(asked, manage=self._manage, read=self._read))
        package_sets = PackageSets(context)
        context.services.extend(PackageUser, package_sets)
        context.services.extend(ObjectKind, CheckKind(context, read_rule=self._read, write_rule=self._manage))
        context.services.extend(
            ObjectKind, SilenceKind(context, read_rule=self._read, write_rule=self._manage)
        )
        changes = Changes(checks, package_sets, expectations)
        tries, names, states = Tries(context, package_sets), Names(context), States(context)
        self._pages = pages_of(
            Parts(
                context=context,
                checks=checks,
                changes=changes,
                results=self._results,
                history=History(context),
                runs=runs,
                tries=tries,
                names=names,
                states=states,
                overview=self._overview,
                silences=asked,
                manage=self._manage,
                read=self._read,
                run=self._run,
            ),
            panels=[SuggestionsPanel(suggestions, self._read).panel()],
        )
        context.web.router(
            check_routes.build(
                checks,
                changes,
                self._results,
                runs,
                tries,
                names,
                states,
                manage=self._manage,
                read=self._read,
                run=self._run,
            )
        )

    @hookimpl
    def pages(self) -> Pages:
        """The pages of checks, and what they add to others'."""
        return self._pages

    @hookimpl
    async def after_plugins_ready(self, context: PluginContext) -> None:
        """Follow changes, and take part in running the core's checks."""
        context.on_hook(health_check_changed, self._changed)
        context.on_hook(satellite_registered, self._satellite_changed)
        context.on_hook(satellite_changed, self._satellite_changed)
        context.on_hook(satellite_deleted, self._satellite_deleted)
        context.on_hook(event_log_resumed, self._resumed, mode=Mode.INSTANCE_LOCAL)
        context.on_job(THIN, self._thin)
        context.every("1h", THIN, Nothing(), name=THIN.name)
        self._core.replace((await self._checks_copy.current()).values())
        self._serving = context.supervise(self._core.serve, name="core's checks")

    @hookimpl
    async def drain(self, context: PluginContext) -> None:
        """Let what runs here end, and leave the core's checks to another instance."""
        await self._core.finish()
        self._serving.cancel()
        await asyncio.wait({self._serving})

    async def _thin(self, _: RunningJob[Nothing], __: AsyncSession) -> None:
        settings = self._context.own_settings(HealthChecksSettings)
        thinned = await self._results.thin(keep_seconds=settings.result_retention_seconds)
        if thinned:
            self._context.logger.info("old results are deleted", results=thinned)

    async def _changed(self, event: Event[HealthCheckChanged]) -> None:
        changed = await self._checks_copy.on_change(event)
        self._watch.check_changed(event.payload.check_id)
        self._core.replace((await self._checks_copy.current()).values())

        def concerned(satellite: AssignedSatellite) -> bool:
            return any(
                check is not None and is_assigned(check, satellite)
                for check in (changed.before, changed.after)
            )

        await self._context.services.get(Satellites).reassign(concerned)

    async def _resumed(self, event: Event[EventLogResumed]) -> None:
        if event.payload.set_back:
            # Satellites are told when they come again, which the satellite plugin has them do.
            self._core.replace((await self._checks_copy.current()).values())

    async def _satellite_changed(self, event: Event[SatelliteRegistered] | Event[SatelliteChanged]) -> None:
        self._watch.satellite_changed(event.payload.satellite_id)

    async def _satellite_deleted(self, event: Event[SatelliteDeleted]) -> None:
        await self._results.forget_place(str(event.payload.satellite_id))
