"""What waits for something to happen: the automations that are enabled, as their triggers need them. Pure.

A copy of this is kept up by events, so that each event of the fleet can be passed over or matched from memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from ringfence.expressions import Expression, ExpressionError, Schema

from ringfence_automations.definitions.definition import Definition, InputsError
from ringfence_automations.definitions.trigger import Trigger, TriggerKind


class Filter(Protocol):
    """A trigger's filter."""

    def matches(self, values: Mapping[str, Any]) -> bool:
        """Whether it holds. Raises `ExpressionError`."""
        ...


@dataclass(frozen=True, slots=True)
class BrokenFilter:
    """A filter that cannot be read any more: an event that would be matched against it tells so."""

    error: str

    def matches(self, values: Mapping[str, Any]) -> bool:
        """Never says."""
        raise ExpressionError(self.error)


@dataclass(frozen=True, slots=True)
class ArmedTrigger:
    """One trigger, and its place in the definition, from 1."""

    number: int
    trigger: Trigger
    filter: Filter | None


@dataclass(frozen=True, slots=True)
class Armed:
    """An automation that is enabled.

    `since` is the position in the event log at which it began to be: what happened before starts nothing. `inputs` are
    what its inputs are where nobody gives any; `lacks` says what is missing then.
    """

    name: str
    revision: int
    since: int
    triggers: tuple[ArmedTrigger, ...]
    inputs: Mapping[str, Any] = field(default_factory=dict)
    lacks: str | None = None

    def of_kind(self, *kinds: TriggerKind) -> tuple[ArmedTrigger, ...]:
        """Its triggers of these kinds."""
        return tuple(one for one in self.triggers if one.trigger.kind in kinds)


@dataclass(frozen=True)
class Listening:
    """All that waits: by name the automations that are enabled, of the others their newest revision, and more hooks.

    `awaited` are the hooks for which a step of some run may wait.
    """

    armed: Mapping[str, Armed]
    off: Mapping[str, int]
    awaited: frozenset[str]

    @cached_property
    def by_hook(self) -> Mapping[str, tuple[Armed, ...]]:
        """The automations that each hook may start."""
        found: dict[str, list[Armed]] = {}
        for one in sorted(self.armed.values(), key=lambda armed: armed.name):
            for hook in dict.fromkeys(each.trigger.hook for each in one.triggers):
                if hook is not None:
                    found.setdefault(hook, []).append(one)
        return {hook: tuple(several) for hook, several in found.items()}

    def wants(self, hook: str) -> bool:
        """Whether an event of this hook may start a run, or let one go on."""
        return hook in self.by_hook or hook in self.awaited

    def after(
        self, name: str, revision: int, definition: Definition, *, is_on: bool, position: int
    ) -> Listening:
        """What waits once an automation has this revision, or is disabled or deleted. What is older changes nothing."""
        before = self.armed.get(name)
        known = before.revision if before is not None else self.off.get(name, 0)
        awaited = self.awaited | awaited_hooks(definition)
        if revision <= known:
            return Listening(self.armed, self.off, awaited)
        armed = {other: one for other, one in self.armed.items() if other != name}
        off = {other: one for other, one in self.off.items() if other != name}
        if is_on:
            armed[name] = arm(definition, revision, since=position if before is None else before.since)
        else:
            off[name] = revision
        return Listening(armed, off, awaited)


def arm(definition: Definition, revision: int, *, since: int) -> Armed:
    """The automation as its triggers need it."""
    triggers = (
        ArmedTrigger(number, trigger, _filter(trigger.filter))
        for number, trigger in enumerate(definition.triggers, 1)
    )
    inputs: Mapping[str, Any] = {}
    lacks = None
    try:
        inputs = definition.with_inputs({})
    except InputsError as error:
        lacks = f"{error}, and only who starts it by hand can give one"
    return Armed(definition.name, revision, since, tuple(triggers), inputs, lacks)


def awaited_hooks(definition: Definition) -> frozenset[str]:
    """The hooks for which its steps may wait."""
    waits = (step.wait for step in definition.all_steps())
    return frozenset(wait.event.hook for wait in waits if wait is not None and wait.event is not None)


def all_awaited(definitions: Iterable[Definition]) -> frozenset[str]:
    """The hooks for which steps of any of these may wait."""
    return frozenset[str]().union(*map(awaited_hooks, definitions))


def _filter(text: str | None) -> Filter | None:
    if text is None:
        return None
    # It was checked against what the hook tells when it was written. What is told now may be of another release.
    scope = {"event": Schema.anything(), "trigger": Schema.anything()}
    try:
        return Expression.parse(text, scope, "bool")
    except ExpressionError as error:
        return BrokenFilter(error.message)
