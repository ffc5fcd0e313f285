"""Panels on others' pages: what can start for a check, and what has run on a satellite."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from ringfence import PluginContext
from ringfence.eventlog import read_stream
from ringfence.pages import View

from ringfence_automations.definitions.stored import Automation
from ringfence_automations.definitions.wiring import Definitions
from ringfence_automations.pages.words import kind_of, trigger_in_words
from ringfence_automations.runs.tables import seen
from ringfence_automations.triggers.armed import arm
from ringfence_automations.triggers.trying.fitting import Fit, choices_of, fit
from ringfence_automations.triggers.trying.samples import sample

STATE_CHANGED = "health-state-changed"
MOST_STEPS = 10
MOST_TRIGGERS = 50
MOST_EVENTS = 20
OF_THE_CHECK = ("checkId", "checkName", "system")
OF_THE_STATE = ("status", "to")


class Panels:
    """Shows them."""

    def __init__(self, context: PluginContext, definitions: Definitions) -> None:
        self._context = context
        self._definitions = definitions

    async def of_check(self, view: View) -> Mapping[str, Any] | None:
        """The automations that a change of this check's state can start."""
        id = _id(view)
        declared = self._context.hooks.find(STATE_CHANGED)
        if id is None or declared is None:
            return None
        every = (await self._definitions.current()).values()
        listening = [one for one in every if _hears(one)]
        if not listening:
            return {"automations": []}
        schema = declared.model.model_json_schema(by_alias=True, mode="serialization")
        async with self._context.sessions() as session:
            stream = f"health-check.{id}"
            records = await read_stream(session, stream, limit=MOST_EVENTS, newest_first=True)
        told = [dict(one.payload) for one in records if one.hook == STATE_CHANGED]
        events = _events(told or [{**sample(schema), "checkId": str(id)}], choices_of(schema, "to"))
        fixed = OF_THE_CHECK if told else ("checkId",)
        return {"automations": await asyncio.to_thread(_starting, listening, events, fixed)}

    async def on_satellite(self, view: View) -> Mapping[str, Any] | None:
        """The newest steps on this satellite."""
        id = _id(view)
        if id is None:
            return None
        async with self._context.sessions() as session:
            rows = await seen.on_satellite(session, id, limit=MOST_STEPS)
        steps = [{**row._asdict(), "kind": kind_of(row.status)} for row in rows]
        return {"steps": steps} if steps else None


def _hears(one: Automation) -> bool:
    triggers = one.definition.triggers
    return one.definition.enabled and any(trigger.hook == STATE_CHANGED for trigger in triggers)


def _events(told: Sequence[Mapping[str, Any]], states: Iterable[str]) -> list[dict[str, Any]]:
    """What the check may tell: what it has told of each place, with every state that there is."""
    by_place = {str(one.get("place")): one for one in reversed(told)}
    known = list(states)
    return [
        {**one, **dict.fromkeys(OF_THE_STATE, state)}
        for one in by_place.values()
        for state in known or [one.get("to")]
    ]


def _starting(
    listening: Iterable[Automation], events: Sequence[Mapping[str, Any]], fixed: Sequence[str]
) -> list[dict[str, Any]]:
    found = []
    for one in sorted(listening, key=lambda automation: automation.name):
        for trigger in arm(one.definition, one.revision, since=0).triggers:
            if trigger.trigger.hook != STATE_CHANGED:
                continue
            fits = fit(trigger, events, fixed, STATE_CHANGED)
            if fits is not Fit.NO:
                words = trigger_in_words(trigger.trigger.model_dump(by_alias=True, exclude_unset=True))
                found.append({"name": one.name, "trigger": words, "is_certain": fits is Fit.YES})
    return found[:MOST_TRIGGERS]


def _id(view: View) -> UUID | None:
    try:
        return UUID(view.parameters["id"])
    except ValueError:
        return None
