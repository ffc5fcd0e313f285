"""What a plugin says that it adds to the pages; see the hookspec `pages`.

A page is a template and an async function that answers what is filled into it. Who may see it is said by an access
rule, and checked before the function is called.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from fastapi import Response

from ringfence.access import AccessRule, Principal

if TYPE_CHECKING:
    from ringfence.declaring import Held

Rule: TypeAlias = AccessRule | str | None
"""Who may: who holds this access rule; None: everyone who is signed in."""
_Read = TypeVar("_Read")


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
    origin: str = ""
    """The address that the browser has asked: `https://core.example.org`, say."""
    rights: Callable[[], Awaitable[Principal | None]]
    """Who is signed in at this moment; None: the session has ended. For what goes on after it was answered."""
    sees: Callable[[str], bool] = lambda _: True
    """Whether who is signed in may see the page at a path of this host: for links that lead to others' pages."""
    last_event_id: str | None = None
    """Where a browser's stream of server-sent events was cut; of `Data` alone."""
    _reading: dict[object, asyncio.Future[Any]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def may(self, rule: AccessRule | str) -> bool:
        """Whether who is signed in holds a rule, perhaps narrowed."""
        return self.principal.holds_somewhere(rule if isinstance(rule, str) else rule.name)

    async def once(self, read: Callable[[View], Awaitable[_Read]]) -> _Read:
        """What `read` answers for this view: it is asked once, whatever needs it, at the same time or later."""
        reading = self._reading.get(read)
        if reading is None:
            reading = self._reading[read] = asyncio.ensure_future(read(self))
            # Where everybody has given up, nobody else takes its error.
            reading.add_done_callback(lambda done: done.cancelled() or done.exception())
        # Whoever gives up takes nothing from the others.
        found: _Read = await asyncio.shield(reading)
        return found

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
    `held` says whether what it is about is changed elsewhere alone: the page says so, and its template is told.
    """

    path: str
    title: str
    template: str
    show: Show
    rule: Rule = None
    group: str | None = None
    order: int = 50
    live: Sequence[str] = ()
    held: Callable[[View], Awaitable[Held | None]] | None = None


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
class Data:
    """What a script of a page gets from `path`: the numbers of a chart, or a stream. GET only, for who holds `rule`.

    An answer that is a `StreamingResponse` ends by itself with the session, with the right, and with the instance.
    Where rights may be narrowed, it looks them up by `View.rights` before it tells something. A browser whose stream
    has ended so connects again, and sends `View.last_event_id`.
    """

    path: str
    answer: Callable[[View], Awaitable[Response]]
    rule: Rule = None


@dataclass(frozen=True, slots=True)
class Command:
    """A line of the command palette: its words, and the page that it leads to.

    With `form`, choosing it sends these fields to the action at the path `to`, after `ask` was answered with yes.
    `key` chooses it too: one or two letters, typed one after the other outside of any field.
    """

    words: str
    to: str
    rule: Rule = None
    form: Mapping[str, str] | None = None
    ask: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Attention:
    """Something that needs somebody's attention, and where to see to it. The heaviest stand first."""

    text: str
    to: str | None = None
    kind: Literal["bad", "warn"] = "bad"
    weight: int = 50


@dataclass(frozen=True, slots=True)
class Count:
    """How many of something there are; `last_hour` has a number for each five minutes, the oldest first.

    The heaviest stand first: what runs and how it is before what is configured, and the host's own numbers last.
    """

    what: str
    number: float
    unit: str = ""
    to: str | None = None
    last_hour: Sequence[float] | None = None
    weight: int = 50


@dataclass(frozen=True, slots=True)
class Found:
    """A line that the palette finds: its words, where it leads, and what kind of thing it is, "satellite" say."""

    words: str
    to: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """All that one plugin adds. `package` is the importable package whose folder `templates` has its templates.

    `attention` and `counts` are asked for the overview, and `find` as somebody types into the palette. Each tells only
    what the viewer may see, and quickly: one that fails, or takes longer than a second, is left out and logged.
    """

    package: str
    pages: Sequence[Page] = ()
    panels: Sequence[Panel] = ()
    actions: Sequence[Action] = ()
    data: Sequence[Data] = ()
    commands: Sequence[Command] = ()
    attention: Callable[[View], Awaitable[Sequence[Attention]]] | None = None
    counts: Callable[[View], Awaitable[Sequence[Count]]] | None = None
    find: Callable[[View, str], Awaitable[Sequence[Found]]] | None = None
