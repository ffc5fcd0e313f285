"""What is done for all runs now and then: nobody is overlooked, and what is old is forgotten."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable
from functools import partial

from ringfence import PluginContext
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_automations.runs.engine import Engine
from ringfence_automations.runs.jobs import StepRef
from ringfence_automations.runs.starting import TriggerFact
from ringfence_automations.runs.tables import neglected_runs, runs_table, steps_table

OVERLOOKED_SECONDS = 60.0
"""How long after its time a run is looked at whose job for that is gone: somebody may have cancelled it by hand."""
NOT_STARTED_SECONDS = 300.0
"""How long a step may wait for its turn before its job is taken to be gone."""
MOST = 500
"""How many are looked after in one transaction."""


TooOften = Callable[[AsyncSession, dt.datetime], Awaitable[list[str]]]
Pause = Callable[[AsyncSession, str, str, TooOften], Awaitable[int | None]]
"""Disables an automation for a reason, if it is enabled, and was started too often since it was changed last.

Answers its revision, or None.
"""


class Upkeep:
    """Looks after runs whose jobs are gone, and drops old ones."""

    def __init__(
        self, context: PluginContext, engine: Engine, *, keep_seconds: float, most_an_hour: int, pause: Pause
    ) -> None:
        self._context = context
        self._engine = engine
        self._keep_seconds = keep_seconds
        self._most_an_hour = most_an_hour
        self._pause = pause

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

    async def pause_loops(self) -> None:
        """Disable automations that start too often, whatever starts them, and have a failed run of each say so.

        Threat: an automation starts itself by ways that nobody can follow, such as a health check or a script that asks
        for its webhook, for ever. Mechanism: more runs in an hour than are allowed, and it is disabled, until somebody
        enables it again. Not covered: what it does until this is looked at, a minute later at the most.
        """
        most = self._most_an_hour
        too_often = partial(neglected_runs.started_too_often, seconds=3600.0, most=most)
        async with self._context.sessions() as session:
            found = await too_often(session)
        for name in found:
            why = f"paused: it was started more than {most} times within an hour"
            async with self._context.sessions.begin() as session:
                revision = await self._pause(session, name, why, partial(too_often, automation=name))
            if revision is None:
                continue
            self._context.logger.error("an automation is paused", automation=name, reason=why)
            fact = TriggerFact(kind="manual", time=dt.datetime.now(dt.UTC))
            said = f"{why}; enable it again once it is known what has started it"
            async with self._context.sessions.begin() as session:
                await self._engine.start(session, name, revision, trigger=fact, event={}, failure=said)

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
