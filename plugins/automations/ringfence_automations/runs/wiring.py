"""What runs bring to the plugin."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from ringfence import Nothing, PluginContext, Registry, RunningJob
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_automations.hooks import automation_run_finished, automation_run_started
from ringfence_automations.runs import jobs
from ringfence_automations.runs.carrying_out import ActsFor, CarryingOut
from ringfence_automations.runs.compiled import Plans
from ringfence_automations.runs.engine import Engine
from ringfence_automations.runs.jobs import EndedRun, KeyRef, RunRef
from ringfence_automations.runs.performer import Performer
from ringfence_automations.runs.tables import kept_output
from ringfence_automations.runs.upkeep import Pause, Upkeep

MOST_AN_HOUR = 10_000
"""How often an automation may be started within an hour, unless it is set."""


def declare(registry: Registry) -> None:
    """Declare what this room brings."""
    registry.hook(automation_run_started)
    registry.hook(automation_run_finished)
    for job in jobs.ALL_JOBS:
        registry.job(job)


class Runs:
    """The runs of automations, and the engine that carries them on."""

    def __init__(
        self,
        context: PluginContext,
        plans: Plans,
        acts_for: ActsFor,
        *,
        keep_seconds: float,
        most_an_hour: int = MOST_AN_HOUR,
        pause: Pause,
    ) -> None:
        self._context = context
        self._plans = plans
        self._acts_for = acts_for
        self.engine = Engine(context, plans)
        self._upkeep = Upkeep(
            context, self.engine, keep_seconds=keep_seconds, most_an_hour=most_an_hour, pause=pause
        )

    async def begin(self) -> None:
        """Take part, once all plugins are ready."""
        context = self._context
        context.on_job(jobs.ADVANCE, self._advance)
        context.on_job(jobs.ADMIT, self._admit)
        context.on_job(jobs.TELL_STARTED, self._tell_started)
        context.on_job(jobs.TELL_FINISHED, self._tell_finished)
        context.on_job(jobs.LOOK_AFTER, self._look_after)
        context.on_job(jobs.FORGET, self._forget)
        context.every("1m", jobs.LOOK_AFTER, Nothing(), name="look-after-runs")
        context.every("1h", jobs.FORGET, Nothing(), name="forget-runs")

    def carried_out_by(self, performer: Performer) -> None:
        """Have steps carried out by this one. Only in `after_plugins_ready`."""
        carrying_out = CarryingOut(self._context, self._plans, self.engine, self._acts_for, performer)
        self._context.on_job(jobs.PERFORM_STEP, carrying_out.perform)
        self._context.on_job(jobs.END_STEP, carrying_out.end)

    async def write_output(
        self, run: UUID, path: str, attempt: int, pieces: Sequence[tuple[str, str]]
    ) -> None:
        """Keep what an attempt has written: streams and texts, in which no secret is left."""
        async with self._context.sessions.begin() as session:
            await kept_output.add_all(session, run, path, attempt, pieces)

    async def look_after(self) -> None:
        """Have those runs go on whose jobs are gone."""
        await self._upkeep.look_after()
        await self._upkeep.pause_loops()

    async def forget(self) -> None:
        """Drop old runs."""
        await self._upkeep.forget()

    async def _advance(self, job: RunningJob[RunRef], session: AsyncSession) -> None:
        await self.engine.advance(session, job.payload.run)

    async def _admit(self, job: RunningJob[KeyRef], session: AsyncSession) -> None:
        await self.engine.admit(session, job.payload.automation, job.payload.key)

    async def _tell_started(self, job: RunningJob[RunRef], session: AsyncSession) -> None:
        await self.engine.tell_started(session, job.payload.run)

    async def _tell_finished(self, job: RunningJob[EndedRun], session: AsyncSession) -> None:
        if job.payload.since_start:
            await self.engine.tell_started(session, job.payload.run)
        await self.engine.tell_finished(session, job.payload.run)

    async def _look_after(self, job: RunningJob[Nothing], session: AsyncSession) -> None:
        await self.look_after()

    async def _forget(self, job: RunningJob[Nothing], session: AsyncSession) -> None:
        await self.forget()
