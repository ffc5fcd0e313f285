"""Tellings as the database keeps them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ringfence_notifications.deciding import Held, Pending, Telling
from ringfence_notifications.severity import Severity

_APART = frozenset({"due_at"})
"""What stands in a column of its own."""


def to_wire(telling: Telling) -> dict[str, Any]:
    """A telling as JSON, but for its due time."""
    return {one.name: _plain(getattr(telling, one.name)) for one in fields(telling) if one.name not in _APART}


def from_wire(state: Mapping[str, Any], due_at: dt.datetime | None) -> Telling:
    """The telling that `to_wire` has written."""
    told, pending, held, told_at = state["told"], state["pending"], state["held"], state["told_at"]
    return Telling(
        severity=Severity(state["severity"]),
        title=state["title"],
        text=state["text"],
        since=dt.datetime.fromisoformat(state["since"]),
        link=state["link"],
        lasts=state["lasts"],
        acknowledged=state["acknowledged"],
        told=None if told is None else Severity(told),
        told_at=None if told_at is None else dt.datetime.fromisoformat(told_at),
        pending=None if pending is None else Pending(pending),
        due_at=due_at,
        held=None if held is None else Held(held),
        events=state["events"],
        flaps=state["flaps"],
        changes=tuple(dt.datetime.fromisoformat(one) for one in state["changes"]),
    )


def gathers(telling: Telling) -> bool:
    """Whether what happens in its group before it is due is told together with it."""
    return telling.pending not in {None, Pending.STEADY} and telling.held is None


def _plain(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
