"""Definitions as the engine reads them: every expression is parsed once, and knows where it stands."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NoReturn

from ringfence import PluginContext
from ringfence.expressions import Expression, ExpressionError, Returns, Schema, Scope, Template
from ringfence.web import Principal
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_automations.definitions import step as written
from ringfence_automations.definitions.automations import UnreadableAutomationError
from ringfence_automations.definitions.definition import Definition
from ringfence_automations.definitions.permissions import NotActingError
from ringfence_automations.definitions.stored import Revision
from ringfence_automations.definitions.wiring import Definitions
from ringfence_automations.runs.compiled import Compiled, NoPlanError
from ringfence_automations.runs.deciding.plan import (
    LONGEST_SECONDS,
    CannotEvaluateError,
    Choose,
    Parallel,
    Plan,
    Repeat,
    Retry,
    Step,
    Stop,
    WaitEvent,
    WaitFor,
    WaitUntil,
    Work,
)
from ringfence_automations.service import StepFailed

NAMES = ("event", "trigger", "inputs", "artifacts", "run")
"""What every expression may use. A definition was checked more strictly when it was written."""

MAX_KEPT = 256
"""How many revisions are kept compiled."""


class Placed:
    """An expression with its place: what fails is told with both."""

    def __init__(self, expression: Expression, place: str) -> None:
        self._expression = expression
        self._place = place

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """Its value. Raises CannotEvaluateError."""
        try:
            return self._expression.evaluate(values)
        except ExpressionError as error:
            _cannot(self._place, error)


class PlacedFilter(Placed):
    """A filter with its place: what asks for a field that is not there does not match."""

    def evaluate(self, values: Mapping[str, Any]) -> bool:
        """Whether it holds. Raises CannotEvaluateError."""
        try:
            return self._expression.matches(values)
        except ExpressionError as error:
            _cannot(self._place, error)


class PlacedTemplate:
    """A text with expressions, with its place."""

    def __init__(self, template: Template, place: str) -> None:
        self._template = template
        self._place = place

    def evaluate(self, values: Mapping[str, Any]) -> str:
        """The text. Raises CannotEvaluateError."""
        try:
            return self._template.render(values)
        except ExpressionError as error:
            _cannot(self._place, error)


def compile_definition(definition: Definition, revision: int) -> Compiled:
    """What the engine has to know of a definition. Raises ExpressionError where it cannot be read any more."""
    scope = {name: Schema.anything() for name in NAMES}
    key = definition.concurrency_key
    return Compiled(
        name=definition.name,
        revision=revision,
        plan=Plan(_steps(definition.steps, scope)),
        mode=definition.mode,
        most=definition.max,
        key=None if key is None else PlacedTemplate(Template.parse(key, scope), "concurrencyKey"),
        conditions=tuple(
            _expression(text, f"condition {number}", scope, "bool")
            for number, text in enumerate(definition.conditions, start=1)
        ),
    )


def _steps(steps: tuple[written.Step, ...], scope: Scope) -> tuple[Step, ...]:
    return tuple(_step(one, scope) for one in steps)


def _step(step: written.Step, scope: Scope) -> Step:
    common: dict[str, Any] = {
        "id": step.id,
        "when": None if step.when is None else _expression(step.when, "when", scope, "bool"),
        "timeout": step.timeout_seconds,
        "continue_on_error": step.continue_on_error,
    }
    match step.body:
        case written.Wait() as wait:
            return _wait(wait, common, scope)
        case written.Choose() as choose:
            options = tuple(
                (
                    _expression(one.when, f"when of option {number}", scope, "bool"),
                    _steps(one.steps, scope),
                )
                for number, one in enumerate(choose.options, start=1)
            )
            return Choose(**common, options=options, otherwise=_steps(choose.otherwise, scope))
        case written.Parallel() as parallel:
            return Parallel(**common, branches=tuple(_steps(one, scope) for one in parallel.branches))
        case written.Repeat() as repeat:
            inner = {**scope, repeat.as_: Schema.anything(), "index": Schema.anything()}
            return Repeat(
                **common,
                over=_expression(repeat.over, "over", scope, "list"),
                steps=_steps(repeat.steps, inner),
                name=repeat.as_,
                most=repeat.max,
                at_once=repeat.at_once,
            )
        case written.Stop() as stop:
            message = None if stop.message is None else Template.parse(stop.message, scope)
            placed = None if message is None else PlacedTemplate(message, "message")
            return Stop(**common, status=stop.status, message=placed)
        case body:
            retry = (
                Retry()
                if step.retry is None
                else Retry(step.retry.attempts, step.retry.delay, step.retry.factor)
            )
            common["timeout"] = LONGEST_SECONDS if step.timeout_seconds is None else step.timeout_seconds
            return Work(**common, kind=step.kind, body=body, retry=retry, on_interrupted=step.on_interrupted)


def _wait(wait: written.Wait, common: dict[str, Any], scope: Scope) -> Step:
    if wait.for_ is not None:
        return WaitFor(**common, seconds=wait.for_)
    if wait.until is not None:
        return WaitUntil(
            **common, condition=_expression(wait.until, "until", scope, "bool"), every=wait.every
        )
    assert wait.event is not None
    text = wait.event.filter
    placed = None if text is None else PlacedFilter(Expression.parse(text, scope, "bool"), "filter")
    return WaitEvent(**common, hook=wait.event.hook, filter=placed)


def _expression(text: str, place: str, scope: Scope, returns: Returns) -> Placed:
    return Placed(Expression.parse(text, scope, returns), place)


def _cannot(place: str, error: ExpressionError) -> NoReturn:
    raise CannotEvaluateError(
        f"{place}, line {error.line}, column {error.column}: {error.message}"
    ) from error


class DefinedPlans:
    """The revisions of automations, compiled; the newest of those that were asked for are kept."""

    def __init__(self, context: PluginContext, definitions: Definitions) -> None:
        self._context = context
        self._definitions = definitions
        self._kept: OrderedDict[tuple[str, int], tuple[Revision, Compiled]] = OrderedDict()

    async def at(self, session: AsyncSession, name: str, revision: int) -> Compiled:
        """That revision of an automation. Raises NoPlanError."""
        found = await self._revision(session, name, revision)
        kept = self._kept.get((name, revision))
        # Another one has taken its place where the database was set back.
        if kept is not None and kept[0] is found:
            self._kept.move_to_end((name, revision))
            return kept[1]
        try:
            compiled = await asyncio.to_thread(compile_definition, found.definition, revision)
        except ExpressionError as error:
            raise NoPlanError(f"revision {revision} of {name} cannot be read any more: {error}") from error
        self._kept[name, revision] = (found, compiled)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return compiled

    async def acts_for(self, name: str, revision: int) -> Principal:
        """Whom that revision acts for, with the rules that they hold now. Raises StepFailed."""
        async with self._context.sessions() as session:
            try:
                found = await self._revision(session, name, revision)
            except NoPlanError as error:
                raise StepFailed(str(error)) from error
        try:
            return await self._definitions.acting_for(found)
        except NotActingError as error:
            raise StepFailed(str(error)) from error

    async def _revision(self, session: AsyncSession, name: str, revision: int) -> Revision:
        try:
            found = await self._definitions.at(session, name, revision)
        except UnreadableAutomationError as error:
            raise NoPlanError(str(error)) from error
        if found is None:
            raise NoPlanError(f"there is no revision {revision} of {name}")
        return found
