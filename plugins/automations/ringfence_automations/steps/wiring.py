"""What the kinds of steps bring to the plugin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ringfence import Event, Mode, PluginContext, Registry
from ringfence_satellite.hooks import satellite_deleted, satellite_run_finished
from ringfence_satellite.service import RunSecretSource

from ringfence_automations.definitions.wiring import Definitions
from ringfence_automations.hooks import AutomationRunFinished, automation_run_finished
from ringfence_automations.runs.tables import kept_output
from ringfence_automations.runs.wiring import Runs
from ringfence_automations.service import StepEnds, StepKind
from ringfence_automations.steps.http_steps import HttpSteps, LeadsHere
from ringfence_automations.steps.notify_steps import NotifySteps
from ringfence_automations.steps.on_satellites import ActsFor, OnSatellites
from ringfence_automations.steps.performing import Performing
from ringfence_automations.steps.script_steps import ScriptSteps
from ringfence_automations.steps.secrets import RunSecrets


def declare(registry: Registry) -> None:
    """Declare what this room brings."""
    registry.extension_point(StepKind)
    registry.service(StepEnds)


class Steps:
    """The kinds of steps, and what carries them out."""

    def __init__(
        self,
        context: PluginContext,
        definitions: Definitions,
        acts_for: ActsFor,
        runs: Runs,
        leads_here: LeadsHere,
    ) -> None:
        self._context = context
        self._definitions = definitions
        self._runs = runs
        secrets = RunSecrets(context)
        self._on_satellites = OnSatellites(
            context, secrets, acts_for, tell=runs.engine.step_ended, keep=kept_output.add_all
        )
        built_in = (
            ScriptSteps("run_shell", self._on_satellites, secrets),
            ScriptSteps("run_script", self._on_satellites, secrets),
            HttpSteps(secrets, leads_here),
            NotifySteps(context, secrets),
        )
        self.performing = Performing(
            context,
            built_in,
            secrets,
            write_output=runs.write_output,
            tell=runs.engine.step_ended,
        )
        context.services.provide(StepEnds, self.performing)
        context.services.extend(RunSecretSource, self._on_satellites)

    async def begin(self) -> None:
        """Take part, once all plugins are ready."""
        kinds: Sequence[StepKind[Any]] = self._context.services.extensions(StepKind)
        self._definitions.know_kinds({kind.name: kind.model for kind in kinds})
        self._context.on_hook(
            satellite_run_finished,
            self._on_satellites.run_finished,
            mode=Mode.WORK_QUEUE,
            worker_group="ends-on-satellites",
        )
        self._context.on_hook(
            satellite_deleted,
            self._on_satellites.satellite_deleted,
            mode=Mode.WORK_QUEUE,
            worker_group="deleted-satellites",
        )
        self._context.on_hook(automation_run_finished, self._forget)
        self._runs.carried_out_by(self.performing)

    async def _forget(self, event: Event[AutomationRunFinished]) -> None:
        self.performing.forget(event.payload.run_id)
