"""Checks a definition against what there is: hooks, kinds of steps, and what its expressions may use. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from ringfence.documents.reading import Path
from ringfence.expressions import Expression, ExpressionError, Returns, Schema, Template, near

from ringfence_automations.bodies.marked import templates_in
from ringfence_automations.definitions.definition import Definition
from ringfence_automations.definitions.reading.messages import Problem, problems_of
from ringfence_automations.definitions.scopes import (
    ANYTHING,
    INDEX,
    Schemas,
    artifact_of,
    scope_of_run,
)
from ringfence_automations.definitions.step import CONTROL_KINDS, Choose, Parallel, Repeat, Step, Stop, Wait

Kinds = Mapping[str, type[BaseModel]]
"""The kinds of actions, and the models of their bodies."""
_PART = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


@dataclass(frozen=True, slots=True)
class CheckedStep:
    """A step that does something, with its body as its kind has it."""

    path: Path
    step: Step
    body: BaseModel


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of it: what is wrong, and the bodies of those actions that are right."""

    problems: list[Problem]
    actions: list[CheckedStep]


def check(definition: Definition, schemas: Schemas, kinds: Kinds, *, knows_triggers: bool = True) -> Checked:
    """What is wrong with a definition, beyond what its model says.

    `knows_triggers`: whether its triggers are those that were written; nothing is known of events otherwise.
    """
    checker = _Checker(definition, schemas, kinds, knows_triggers=knows_triggers)
    checker.check()
    return Checked(checker.problems, checker.actions)


