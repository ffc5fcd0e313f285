"""Tries an automation with an event: one of the log, one that is made up, or one that whoever asks has written."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError
from ringfence import PluginContext
from ringfence.eventlog import read_after
from ringfence.redaction import describe
from ringfence_satellite.service import Satellites

from ringfence_automations.bodies.scripts import EachSelected
from ringfence_automations.definitions.definition import Definition
from ringfence_automations.definitions.stored import Automation
from ringfence_automations.definitions.trigger import Trigger, TriggerKind
from ringfence_automations.runs.engine import Engine
from ringfence_automations.runs.starting import Skipped, TriggerFact
from ringfence_automations.triggers.armed import arm
from ringfence_automations.triggers.matching import first_match
from ringfence_automations.triggers.trying.outlook import Kinds, Outlook, conditions
from ringfence_automations.triggers.trying.samples import as_wished, sample

SAMPLES: Mapping[TriggerKind, dict[str, Any]] = {
    TriggerKind.WEBHOOK: {"method": "POST", "headers": {}, "query": {}, "body": None},
    TriggerKind.EVERY: {"dueAt": "2026-01-01T00:00:00+00:00", "lateSeconds": 0, "missed": 0},
    TriggerKind.CRON: {"dueAt": "2026-01-01T00:00:00+00:00", "lateSeconds": 0, "missed": 0},
}


class CannotTryError(ValueError):
    """There is no such event, or it is not one for this automation; the message says why."""


@dataclass(frozen=True, slots=True)
class Happening:
    """What an automation is tried with."""

    fact: TriggerFact
    event: dict[str, Any] = field(default_factory=dict)


class Trying:
    """Tries automations."""

    def __init__(self, context: PluginContext, engine: Engine) -> None:
        self._context = context
        self._engine = engine

    async def logged(self, position: int) -> Happening:
        """The event of the log at this position. Raises `CannotTryError`."""
        async with self._context.sessions() as session:
            records = await read_after(session, position - 1, limit=1)
        if not records or records[0].position != position:
            raise CannotTryError(f"there is no event {position} in the log, or not any more")
        [record] = records
        declared = self._context.hooks.find(record.hook)
        try:
            told = record.as_any_event(None if declared is None else declared.hook)
        except ValidationError as error:
            raise CannotTryError(f"event {position} does not fit its hook: {describe(error)}") from error
        fact = TriggerFact(kind="hook", hook=record.hook, time=record.occurred_at)
        return Happening(fact, dict(told.payload))

    def made_up(
        self, definition: Definition, number: int | None, payload: dict[str, Any] | None
    ) -> Happening:
        """What one of the triggers may come with, or else this payload. Raises `CannotTryError`."""
        trigger = _trigger(definition, number)
        happening = self._of_kind(trigger, payload)
        if payload is not None or trigger is None or trigger.filter is None:
            return happening
        wished = replace(happening, event=as_wished(happening.event, trigger.filter))
        return wished if _matches(definition, wished) else happening

    def _of_kind(self, trigger: Trigger | None, payload: dict[str, Any] | None) -> Happening:
        now = dt.datetime.now(dt.UTC)
        kind = TriggerKind.MANUAL if trigger is None else trigger.kind
        if trigger is not None and trigger.hook is not None:
            declared = self._context.hooks.find(trigger.hook)
            made = (
                None
                if declared is None
                else sample(declared.model.model_json_schema(by_alias=True, mode="serialization"))
            )
            fact = TriggerFact(kind="hook", hook=trigger.hook, time=now)
            return Happening(fact, (made or {}) if payload is None else payload)
        timetable = kind in (TriggerKind.EVERY, TriggerKind.CRON)
        fact = TriggerFact(kind="timetable" if timetable else kind.value, time=now)
        return Happening(fact, dict(SAMPLES.get(kind, {})) if payload is None else payload)

    async def told(
        self, found: Automation, kinds: Kinds, happening: Happening, inputs: dict[str, Any]
    ) -> dict[str, Any]:
        """What the automation would do."""
        places = {
            str(step.id): await self._selected(step.body)
            for step in found.definition.all_steps()
            if isinstance(step.body, dict)
        }
        return await asyncio.to_thread(_told, found, kinds, happening, inputs, places)

    async def done(
        self, found: Automation, happening: Happening, inputs: dict[str, Any], *, by: str
    ) -> dict[str, Any]:
        """Have it do that, in a run."""
        async with self._context.sessions.begin() as session:
            started = await self._engine.start(
                session,
                found.name,
                found.revision,
                trigger=happening.fact,
                event=happening.event,
                inputs=inputs,
                actor=by,
            )
        if isinstance(started, Skipped):
            return {"run": None if started.run is None else str(started.run), "skipped": started.why}
        return {"run": str(started)}

    async def _selected(self, body: Mapping[str, Any]) -> list[str]:
        """The satellites that a step's selector means now."""
        place = body.get("on")
        if not isinstance(place, dict) or "selector" not in place:
            return []
        selected = EachSelected.model_validate(place)
        found = await self._context.services.get(Satellites).find(selector=selected.selector)
        return sorted(one.name or str(one.id) for one in found)


