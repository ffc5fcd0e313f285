"""The satellite plugin: remote agents, registered here, told the policy, and asked to run scripts."""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from ringfence import (
    Event,
    Hook,
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
from ringfence.redaction import describe
from ringfence.scripts import RunResult, ScriptRequest
from ringfence.web import TextMessage
from ringfence_script_packages.hooks import (
    SandboxPolicyChanged,
    sandbox_policy_changed,
    script_packages_changed,
)
from ringfence_script_packages.service import PackageHolder, PolicyPreviewer, SandboxPolicyService
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.websockets import WebSocket

from ringfence_satellite.hooks import (
    ALL_HOOKS,
    SatelliteChanged,
    SatelliteConnected,
    SatelliteDeleted,
    SatelliteDisconnected,
    SatellitePolicyApplied,
    SatelliteRefused,
    SatelliteRunCancelRequested,
    SatelliteRunRequested,
    SatelliteTokenRotated,
    satellite_changed,
    satellite_connected,
    satellite_deleted,
    satellite_disconnected,
    satellite_policy_applied,
    satellite_refused,
    satellite_run_cancel_requested,
    satellite_run_finished,
    satellite_run_requested,
    satellite_token_rotated,
    stream_of,
)
from ringfence_satellite.pages.declared import SatellitePages
from ringfence_satellite.protocol import (
    TASK,
    CloseCode,
    FactsChanged,
    JsonObject,
    RunScript,
)
from ringfence_satellite.server import liveness, routes, satellites
from ringfence_satellite.server.assigned_work import Work
from ringfence_satellite.server.batched import Batched
from ringfence_satellite.server.connections.connection import Connection
from ringfence_satellite.server.connections.draining import say_goodbye, send_all_away
from ringfence_satellite.server.connections.relay import Relay
from ringfence_satellite.server.declared import SatelliteKind
from ringfence_satellite.server.guarded_fleet import GuardedFleet
from ringfence_satellite.server.journal import Fact, Journal
from ringfence_satellite.server.metrics import of_fleet
from ringfence_satellite.server.packages.offering import Offering
from ringfence_satellite.server.packages.states import SyncStates
from ringfence_satellite.server.policy_preview import SatellitePreviewer
from ringfence_satellite.server.profile import Profile
from ringfence_satellite.server.registrar import Registrar
from ringfence_satellite.server.rules import FleetRules
from ringfence_satellite.server.runs import routes as run_routes
from ringfence_satellite.server.runs.delivery import Deliveries
from ringfence_satellite.server.runs.guarded import GuardedRuns
from ringfence_satellite.server.runs.ids import config_of
from ringfence_satellite.server.runs.output import Outputs
from ringfence_satellite.server.runs.requesting import DELIVER_WITHIN_SECONDS, Runs
from ringfence_satellite.server.runs.table import hold
from ringfence_satellite.server.runs.translation import check_size, frame_of, result_of
from ringfence_satellite.server.runs.watchers import Watchers
from ringfence_satellite.server.satellites import Credentials
from ringfence_satellite.server.websocket.endpoint import SatelliteEndpoint
from ringfence_satellite.service import (
    AssignedSatellite,
    AssignmentSource,
    KnownSatellite,
    Presence,
    RunEnd,
    RunSecretSource,
    Satellites,
    Selector,
)
from ringfence_satellite.settings import SatelliteSettings

FORGET_RUNS = Job("forget-runs", Nothing, deadline_seconds=None, at_once=1)


class SatellitePlugin:
    """Wires the fleet, the relay and the endpoint to the host, and is the `Satellites` service."""

    info = PluginInfo(
        id="satellite", version=importlib.metadata.version("ringfence"), requires=("script-packages",)
    )

    _rules: FleetRules
    _context: PluginContext
    _settings: SatelliteSettings
    _relay: Relay
    _journal: Journal
    _runs: Runs
    _watchers: Watchers
    _deliveries: Deliveries
    _outputs: Outputs
    _work: Work
    _credentials: Batched[UUID, Credentials]
    _packages: Offering
    _sync_states: SyncStates
    _pages: SatellitePages
    _endpoint: SatelliteEndpoint | None = None

    @hookimpl
    def settings(self) -> type[SatelliteSettings]:
        """What an operator can set of the fleet."""
        return SatelliteSettings

    @hookimpl
    def register(self, registry: Registry) -> None:
        """Declare the fleet's access rule, hooks, tables, services and socket."""
        self._rules = FleetRules.declare(registry)
        for hook in ALL_HOOKS:
            registry.hook(hook)
        registry.job(FORGET_RUNS)
        registry.migrations("ringfence_migrations.satellite")
        registry.websocket("", self.serve)
        registry.service(Satellites)
        registry.extension_point(AssignmentSource)
        registry.extension_point(RunSecretSource)

    @hookimpl
    def pages(self) -> Pages:
        """The fleet's pages."""
        return self._pages.pages()

    @hookimpl
    async def metrics(self) -> Sequence[Metric]:
        """How the fleet stands."""
        return await of_fleet(self._context, self._relay)

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        """Build the parts."""
        self._context = context
        self._settings = context.own_settings(SatelliteSettings)
        self._relay = Relay(self._read_policy, self._read_stored_policy)
        self._watchers = Watchers()
        self._sync_states = SyncStates(context)
        self._packages = Offering(context, self._relay, self._sync_states)
        self._deliveries = Deliveries(
            context, self._relay, self._watchers, before_run=self._packages.asked_for
        )
        self._outputs = Outputs(context, self._watchers)
        self._runs = Runs(context, self._watchers, self._deliveries.nudge)
        self._work = Work(context)
        self._credentials = Batched(self._load_credentials)
        self._journal = Journal(context.write_apart, context.instance_id, self._emit)
        guarded = GuardedFleet(context, Registrar(context), self._rules)
        context.services.extend(ObjectKind, SatelliteKind(context, self._rules))
        guarded_runs = GuardedRuns(context, self._runs, self._rules)
        self._pages = SatellitePages(context, self._rules, guarded, self._runs, guarded_runs)
        context.web.router(routes.build(context, guarded, self._rules, self._sync_states))
        context.web.router(run_routes.build(self._runs, guarded_runs, self._rules))
        context.services.provide(Satellites, self)
        context.services.extend(PolicyPreviewer, SatellitePreviewer(context))
        context.services.extend(PackageHolder, self._sync_states)

    @hookimpl
    async def after_plugins_ready(self, context: PluginContext) -> None:
        """Follow the policy and what other instances do, and let satellites in."""
        context.on_hook(sandbox_policy_changed, self._policy_changed)
        context.on_hook(script_packages_changed, self._packages.changed)
        context.on_hook(satellite_token_rotated, self._token_rotated)
        context.on_hook(satellite_deleted, self._deleted)
        context.on_hook(satellite_changed, self._changed)
        context.on_hook(satellite_connected, self._connected)
        context.on_hook(satellite_run_requested, self._run_requested)
        context.on_hook(satellite_run_cancel_requested, self._run_not_wanted)
        context.on_hook(satellite_run_finished, self._deliveries.ended)
        context.on_hook(event_log_resumed, self._resumed, mode=Mode.INSTANCE_LOCAL)
        context.supervise(self._journal.write_until_cancelled, name="journal")
        context.supervise(self._relay.tell_the_untold, name="relay")
        context.supervise(self._packages.follow_until_cancelled, name="packages of satellites")
        context.supervise(self._sync_states.write_until_cancelled, name="how far packages are")
        context.supervise(self._deliveries.look_until_cancelled, name="runs")
        context.supervise(self._outputs.write_until_cancelled, name="output of runs")
        context.supervise(self._runs.end_the_abandoned, name="end of runs that nobody waits for")
        context.on_job(FORGET_RUNS, self._forget_runs)
        context.every("5m", FORGET_RUNS, Nothing(), name=FORGET_RUNS.name)
        context.supervise(
            lambda: liveness.watch_until_cancelled(context, self._relay, self._journal), name="liveness"
        )
        self._endpoint = SatelliteEndpoint(
            relay=self._relay,
            journal=self._journal,
            runs=self._deliveries,
            outputs=self._outputs,
            credentials=self._credentials,
            work=self._work,
            packages=self._packages,
            sync_states=self._sync_states,
            max_unauthenticated=self._settings.max_unauthenticated,
        )

    @hookimpl
    async def drain(self, context: PluginContext) -> None:
        """Send satellites elsewhere."""
        most_seconds = context.settings.drain_seconds / 2
        await send_all_away(self._relay, "this instance is about to stop", most_seconds=most_seconds)

    @hookimpl
    async def shutdown(self, context: PluginContext) -> None:
        """Say goodbye to every satellite, and write down what they have reported last."""
        for connection in self._relay.admitted():
            say_goodbye(connection, "this instance stops")
        await asyncio.sleep(0)
        await self._credentials.close()
        await self._relay.close()
        try:
            await self._journal.write()
            await self._sync_states.write()
            await liveness.leave(context)
        except SQLAlchemyError as error:
            context.logger.warning("could not write the last reports of satellites", error=describe(error))

    async def serve(self, websocket: WebSocket) -> None:
        """The WebSocket endpoint."""
        if self._endpoint is None:
            await websocket.close(CloseCode.TRY_LATER, "the host is still starting")
        else:
            await self._endpoint.serve(websocket)

    # The service ------------------------------------------------------------------------------------------

    async def run_script(self, satellite: UUID, request: ScriptRequest) -> RunResult:
        """See `Satellites`."""
        frame = frame_of(request)
        return result_of(await self._runs.run(satellite, frame))

    async def run(self, satellite: UUID, frame: RunScript) -> JsonObject:
        """See `Satellites`."""
        return await self._runs.run(satellite, frame)

    async def ask(
        self,
        satellite: UUID,
        frame: RunScript,
        *,
        id: UUID,
        session: AsyncSession,
        by: str | None = None,
        deliver_within: float = DELIVER_WITHIN_SECONDS,
        has_secrets: bool = False,
    ) -> bool:
        """See `Satellites`."""
        if has_secrets:
            frame = frame.model_copy(update={"config_id": config_of(id)})
        check_size(frame)
        return await self._runs.ask_in(session, satellite, frame, id=id, by=by, deliver_within=deliver_within)

    async def hold(self, satellites: Collection[UUID], *, session: AsyncSession) -> None:
        """See `Satellites`."""
        await hold(session, satellites)

    async def outcome(self, id: UUID, *, session: AsyncSession | None = None) -> RunEnd | None:
        """See `Satellites`."""
        if session is not None:
            return await self._runs.end_of(session, id)
        async with self._context.sessions() as own:
            return await self._runs.end_of(own, id)

    async def cancel(self, id: UUID, *, by: str | None = None, session: AsyncSession | None = None) -> None:
        """See `Satellites`."""
        if session is None:
            await self._runs.cancel(id, by=by)
        else:
            await self._runs.cancel_in(session, id, by=by)

    async def reassign(self, concerned: Callable[[AssignedSatellite], bool]) -> None:
        """See `Satellites`."""
        for connection in self._relay.admitted():
            if concerned(connection.identity):
                await self._tell_assignments(connection)
                # It may concern thousands, and others have something to say meanwhile.
                await asyncio.sleep(0)

    async def find(
        self,
        *,
        ids: Collection[UUID] | None = None,
        tags: Collection[str] | None = None,
        selector: Selector | None = None,
        names: Collection[str] | None = None,
    ) -> Sequence[KnownSatellite]:
        """See `Satellites`."""
        async with self._context.sessions() as session:
            return await satellites.find(session, ids=ids, tags=tags, selector=selector, names=names)

    async def presence(self) -> Presence:
        """See `Satellites`."""
        async with self._context.sessions() as session:
            return await satellites.presence(session)

    async def names(
        self, ids: Collection[UUID], *, reach: Collection[Collection[str]] | None = None
    ) -> Mapping[UUID, str]:
        """See `Satellites`."""
        async with self._context.sessions() as session:
            return await satellites.names(session, ids, reach=reach)

    # What the parts need ----------------------------------------------------------------------------------

    async def _read_policy(self) -> tuple[Mapping[str, Any], int]:
        state = await self._context.services.get(SandboxPolicyService).current()
        return state.wire, state.revision

    async def _read_stored_policy(self) -> tuple[Mapping[str, Any], int]:
        state = await self._context.services.get(SandboxPolicyService).stored()
        return state.wire, state.revision

    async def _load_credentials(self, ids: Sequence[UUID]) -> dict[UUID, Credentials]:
        async with self._context.sessions() as session:
            return await satellites.credentials(session, ids)

    async def _tell_assignments(self, connection: Connection) -> None:
        as_of = self._work.turn()
        assigned = await self._work.assignments(connection.identity)
        self._packages.assigned(connection, assigned)
        if (told := connection.assign(assigned, as_of)) != assigned:
            self._packages.assigned(connection, told)

    async def _emit(self, session: AsyncSession, kind: type[Fact], facts: Sequence[Fact]) -> None:
        hooks: dict[type[Fact], Hook[Any]] = {
            SatelliteConnected: satellite_connected,
            SatelliteDisconnected: satellite_disconnected,
            SatellitePolicyApplied: satellite_policy_applied,
            SatelliteRefused: satellite_refused,
        }
        hook = hooks[kind]
        told = [(stream_of(fact.satellite_id), fact) for fact in facts]
        await self._context.emit_hooks(hook, told, session=session)

    # What happens -----------------------------------------------------------------------------------------

    async def _policy_changed(self, event: Event[SandboxPolicyChanged]) -> None:
        self._relay.changed(event.payload.policy, event.payload.revision)

    async def _resumed(self, event: Event[EventLogResumed]) -> None:
        self._packages.look()
        if event.payload.set_back:
            self._relay.start_over()
        else:
            self._context.spawn(self._relay.check_told(), name="look whether the policy was set back")

    async def _token_rotated(self, event: Event[SatelliteTokenRotated]) -> None:
        self._relay.revoke(event.payload.satellite_id, "the token of this satellite was rotated")

    async def _deleted(self, event: Event[SatelliteDeleted]) -> None:
        self._relay.revoke(event.payload.satellite_id, "this satellite was deleted", CloseCode.DELETED)
        # Its runs are gone with it.
        self._watchers.any_changed()

    async def _changed(self, event: Event[SatelliteChanged]) -> None:
        told = event.payload
        profile = Profile(told.name, told.region, told.tags, told.labels, told.vars)
        for connection in self._relay.claimed(told.satellite_id):
            if connection.changed(profile):
                if TASK in connection.understands:
                    facts = FactsChanged(facts=dict(connection.identity.facts))
                    connection.answer(TextMessage(facts.encode()))
                await self._tell_assignments(connection)

    async def _connected(self, event: Event[SatelliteConnected]) -> None:
        self._relay.announced(event.payload.satellite_id, event.payload.connection)
        self._deliveries.nudge(event.payload.satellite_id)

    async def _forget_runs(self, _: RunningJob[Nothing], __: AsyncSession) -> None:
        await self._deliveries.forget_old(keep_seconds=self._settings.run_retention_seconds)

    async def _run_requested(self, event: Event[SatelliteRunRequested]) -> None:
        self._deliveries.nudge(event.payload.satellite_id)

    async def _run_not_wanted(self, event: Event[SatelliteRunCancelRequested]) -> None:
        self._deliveries.nudge(event.payload.satellite_id)