class _Checker:
    def __init__(
        self, definition: Definition, schemas: Schemas, kinds: Kinds, *, knows_triggers: bool
    ) -> None:
        self._definition = definition
        self._schemas = schemas
        self._kinds = kinds
        self._events = schemas.events_of(definition) if knows_triggers else {"": ANYTHING}
        self.problems: list[Problem] = []
        self.actions: list[CheckedStep] = []

    def check(self) -> None:
        for number, trigger in enumerate(self._definition.triggers):
            path: Path = ("triggers", number)
            if trigger.hook is not None and not self._schemas.has(trigger.hook):
                names = self._schemas.names()
                self._tell((*path, "hook"), f"there is no hook {trigger.hook}: {near(trigger.hook, names)}")
            if trigger.filter is not None:
                try:
                    Expression.parse(trigger.filter, self._schemas.filter_scope(trigger), "bool")
                except ExpressionError as error:
                    self._tell((*path, "filter"), error.message, error)
        for number, condition in enumerate(self._definition.conditions):
            self._expression(("conditions", number), condition, "bool", {})
        if (key := self._definition.concurrency_key) is not None:
            self._template(("concurrencyKey",), key, {})
        self._check_ids()
        self._steps(("steps",), self._definition.steps, {}, {})

    def _check_ids(self) -> None:
        seen: dict[str, Path] = {}
        for path, step in walk(("steps",), self._definition.steps):
            if step.id in seen:
                self._tell((*path, "id"), f"there are two steps {step.id}: each needs an id of its own")
            seen[step.id] = path

    def _steps(
        self,
        path: Path,
        steps: tuple[Step, ...],
        artifacts: Mapping[str, Schema],
        names: Mapping[str, Schema],
    ) -> dict[str, Schema]:
        """Check these steps; answers the artifacts that there may be after them."""
        known = dict(artifacts)
        for number, step in enumerate(steps):
            known |= self._step((*path, number), step, known, names)
        return known

    def _step(
        self, path: Path, step: Step, artifacts: Mapping[str, Schema], names: Mapping[str, Schema]
    ) -> dict[str, Schema]:
        scope = {**names, "artifacts": Schema.record(artifacts, optional=artifacts)}
        if step.when is not None:
            self._expression((*path, "when"), step.when, "bool", scope)
        after = {step.id: artifact_of(step)}
        match step.body:
            case Wait() as wait:
                self._wait((*path, "wait"), wait, scope)
            case Choose() as choose:
                for number, option in enumerate(choose.options):
                    at = self._option_path(path, number)
                    self._expression((*at, "when"), option.when, "bool", scope)
                    after |= self._steps((*at, "steps"), option.steps, artifacts, names)
                after |= self._steps((*path, "choose", "otherwise"), choose.otherwise, artifacts, names)
            case Parallel() as parallel:
                for number, branch in enumerate(parallel.branches):
                    after |= self._steps((*path, "parallel", "branches", number), branch, artifacts, names)
            case Repeat() as repeat:
                items = self._expression((*path, "repeat", "over"), repeat.over, "list", scope)
                inner = {**names, repeat.as_: items, INDEX: Schema.of_kind("int")}
                self._steps((*path, "repeat", "steps"), repeat.steps, artifacts, inner)
            case Stop() as stop:
                if stop.message is not None:
                    self._template((*path, "stop", "message"), stop.message, scope)
            case body:
                self._action(path, step, body, scope)
        return after

    def _option_path(self, path: Path, number: int) -> Path:
        return (*path, "choose", "options", number)

    def _wait(self, path: Path, wait: Wait, scope: Mapping[str, Schema]) -> None:
        if wait.until is not None:
            self._expression((*path, "until"), wait.until, "bool", scope)
        if wait.event is None:
            return
        hook = wait.event.hook
        if not self._schemas.has(hook):
            self._tell(
                (*path, "event", "hook"), f"there is no hook {hook}: {near(hook, self._schemas.names())}"
            )
        if wait.event.filter is not None:
            event = {"event": self._schemas.of_hook(hook)}
            self._expression((*path, "event", "filter"), wait.event.filter, "bool", {**scope, **event})

    def _action(self, path: Path, step: Step, body: Any, scope: Mapping[str, Schema]) -> None:
        model = self._kinds.get(step.kind)
        if model is None:
            known = near(step.kind, {*self._kinds, *CONTROL_KINDS})
            message = f"there is no kind of step {step.kind}: {known}"
            self.problems.append(Problem((*path, step.kind), message, at_key=True))
            return
        try:
            made = model.model_validate(body)
        except ValidationError as error:
            self.problems += problems_of(error, model, (*path, step.kind))
            return
        self.actions.append(CheckedStep(path, step, made))
        for where, text in templates_in(made):
            self._template((*path, step.kind, *_parts(where)), text, scope)

    def _expression(self, path: Path, text: str, returns: Returns, names: Mapping[str, Schema]) -> Schema:
        """Check an expression; answers what is known of the elements of its value, if that is a list."""
        found = self._against_each(path, text, lambda scope: Expression.parse(text, scope, returns), names)
        items = [shape.items for one in found for shape in one.schema.shapes or () if hasattr(shape, "items")]
        return Schema.either(items) if items else ANYTHING

    def _template(self, path: Path, text: str, names: Mapping[str, Schema]) -> None:
        self._against_each(path, text, lambda scope: Template.parse(text, scope), names)

    def _against_each(
        self, path: Path, text: str, parse: Callable[[Mapping[str, Schema]], Any], names: Mapping[str, Schema]
    ) -> list[Any]:
        """Parse a text with the event of each trigger: it must fit all of them, or look at which one it is."""
        found = []
        every = Schema.either(self._events.values())
        try:
            of_any = parse({**scope_of_run(self._definition, every), **names})
        except ExpressionError as error:
            self._tell(path, error.message, error)
            return []
        if "event" in names or any(one[:1] == ("trigger",) for one in of_any.used):
            return [of_any]
        for name, event in self._events.items():
            try:
                found.append(parse({**scope_of_run(self._definition, event), **names}))
            except ExpressionError as error:
                which = f"when {name} has started it: " if len(self._events) > 1 else ""
                self._tell(path, f"{which}{error.message}", error)
                break
        return found

    def _tell(self, path: Path, message: str, within: ExpressionError | None = None) -> None:
        at = None if within is None else (within.line, within.column)
        self.problems.append(Problem(path, message, at))


def walk(path: Path, steps: tuple[Step, ...]) -> Iterator[tuple[Path, Step]]:
    for number, step in enumerate(steps):
        here: Path = (*path, number)
        yield here, step
        match step.body:
            case Choose(options=options, otherwise=otherwise):
                for index, option in enumerate(options):
                    yield from walk((*here, "choose", "options", index, "steps"), option.steps)
                yield from walk((*here, "choose", "otherwise"), otherwise)
            case Parallel(branches=branches):
                for index, branch in enumerate(branches):
                    yield from walk((*here, "parallel", "branches", index), branch)
            case Repeat(steps=inner):
                yield from walk((*here, "repeat", "steps"), inner)


def _parts(where: str) -> Path:
    """The way to a text of a body, such as `args[0]`."""
    return tuple(int(number) if number else name for number, name in _PART.findall(where))