def _told(
    found: Automation,
    kinds: Kinds,
    happening: Happening,
    inputs: dict[str, Any],
    places: Mapping[str, list[str]],
) -> dict[str, Any]:
    fact = happening.fact.to_json()
    values: dict[str, Any] = {
        "event": happening.event,
        "trigger": fact,
        "inputs": inputs,
        "run": {
            "id": "00000000-0000-4000-8000-000000000000",
            "automation": found.name,
            "revision": found.revision,
            "startedAt": fact["time"],
        },
    }
    armed = arm(found.definition, found.revision, since=0)
    by_kind = [one for one in armed.triggers if _fits(one.trigger, happening.fact)]
    match = first_match(armed, by_kind, values)
    is_by_hand = happening.fact.kind == TriggerKind.MANUAL
    held = conditions(found.definition, values)
    selectors = _by_selector(found.definition, places)
    steps = Outlook(kinds, lambda on: selectors.get(str(on.selector), []))
    return {
        "automation": found.name,
        "revision": found.revision,
        "trigger": fact,
        "event": happening.event,
        "matches": is_by_hand or (match is not None and match.failure is None),
        "matchedBy": None if match is None else match.number,
        "failure": None if match is None else match.failure,
        "conditions": [one.to_wire() for one in held],
        "starts": (is_by_hand or (match is not None and match.failure is None))
        and all(one.value is True for one in held),
        "steps": list(steps.steps(found.definition.steps, values)),
    }


def _matches(definition: Definition, happening: Happening) -> bool:
    values = {"event": happening.event, "trigger": happening.fact.to_json()}
    armed = arm(definition, 0, since=0)
    by_kind = [one for one in armed.triggers if _fits(one.trigger, happening.fact)]
    match = first_match(armed, by_kind, values)
    return match is not None and match.failure is None


def _by_selector(definition: Definition, places: Mapping[str, list[str]]) -> dict[str, list[str]]:
    found = {}
    for step in definition.all_steps():
        if isinstance(step.body, dict) and isinstance(on := step.body.get("on"), dict) and "selector" in on:
            found[str(EachSelected.model_validate(on).selector)] = places[step.id]
    return found


def _fits(trigger: Trigger, fact: TriggerFact) -> bool:
    if fact.kind == TriggerKind.HOOK:
        return trigger.hook == fact.hook
    if fact.kind == "timetable":
        return trigger.kind in (TriggerKind.EVERY, TriggerKind.CRON)
    return trigger.kind.value == fact.kind


def _trigger(definition: Definition, number: int | None) -> Trigger | None:
    if number is not None and number > len(definition.triggers):
        raise CannotTryError(
            f"{definition.name} has {len(definition.triggers)} triggers, and so none with number {number}"
        )
    if number is not None:
        return definition.triggers[number - 1]
    return definition.triggers[0] if definition.triggers else None
