"""What the expressions of a definition may use, and what is known of it. Pure.

`event` is what happened, by the schema of its hook; `trigger` says what that was; then there are `inputs`, `artifacts`
(of the steps that come before), `run`, and in a repeat the element and its `index`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from pydantic import BaseModel
from ringfence.expressions import Schema, Scope

from ringfence_automations.definitions.definition import Definition, InputType
from ringfence_automations.definitions.step import Repeat, Step
from ringfence_automations.definitions.trigger import Trigger, TriggerKind

INDEX = "index"
ANYTHING = Schema.anything()
TEXT = Schema.text()
WEBHOOK_EVENT = Schema.record(
    {"body": ANYTHING, "headers": Schema.map_of(TEXT), "query": Schema.map_of(ANYTHING), "method": TEXT}
)
TIMETABLE_EVENT = Schema.record(
    {"dueAt": TEXT, "lateSeconds": Schema.of_kind("int"), "missed": Schema.of_kind("int")}
)
NO_EVENT = Schema.record({})
TRIGGER = Schema.record(
    {"kind": Schema.text("hook", "timetable", "webhook", "manual"), "hook": TEXT, "time": TEXT}
)
RUN = Schema.record(
    {"id": TEXT, "automation": TEXT, "revision": Schema.of_kind("int"), "startedAt": TEXT}, rest=ANYTHING
)
ARTIFACT = Schema.record({"status": TEXT}, rest=ANYTHING)
_INPUTS = {
    InputType.STRING: "string",
    InputType.INTEGER: "int",
    InputType.NUMBER: "double",
    InputType.BOOLEAN: "bool",
    InputType.ARRAY: "list",
    InputType.OBJECT: "map",
}


class KnownHook(Protocol):
    """A hook that can start an automation."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def model(self) -> type[BaseModel]:
        """What its payload is."""


class Hooks(Protocol):
    """The hooks that there are."""

    def all(self) -> Iterable[KnownHook]:
        """Every one."""

    def find(self, name: str) -> KnownHook | None:
        """The one of this name."""


class Schemas:
    """The schemas of events: each is made once of its model."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._of_models: dict[type[BaseModel], Schema] = {}

    def names(self) -> tuple[str, ...]:
        """The names of the hooks."""
        return tuple(one.name for one in self._hooks.all())

    def has(self, hook: str) -> bool:
        """Whether there is such a hook."""
        return self._hooks.find(hook) is not None

    def of_hook(self, name: str) -> Schema:
        """What is known of the events of a hook; nothing where there is no such hook here."""
        known = self._hooks.find(name)
        if known is None:
            return ANYTHING
        if known.model not in self._of_models:
            self._of_models[known.model] = Schema.of_model(known.model)
        return self._of_models[known.model]

    def of_trigger(self, trigger: Trigger) -> Schema:
        """What is known of the events of a trigger."""
        match trigger.kind:
            case TriggerKind.HOOK:
                return self.of_hook(trigger.hook or "")
            case TriggerKind.WEBHOOK:
                return WEBHOOK_EVENT
            case TriggerKind.MANUAL:
                return NO_EVENT
            case _:
                return TIMETABLE_EVENT

    def filter_scope(self, trigger: Trigger) -> Scope:
        """What the filter of a trigger may use."""
        return {"event": self.of_trigger(trigger), "trigger": TRIGGER}

    def events_of(self, definition: Definition) -> Mapping[str, Schema]:
        """What is known of the event, by what the trigger is called in messages."""
        found: dict[str, Schema] = {}
        for trigger in definition.triggers:
            if trigger.kind is not TriggerKind.MANUAL:
                found[trigger.hook or trigger.kind.value] = self.of_trigger(trigger)
        return found or {"manual": NO_EVENT}


def scope_of_run(definition: Definition, event: Schema) -> dict[str, Schema]:
    """What conditions and the concurrency key may use, if the event is such."""
    inputs = {
        name: Schema.either(
            [Schema.of_kind(_INPUTS[one.type]), *([] if one.required else [Schema.of_kind("null")])]
        )
        if one.type in _INPUTS
        else ANYTHING
        for name, one in definition.inputs.items()
    }
    return {"event": event, "trigger": TRIGGER, "inputs": Schema.record(inputs), "run": RUN}


def artifact_of(step: Step) -> Schema:
    """What is known of what a step leaves."""
    if isinstance(step.body, Repeat):
        inner = {one.id: ARTIFACT for one in step.body.steps}
        rounds = Schema.list_of(Schema.record(inner, optional=inner, rest=ANYTHING))
        return Schema.record({"rounds": rounds, "status": TEXT}, optional=["status"])
    return ARTIFACT
