"""For the tests of plugins: what a route makes of an event, without a database and without a message."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel
from ringfence import AnyEvent, Hook, HookDirectory

from ringfence_notifications.deciding import Phase
from ringfence_notifications.routing.compiled import compiled
from ringfence_notifications.routing.route import Route
from ringfence_notifications.severity import Severity

P = TypeVar("P", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Told:
    """What would be told. `is_over`: that incidents of this key are over; a part of it that is None fits any."""

    title: str
    text: str
    severity: Severity
    key: tuple[str | None, ...]
    is_over: bool = False


def told(route: Route, hook: Hook[P], payload: P, *, others: Sequence[Hook[P]] = ()) -> Told | None:
    """What a route tells of an event of `hook`; None if nothing. `others` are hooks that it looks at beside this one.

    Raises `RouteError` for a route with a wrong expression.
    """
    directory = HookDirectory()
    directory.add("test", (hook, *others))
    event = AnyEvent(
        payload=payload.model_dump(mode="json", by_alias=True),
        hook=hook.name,
        plugin="test",
        position=1,
        stream=hook.name,
        version=1,
        actor=None,
        reason=None,
        occurred_at=dt.datetime.now(dt.UTC),
    )
    for found in compiled(route, directory.find).matches(event):
        fact = found.fact
        return Told(fact.title, fact.text, fact.severity, found.key, fact.phase is Phase.CLEARED)
    return None
