"""All that the satellite plugin adds to the host's pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from ringfence import PluginContext
from ringfence.declaring import Held, held
from ringfence.eventlog import read_stream
from ringfence.pages import Action, Command, Data, Page, Pages, Panel, View
from ringfence_script_packages.hooks import sandbox_policy_changed

from ringfence_satellite.hooks import (
    satellite_changed,
    satellite_connected,
    satellite_deleted,
    satellite_disconnected,
    satellite_heartbeat_lost,
    satellite_policy_applied,
    satellite_refused,
    satellite_registered,
    satellite_run_cancel_requested,
    satellite_run_finished,
    satellite_run_requested,
    satellite_token_rotated,
    stream_of,
)
from ringfence_satellite.pages import words
from ringfence_satellite.pages.editing import Editing, address_for
from ringfence_satellite.pages.finding import Finding, current_policy, id_of
from ringfence_satellite.pages.listing import Listing
from ringfence_satellite.pages.output import Output
from ringfence_satellite.pages.rollout import RolloutPanel
from ringfence_satellite.pages.running import Running
from ringfence_satellite.server import lists, satellites
from ringfence_satellite.server.guarded_fleet import GuardedFleet
from ringfence_satellite.server.registrar import KIND
from ringfence_satellite.server.rules import FleetRules
from ringfence_satellite.server.runs.guarded import GuardedRuns
from ringfence_satellite.server.runs.requesting import Runs
from ringfence_satellite.starting import Starting

READ_EVENTS = "host.event.read"
EVENTS_SHOWN = 20
LIFE = tuple(
    hook.name
    for hook in (
        satellite_registered,
        satellite_changed,
        satellite_connected,
        satellite_disconnected,
        satellite_heartbeat_lost,
        satellite_policy_applied,
        satellite_refused,
        satellite_token_rotated,
        satellite_deleted,
        # It leaves satellites behind before any of them says something.
        sandbox_policy_changed,
    )
)
"""After these, what is shown of satellites is made anew."""
RUNS = tuple(
    hook.name for hook in (satellite_run_requested, satellite_run_cancel_requested, satellite_run_finished)
)


class SatellitePages:
    """The fleet's pages, over one instance."""

    def __init__(
        self,
        context: PluginContext,
        rules: FleetRules,
        guarded: GuardedFleet,
        runs: Runs,
        guarded_runs: GuardedRuns,
    ) -> None:
        self._context = context
        self._rules = rules
        self._guarded = guarded
        self._finding = Finding(context, rules)
        self._listing = Listing(context, rules)
        self._rollout = RolloutPanel(context, rules)
        self._editing = Editing(context, guarded, self.satellite)
        self._running = Running(rules, guarded, guarded_runs)
        self._output = Output(runs, guarded_runs)

    async def _held(self, view: View) -> Held | None:
        """Whether the satellite that the path names is changed elsewhere alone."""
        try:
            id = UUID(view.parameters["id"])
        except ValueError:
            return None
        async with self._context.sessions() as session:
            found = await satellites.one(session, id)
        return None if found is None else await held(self._context, KIND, found.name)

    def pages(self) -> Pages:
        """All of them."""
        rules = self._rules
        return Pages(
            package="ringfence_satellite.pages",
            pages=[
                Page(
                    path="/satellites",
                    title="Satellites",
                    template="satellites.html",
                    show=self._listing.show,
                    rule=rules.read,
                    group="Fleet",
                    order=10,
                    live=LIFE,
                ),
                Page(
                    path="/satellites/new",
                    title="Add a satellite",
                    template="new.html",
                    show=self._editing.new,
                    rule=rules.manage,
                ),
                Page(
                    path="/satellites/{id}",
                    title="Satellite",
                    template="satellite.html",
                    show=self.satellite,
                    rule=rules.read,
                    live=LIFE,
                    held=self._held,
                ),
                Page(
                    path="/satellites/{id}/run",
                    title="Run a script",
                    template="ask.html",
                    show=self._running.form,
                    rule=rules.run,
                ),
                Page(
                    path="/satellites/{id}/runs/{run}",
                    title="Run on a satellite",
                    template="run.html",
                    show=self._running.run,
                    rule=rules.run,
                    live=(*RUNS, satellite_deleted.name),
                ),
            ],
            panels=[
                self._rollout.panel(),
                Panel(
                    name="runs",
                    on="/satellites/{id}",
                    title="Runs",
                    template="runs.html",
                    show=self._running.listed,
                    rule=rules.run,
                    order=60,
                    live=RUNS,
                ),
                Panel(
                    name="events",
                    on="/satellites/{id}",
                    title="Events",
                    template="happened.html",
                    show=self.events,
                    rule=READ_EVENTS,
                    order=90,
                    live=(*LIFE, *RUNS),
                ),
            ],
            actions=[
                Action(
                    path="/satellites", title="Add a satellite", do=self._editing.create, rule=rules.manage
                ),
                Action(path="/satellites/{id}", title="Change", do=self._editing.change, rule=rules.manage),
                Action(
                    path="/satellites/{id}/rotate",
                    title="Give it a new token",
                    do=self._editing.rotate,
                    rule=rules.place,
                ),
                Action(
                    path="/satellites/{id}/delete",
                    title="Delete a satellite",
                    do=self._editing.delete,
                    rule=rules.manage,
                ),
                Action(
                    path="/satellites/{id}/runs", title="Run a script", do=self._running.ask, rule=rules.run
                ),
                Action(
                    path="/satellites/{id}/runs/{run}/cancel",
                    title="Cancel a run",
                    do=self._running.cancel,
                    rule=rules.run,
                ),
            ],
            data=[
                Data(path="/satellites/{id}/runs/{run}/output", answer=self._output.answer, rule=rules.run),
            ],
            commands=[
                Command("Add a satellite", "/satellites/new", rule=rules.manage),
                Command("Satellites that are offline", "/satellites?only=offline", rule=rules.read),
                Command("Satellites behind on the policy", "/satellites?only=behind", rule=rules.read),
            ],
            attention=self._finding.attention,
            counts=self._finding.counts,
            find=self._finding.find,
        )

    async def satellite(self, view: View) -> Mapping[str, Any]:
        """One satellite's page, without its panels."""
        one = await self._guarded.found(id_of(view.parameters["id"]), view.principal, self._rules.read)
        revision = (await current_policy(self._context)).revision
        async with self._context.sessions() as session:
            sets = await lists.packages_of(session, one.id)
        carried, principal = one.profile.carried, view.principal
        return {
            "named": one.name,
            "satellite": one,
            "there": words.state_of(one),
            "policy": words.policy(one, revision),
            "enforces": words.enforces(one),
            "layers": words.layers(one),
            "remedies": words.remedies(one.capabilities),
            "machine": words.machine(one.capabilities),
            "sets": sets,
            "labels": sorted(carried),
            "may_run": principal.holds_on(self._rules.run.name, carried),
            "may_manage": principal.holds_on(self._rules.manage.name, carried),
            "starting": Starting(str(one.id), address_for(self._context, view)),
            "may_place": principal.holds_on(self._rules.place.name, carried),
            **self._editing.given(one),
        }

    async def events(self, view: View) -> Mapping[str, Any] | None:
        """What has happened to it, the newest first; what is in the events is for who may see that of all."""
        one = await self._guarded.found(id_of(view.parameters["id"]), view.principal, self._rules.read)
        stream = stream_of(one.id)
        async with self._context.sessions() as session:
            found = await read_stream(session, stream, limit=EVENTS_SHOWN, newest_first=True)
        readable = view.principal.holds(self._rules.read.name)
        events: Sequence[Mapping[str, Any]] = [
            {
                "at": each.occurred_at,
                "what": each.hook.removeprefix("satellite-").replace("-", " "),
                "detail": words.event(each.hook, each.payload) if readable else "",
                "actor": each.actor,
            }
            for each in found
        ]
        return {"events": events, "stream": stream}
