"""What a plugin says that it adds to the pages; see the hookspec `pages`.

A page is a template and an async function that answers what is filled into it. Who may see it is said by an access
rule, and checked before the function is called.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ringfence.access import AccessRule, Principal

Rule: TypeAlias = AccessRule | str | None
"""Who may: who holds this access rule; None: everyone who is signed in."""


class PagesError(RuntimeError):
    """A plugin's pages cannot be shown as declared; the message says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One request for a page, as the function behind it sees it."""

    principal: Principal
    parameters: Mapping[str, str]
    """What stands in the path where the page has `{name}`."""
    query: Mapping[str, str]
    form: Mapping[str, str] = field(default_factory=dict)
    """The fields of the form that was sent; an action's alone."""
    peer: str
    session: str
    """The id of the session, and of the token that it was begun with."""
    token: str
    now: dt.datetime

    def may(self, rule: AccessRule | str) -> bool:
        """Whether who is signed in holds a rule, perhaps narrowed."""
        return self.principal.holds_somewhere(rule if isinstance(rule, str) else rule.name)

    @property
    def after(self) -> str | None:
        """Where in a list the page begins; None for its beginning."""
        return self.query.get("after") or None


Show: TypeAlias = Callable[[View], Awaitable[Mapping[str, Any]]]
"""Answers what is filled into a template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page at a path such as `/satellites/{id}`.

    It is in the navigation if it has a `group`. Its content is made anew when an event of a hook in `live` happens.
    """

    path: str
    title: str
    template: str
    show: Show
    rule: Rule = None
    group: str | None = None
    order: int = 50
    live: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A part of another's page, at the path `on`; shown to whoever may see both. None as its data: nothing to show."""

    name: str
    on: str
    title: str
    template: str
    show: Callable[[View], Awaitable[Mapping[str, Any] | None]]
    rule: Rule = None
    order: int = 50
    live: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Redirect:
    """An action is done: go to a page, and say there what was done."""

    to: str
    said: str = ""


@dataclass(frozen=True, slots=True)
class Again:
    """An action cannot be done as asked: show a template with what is wrong, or with what is seen this once."""

    template: str
    data: Mapping[str, Any]
    status: int = 422


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What a form does: `do` is awaited when one is sent to `path` by who holds `rule`."""

    path: str
    do: Callable[[View], Awaitable[Redirect | Again]]
    title: str
    rule: Rule = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A line of the command palette: its words, and the page that it leads to."""

    words: str
    to: str
    rule: Rule = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """All that one plugin adds. `package` is the importable package whose folder `templates` has its templates."""

    package: str
    pages: Sequence[Page] = ()
    panels: Sequence[Panel] = ()
    actions: Sequence[Action] = ()
    commands: Sequence[Command] = ()
