"""What an automation would do with an event, as far as that can be told beforehand. Pure.

What steps leave is not known before they run: an expression that asks for it is shown as it is written, with what it
waits for. Nothing is done, and no secret is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from ringfence.expressions import Expression, ExpressionError, Returns, Schema, Template
from ringfence.redaction import describe

from ringfence_automations.bodies.marked import rendered
from ringfence_automations.bodies.scripts import EachSelected, OneSatellite
from ringfence_automations.definitions.definition import Definition
from ringfence_automations.definitions.step import Choose, Parallel, Repeat, Step, Stop, Wait

ANYTHING = Schema.anything()
MOST_ROUNDS = 5
"""Of a repeat, so many rounds are shown."""
LATER = "artifacts"

Kinds = Mapping[str, type[BaseModel]]
Where = Callable[[EachSelected], list[str]]


@dataclass(frozen=True, slots=True)
class Told:
    """What an expression comes to: a value, an error, or what it waits for."""

    text: str
    value: Any = None
    error: str | None = None
    later: str | None = None

    @property
    def is_known(self) -> bool:
        """Whether there is a value."""
        return self.error is None and self.later is None

    def to_wire(self) -> dict[str, Any]:
        """The same as JSON."""
        told: dict[str, Any] = {"text": self.text}
        if self.error is not None:
            return {**told, "error": self.error}
        return {**told, "later": self.later} if self.later is not None else {**told, "value": self.value}


def evaluated(text: str, values: Mapping[str, Any], returns: Returns) -> Told:
    """What an expression comes to."""
    try:
        expression = Expression.parse(text, _scope(values), returns)
        if (later := _later(expression.used, values)) is not None:
            return Told(text, later=later)
        return Told(text, expression.evaluate(values))
    except ExpressionError as error:
        return Told(text, error=error.message)


def filled(text: str, values: Mapping[str, Any]) -> Told:
    """What a text with expressions in it comes to."""
    try:
        template = Template.parse(text, _scope(values))
        if (later := _later(template.used, values)) is not None:
            return Told(text, text, later=later)
        return Told(text, template.render(values))
    except ExpressionError as error:
        return Told(text, text, error=error.message)


def conditions(definition: Definition, values: Mapping[str, Any]) -> list[Told]:
    """What the automation's conditions come to."""
    return [evaluated(one, values, "bool") for one in definition.conditions]


class Outlook:
    """Tells what steps would do. `kinds` are the models of their bodies, `where` which satellites a selector means."""

    def __init__(self, kinds: Kinds, where: Where) -> None:
        self._kinds = kinds
        self._where = where

    def steps(
        self, steps: Iterable[Step], values: Mapping[str, Any], before: str = ""
    ) -> Iterator[dict[str, Any]]:
        """What each of these steps would do, with those within it."""
        for step in steps:
            path = f"{before}{step.id}"
            told: dict[str, Any] = {"path": path, "kind": step.kind}
            when = None if step.when is None else evaluated(step.when, values, "bool")
            if when is not None:
                told["when"] = when.to_wire()
            if when is not None and when.is_known and when.value is not True:
                yield {**told, "skipped": True}
                continue
            yield {**told, **self._does(step, values, path)}

    def _does(self, step: Step, values: Mapping[str, Any], path: str) -> dict[str, Any]:
        match step.body:
            case Wait() as wait:
                return {"does": _waits(wait, values)}
            case Choose() as choose:
                return {"does": {}, "choices": list(self._choices(choose, values, path))}
            case Parallel() as parallel:
                branches = [
                    list(self.steps(one, values, f"{path}.{number}."))
                    for number, one in enumerate(parallel.branches, start=1)
                ]
                return {"does": {}, "branches": branches}
            case Repeat() as repeat:
                return self._repeats(repeat, values, path)
            case Stop() as stop:
                message = None if stop.message is None else filled(stop.message, values).to_wire()
                return {"does": {"status": stop.status.value, "message": message}}
            case body:
                return self._acts(step.kind, body, values)

    def _choices(self, choose: Choose, values: Mapping[str, Any], path: str) -> Iterator[dict[str, Any]]:
        for number, option in enumerate(choose.options, start=1):
            when = evaluated(option.when, values, "bool")
            taken = when.value is True if when.is_known else None
            steps = [] if taken is False else list(self.steps(option.steps, values, f"{path}.{number}."))
            yield {"when": when.to_wire(), "steps": steps}
            if taken:
                return
        if choose.otherwise:
            yield {"when": None, "steps": list(self.steps(choose.otherwise, values, f"{path}.otherwise."))}

    def _repeats(self, repeat: Repeat, values: Mapping[str, Any], path: str) -> dict[str, Any]:
        over = evaluated(repeat.over, values, "list")
        if not over.is_known:
            inner = [{"path": f"{path}[…].{one.id}", "kind": one.kind} for one in repeat.steps]
            return {"does": {"over": over.to_wire()}, "rounds": [inner]}
        elements = over.value[: repeat.max]
        rounds = [
            list(self.steps(repeat.steps, {**values, repeat.as_: one, "index": number}, f"{path}[{number}]."))
            for number, one in enumerate(elements[:MOST_ROUNDS])
        ]
        return {"does": {"over": over.to_wire(), "count": len(elements)}, "rounds": rounds}

    def _acts(self, kind: str, body: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        model = self._kinds.get(kind)
        if model is None:
            return {"error": f"there is no kind of step {kind} here"}
        later: dict[str, None] = {}

        def fill(text: str) -> str:
            told = filled(text, values)
            if told.error is not None:
                raise ExpressionError(told.error)
            if told.later is not None:
                later[told.later] = None
            return str(told.value)

        try:
            read = rendered(model.model_validate(body), fill)
        except ExpressionError as error:
            return {"error": f"a template cannot be filled in: {error.message}"}
        except ValidationError as error:
            return {"error": describe(error)}
        does = read.model_dump(mode="json", by_alias=True, exclude_unset=True)
        told: dict[str, Any] = {"does": does, **self._runs_on(getattr(read, "on", None), hasattr(read, "on"))}
        return {**told, "later": list(later)} if later else told

    def _runs_on(self, place: object, is_script: bool) -> dict[str, Any]:
        match place:
            case OneSatellite(satellite=name):
                return {"on": [name]}
            case EachSelected() as selected:
                return {"on": self._where(selected)}
            case _:
                return {"on": ["this host"]} if is_script else {}


def _waits(wait: Wait, values: Mapping[str, Any]) -> dict[str, Any]:
    if wait.for_ is not None:
        return {"seconds": wait.for_}
    if wait.until is not None:
        return {"until": evaluated(wait.until, values, "bool").to_wire()}
    assert wait.event is not None
    return {"event": wait.event.hook, "filter": wait.event.filter}


def _scope(values: Mapping[str, Any]) -> dict[str, Schema]:
    return {**dict.fromkeys(values, ANYTHING), LATER: ANYTHING}


def _later(used: Iterable[tuple[str, ...]], values: Mapping[str, Any]) -> str | None:
    """What of it is only known when steps have ended."""
    if LATER in values:
        return None
    found = sorted({".".join(one[:2]) for one in used if one[:1] == (LATER,)})
    # Whatever asks for a field asks for the whole, too.
    named = [one for one in found if one != LATER]
    return ", ".join(named or found) or None
