"""A route that is ready to be matched with events: its expressions parsed against the payloads of its hooks. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ringfence import AnyEvent, DeclaredHook
from ringfence.expressions import Expression, ExpressionError, Schema, Template

from ringfence_notifications.deciding import Fact, Phase
from ringfence_notifications.hooks import OWN_NEWS
from ringfence_notifications.links import is_own_page
from ringfence_notifications.routing.route import ANY, Recovery, Route
from ringfence_notifications.severity import Severity

FindHook = Callable[[str], DeclaredHook | None]
MAX_KEY_PART = 500
"""How many bytes a part of a key has, so that a whole key fits into an index, whose entries have 2,700 at most."""
MAX_GROUP = 300
MAX_TITLE = 300
MAX_TEXT = 2000


class RouteError(ValueError):
    """A route cannot be used; the message says where and why. `field` is what of the route is wrong: `filter`."""

    def __init__(self, field: str, why: str) -> None:
        self.field = field.partition(":")[0]
        self.why = why
        super().__init__(f"{field}: {why}")


@dataclass(frozen=True, slots=True)
class Matched:
    """What an event is to a route. A part of `key` that is None fits any."""

    route: Route
    key: tuple[str | None, ...]
    group: str
    fact: Fact


@dataclass(frozen=True, slots=True)
class _Raises:
    filter: Expression
    key: tuple[Template, ...]
    group: Template
    title: Template
    text: Template
    link: Template
    severity: Template


@dataclass(frozen=True, slots=True)
class _Clears:
    filter: Expression
    key: tuple[Template | None, ...]
    text: Template


@dataclass(frozen=True, slots=True)
class CompiledRoute:
    """A route with its expressions. `idle`: why it matches nothing here, if it does."""

    route: Route
    raises: _Raises | None
    clears: Mapping[str, tuple[_Clears, ...]]
    idle: str | None = None

    def matches(self, event: AnyEvent) -> list[Matched]:
        """What the event is to the route: nothing, the beginning of an incident, or the end of some.

        Raises:
            ExpressionError: when an expression cannot be computed for this event.
        """
        values = _values(event)
        found = []
        if self.raises is not None and event.hook == self.route.hook and self.raises.filter.matches(values):
            found.append(self._begun(self.raises, values))
        if found:
            return found
        for one in self.clears.get(event.hook, ()):
            if one.filter.matches(values):
                key = tuple(None if part is None else _part(part, values) for part in one.key)
                text = one.text.render(values)[:MAX_TEXT]
                found.append(Matched(self.route, key, "", Fact(Phase.CLEARED, Severity.INFO, "", text)))
        return found

    def _begun(self, raises: _Raises, values: Mapping[str, Any]) -> Matched:
        fact = Fact(
            Phase.RAISED if self.route.recoveries else Phase.ONCE,
            _severity(raises.severity.render(values)),
            " ".join(raises.title.render(values).split())[:MAX_TITLE],
            raises.text.render(values)[:MAX_TEXT],
            _link(raises.link.render(values)),
        )
        key = tuple(_part(part, values) for part in raises.key)
        return Matched(self.route, key, raises.group.render(values)[:MAX_GROUP], fact)


def compiled(route: Route, find: FindHook) -> CompiledRoute:
    """The route, ready. One whose hook no plugin of this instance declares is idle.

    Raises:
        RouteError: if an expression is wrong.
    """
    if own := sorted(route.hooks & OWN_NEWS):
        raise RouteError("hook", f"{own[0]} tells of notifications themselves: telling of it would never end")
    clears: dict[str, tuple[_Clears, ...]] = {}
    for number, recovery in enumerate(route.recoveries, start=1):
        if (hook := find(recovery.hook)) is not None:
            one = _clearing(route, recovery, _scope(hook), f"recovery {number}")
            clears[recovery.hook] = (*clears.get(recovery.hook, ()), one)
    if (hook := find(route.hook)) is None:
        return CompiledRoute(route, None, clears, f"no plugin declares the hook {route.hook}")
    scope = _scope(hook)
    raises = _Raises(
        _filter(route.filter, scope, "filter"),
        tuple(_template(part, scope, "key") for part in route.key),
        _template(route.group, scope, "group"),
        _template(route.title, scope, "title"),
        _template(route.text, scope, "text"),
        _template(route.link, scope, "link"),
        _template(route.severity, scope, "severity"),
    )
    if "{{" not in route.severity and route.severity not in set(Severity):
        raise RouteError("severity", f"must be one of {', '.join(Severity)}, or an expression that says one")
    return CompiledRoute(route, raises, clears)


def _clearing(route: Route, recovery: Recovery, scope: Mapping[str, Schema], where: str) -> _Clears:
    key = route.key if recovery.key is None else recovery.key
    return _Clears(
        _filter(recovery.filter, scope, f"{where}: filter"),
        tuple(None if part == ANY else _template(part, scope, f"{where}: key") for part in key),
        _template(recovery.text, scope, f"{where}: text"),
    )


def _scope(hook: DeclaredHook) -> Mapping[str, Schema]:
    return {"event": Schema.of_model(hook.model)}


def _values(event: AnyEvent) -> Mapping[str, Any]:
    return {"event": event.payload}


def _filter(text: str, scope: Mapping[str, Schema], where: str) -> Expression:
    try:
        return Expression.parse(text, scope, returns="bool")
    except ExpressionError as error:
        raise RouteError(where, str(error)) from error


def _template(text: str, scope: Mapping[str, Schema], where: str) -> Template:
    try:
        return Template.parse(text, scope)
    except ExpressionError as error:
        raise RouteError(where, str(error)) from error


def _part(template: Template, values: Mapping[str, Any]) -> str:
    """A part of a key; one that is too long begins as it does, and ends with what stands for all of it."""
    text = template.render(values)
    if len(data := text.encode()) <= MAX_KEY_PART:
        return text
    return f"{text[:50]}…{hashlib.sha256(data).hexdigest()}"


def _link(text: str) -> str | None:
    """A link to a page of others, or the path of one of the host's own; None for what is none."""
    if is_own_page(text):
        return text
    is_web = text.startswith(("https://", "http://")) and len(text) <= MAX_TEXT and " " not in text
    return text if is_web else None


def _severity(text: str) -> Severity:
    """How bad it is. What says something else is an error: better told too loudly than not at all."""
    return Severity(text) if text in set(Severity) else Severity.ERROR
