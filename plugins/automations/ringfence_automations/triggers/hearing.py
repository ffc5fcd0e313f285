"""Hook triggers: each event that somebody waits for is matched, and its runs are recorded, in one transaction.

Threat: an event is lost, or starts a run twice, when an instance dies, the fleet's copies lag behind, or the database
is set back. Mechanism: one worker group takes the events in the log's order; its place moves on in the transaction that
records the runs, each under a key made of the event's position. It passes over an event only when this instance has
heard all that was said before it, the newest automations included (`PluginContext.on_events`).

Threat: automations start each other, or themselves, without end. Mechanism: a run knows how many came before it, also
where a script of a step on a satellite is what starts the next; over the bound it fails, and starts nothing more. Not
covered: automations that start each other by way of something outside.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from ringfence import AnyEvent, Event, Mode, PluginContext
from ringfence_satellite.hooks import (
    satellite_run_cancel_requested,
    satellite_run_finished,
    satellite_run_requested,
)
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_automations.definitions.automations import Automations
from ringfence_automations.definitions.definition import Definition
from ringfence_automations.hooks import (
    AutomationChange,
    AutomationChanged,
    automation_changed,
    automation_run_finished,
    automation_run_started,
)
from ringfence_automations.runs.carrying_out import ActsFor
from ringfence_automations.runs.compiled import NoPlanError
from ringfence_automations.runs.engine import Engine
from ringfence_automations.runs.starting import MAX_DEPTH, Skipped, TriggerFact
from ringfence_automations.service import StepFailed
from ringfence_automations.triggers.armed import Armed, Listening
from ringfence_automations.triggers.loading import depth_behind, load
from ringfence_automations.triggers.matching import Match, matches

_OWN = frozenset({automation_run_started.name, automation_run_finished.name})
_OF_SATELLITES = frozenset(
    {satellite_run_requested.name, satellite_run_cancel_requested.name, satellite_run_finished.name}
)
"""What is told of runs on satellites, which may be those of a step."""


class Hearing:
    """Hears what happens, and starts runs."""

    def __init__(
        self, context: PluginContext, engine: Engine, automations: Automations, acts_for: ActsFor
    ) -> None:
        self._context = context
        self._engine = engine
        self._automations = automations
        self._acts_for = acts_for
        self._copy = context.replica(self._load)

    def begin(self) -> None:
        """Take part."""
        self._context.on_hook(automation_changed, self._changed, mode=Mode.BROADCAST)
        self._context.on_events(self._happened, worker_group="triggers", wanted=self._wants)

    async def armed(self, name: str) -> Armed | None:
        """The automation of this name, if it is enabled."""
        return (await self._copy.current()).armed.get(name)

    async def start(
        self,
        session: AsyncSession,
        match: Match,
        fact: TriggerFact,
        event: dict[str, object],
        *,
        once_key: str | None,
        actor: str | None = None,
    ) -> UUID | Skipped:
        """Start what matches; a filter that has failed makes a failed run, at most one a minute for each trigger."""
        failure = match.failure or match.armed.lacks
        if failure is not None:
            minute = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M")
            once_key = f"filter/{match.number}/{minute}"
        return await self._engine.start(
            session,
            match.armed.name,
            match.armed.revision,
            trigger=fact,
            event=event,
            inputs=match.armed.inputs,
            once_key=once_key,
            actor=actor,
            failure=failure,
        )

    async def _load(self) -> Listening:
        async with self._context.sessions.begin() as session:
            return await load(session, self._automations)

    async def _changed(self, event: Event[AutomationChanged]) -> None:
        told = event.payload
        definition = Definition.model_validate(told.definition)
        is_on = told.change is not AutomationChange.DELETED and definition.enabled

        async def change(copy: Listening | None) -> Listening | None:
            if copy is None:
                return None
            return copy.after(told.name, told.revision, definition, is_on=is_on, position=event.position)

        await self._copy.change(change)

    def _wants(self, hook: str) -> bool:
        known = self._copy.known()
        return known is None or known.wants(hook)

    async def _happened(self, event: AnyEvent, session: AsyncSession) -> None:
        listening = await self._copy.current()
        await self._start_all(listening.by_hook.get(event.hook, ()), event, session)
        if event.hook in listening.awaited:
            # After what is started: rows of runs are locked after keys (see `runs_table`).
            await self._engine.event(session, event, self._refused)

    async def _start_all(self, waiting: Sequence[Armed], event: AnyEvent, session: AsyncSession) -> None:
        if not waiting or (depth := await _depth(session, event)) > MAX_DEPTH + 1:
            # One over the bound fails visibly; that this has ended starts nothing.
            return
        fact = TriggerFact(kind="hook", hook=event.hook, time=event.occurred_at, depth=depth)
        for match in await _matched(waiting, event):
            match = await self._allowed(match, event.hook)
            try:
                await self.start(session, match, fact, event.payload, once_key=f"hook/{event.position}")
            except NoPlanError as error:
                self._context.logger.error(
                    "an event starts no run",
                    automation=match.armed.name,
                    position=event.position,
                    error=str(error),
                )

    async def _allowed(self, match: Match, hook: str) -> Match:
        """What matches; as a failure if whom the automation acts for may not see what such events tell."""
        refused = await self._refused(match.armed.name, match.armed.revision, hook)
        return match if refused is None else replace(match, failure=refused)

    async def _refused(self, name: str, revision: int, hook: str) -> str | None:
        """Why whom an automation acts for may not see what such events tell; None if they may."""
        declared = self._context.hooks.find(hook)
        if declared is None or declared.payload_rule is None:
            return None
        try:
            principal = await self._acts_for(name, revision)
        except StepFailed as error:
            return str(error)
        if principal.holds(declared.payload_rule):
            return None
        return f"{principal.name} does not hold the access rule {declared.payload_rule}, which shows events of {hook}"


async def _matched(waiting: Sequence[Armed], event: AnyEvent) -> list[Match]:
    # Filters are bounded, but there may be many of them.
    return await asyncio.to_thread(
        matches,
        waiting,
        hook=event.hook,
        payload=event.payload,
        position=event.position,
        time=event.occurred_at,
    )


async def _depth(session: AsyncSession, event: AnyEvent) -> int:
    """How many automations have started each other before a run that this event starts."""
    before: object = None
    if event.hook in _OWN:
        before = event.payload.get("depth", 0)
    elif event.hook in _OF_SATELLITES:
        before = await depth_behind(session, UUID(event.payload["runId"]))
    return before + 1 if isinstance(before, int) else 0
