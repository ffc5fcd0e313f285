"""What is done for all runs now and then: nobody is overlooked, and what is old is forgotten."""

from __future__ import annotations

from ringfence import PluginContext

from ringfence_automations.runs.engine import Engine
from ringfence_automations.runs.jobs import StepRef
from ringfence_automations.runs.tables import neglected_runs, runs_table, steps_table

OVERLOOKED_SECONDS = 60.0
"""How long after its time a run is looked at whose job for that is gone: somebody may have cancelled it by hand."""
NOT_STARTED_SECONDS = 300.0
"""How long a step may wait for its turn before its job is taken to be gone."""
MOST = 500
"""How many are looked after in one transaction."""


class Upkeep:
    """Looks after runs whose jobs are gone, and drops old ones."""

    def __init__(self, context: PluginContext, engine: Engine, *, keep_seconds: float) -> None:
        self._context = context
        self._engine = engine
        self._keep_seconds = keep_seconds

    async def look_after(self) -> None:
        """Have those go on for which nothing is under way that should be. Each in a transaction of its own."""
        async with self._context.sessions() as session:
            runs = await neglected_runs.overlooked(session, seconds=OVERLOOKED_SECONDS, limit=MOST)
            steps = await steps_table.not_started(session, seconds=NOT_STARTED_SECONDS, limit=MOST)
            keys = await neglected_runs.stuck(session, limit=MOST)
        for run in runs:
            async with self._context.sessions.begin() as session:
                await self._engine.look_at(session, run)
        for run, path, attempt in steps:
            async with self._context.sessions.begin() as session:
                if await runs_table.lock(session, run) is not None:
                    await self._engine.perform(session, StepRef(run=run, path=path, attempt=attempt))
        for automation, key in keys:
            async with self._context.sessions.begin() as session:
                await self._engine.admit(session, automation, key)

    async def forget(self) -> None:
        """Drop runs that have ended so long ago, or of which an automation has too many."""
        there_are_more = True
        while there_are_more:
            async with self._context.sessions.begin() as session:
                there_are_more = await neglected_runs.forget_old(session, keep_seconds=self._keep_seconds)
        # It reads all runs that have ended, and so is asked once as a rule.
        there_are_more = True
        while there_are_more:
            async with self._context.sessions.begin() as session:
                there_are_more = await neglected_runs.forget_many(session)
