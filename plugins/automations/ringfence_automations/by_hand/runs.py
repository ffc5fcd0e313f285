"""Runs are looked at, started and ended.

Threat: a run holds the payload of the event that has started it, which not everybody may see. Mechanism: the event is
shown only to those who hold the rule that its hook names for that, and only they start a run again that has one. Not
covered: what a step has made of the event, in its artifact or its output, is shown to whoever may see automations.
"""

from __future__ import annotations

import datetime as dt
from typing import Any
from uuid import UUID

from ringfence import PluginContext
from ringfence.web import Principal, Problem

from ringfence_automations.by_hand.problems import of_starts, unknown
from ringfence_automations.definitions.automations import Automations
from ringfence_automations.definitions.stored import Automation
from ringfence_automations.runs.engine import Engine
from ringfence_automations.runs.starting import Skipped, TriggerFact
from ringfence_automations.runs.tables import runs_table
from ringfence_automations.runs.tables.runs_table import Run


class RunsByHand:
    """Runs, for whoever may see or start them. All of it raises `Problem`."""

    def __init__(self, context: PluginContext, automations: Automations, engine: Engine) -> None:
        self._context = context
        self._automations = automations
        self._engine = engine

    async def one(self, id: UUID) -> Run:
        """The run with this id."""
        async with self._context.sessions() as session:
            found = await runs_table.one(session, id)
        if found is None:
            raise Problem(404, "No such run", detail=f"there is no run {id}, or not any more", run=str(id))
        return found

    def may_see_event(self, principal: Principal, run: Run) -> bool:
        """Whether somebody may see what has started a run."""
        if not run.trigger["hook"]:
            return True
        # Of a hook that no plugin here declares, nobody knows who may.
        hook = self._context.hooks.find(run.trigger["hook"])
        return hook is not None and (hook.payload_rule is None or principal.holds(hook.payload_rule))

    async def start(
        self, name: str, inputs: dict[str, Any], runner: Principal, *, once: str | None = None
    ) -> UUID:
        """Start a run by hand. 409 where it is skipped: another is under way, too many wait, or a condition fails."""
        fact = TriggerFact(kind="manual", time=dt.datetime.now(dt.UTC))
        once_key = None if once is None else f"manual/{once}"
        return await self._started(name, fact, {}, inputs, runner, once_key=once_key)

    async def start_again(self, before: Run, runner: Principal) -> UUID:
        """Start a new run with what has started this one, under the automation's newest revision."""
        if not self.may_see_event(runner, before):
            detail = f"{runner.name} may not see the event that started this run, and so may not use it again"
            raise Problem(403, detail=detail)
        fact = TriggerFact(
            kind=before.trigger["kind"], hook=before.trigger["hook"] or None, time=dt.datetime.now(dt.UTC)
        )
        return await self._started(before.automation, fact, before.event, before.inputs or {}, runner)

    async def cancel(self, id: UUID, runner: Principal) -> None:
        """Have a run end."""
        await self.one(id)
        async with self._context.sessions.begin() as session:
            await self._engine.cancel(session, id, by=runner.name)

    async def _started(
        self,
        name: str,
        fact: TriggerFact,
        event: dict[str, Any],
        inputs: dict[str, Any],
        runner: Principal,
        *,
        once_key: str | None = None,
    ) -> UUID:
        with of_starts():
            async with self._context.sessions.begin() as session:
                found = await self._automations.one(session, name)
                if found is None:
                    raise unknown(name)
                check_enabled(found, "started")
                started = await self._engine.start(
                    session,
                    name,
                    found.revision,
                    trigger=fact,
                    event=event,
                    inputs=found.definition.with_inputs(inputs),
                    once_key=once_key,
                    actor=runner.name,
                )
        if isinstance(started, Skipped):
            run = None if started.run is None else str(started.run)
            raise Problem(409, "The run is skipped", detail=f"{name} does not start: {started.why}", run=run)
        return started


def check_enabled(automation: Automation, what: str) -> None:
    """Raise `Problem` for an automation that nothing may start."""
    if not automation.definition.enabled:
        detail = f"{automation.name} is disabled: enable it before it is {what}"
        raise Problem(409, "The automation is disabled", detail=detail)
