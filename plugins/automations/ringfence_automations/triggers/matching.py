"""Which automations an event starts: decided purely, from the event and those that wait for its hook.

An event starts an automation once, by the first of its triggers that matches, in the order in which they are written.
A filter that asks for what the event does not have does not match. One that fails otherwise tells so.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ringfence.expressions import ExpressionError

from ringfence_automations.triggers.armed import Armed, ArmedTrigger


@dataclass(frozen=True, slots=True)
class Match:
    """An automation that is to start. `failure`: its filter has failed, and the run is to say so."""

    armed: Armed
    number: int
    failure: str | None = None


def matches(
    waiting: Iterable[Armed],
    *,
    hook: str,
    payload: Mapping[str, Any],
    position: int,
    time: dt.datetime,
) -> list[Match]:
    """What an event of the log starts."""
    values = {"event": payload, "trigger": {"kind": "hook", "hook": hook, "time": time.isoformat()}}
    found = []
    for armed in waiting:
        if position > armed.since:
            triggers = (one for one in armed.triggers if one.trigger.hook == hook)
            if (match := first_match(armed, triggers, values)) is not None:
                found.append(match)
    return found


def first_match(armed: Armed, triggers: Iterable[ArmedTrigger], values: Mapping[str, Any]) -> Match | None:
    """The first of an automation's triggers whose filter holds; if none does, the first one that has failed."""
    failed = None
    for one in triggers:
        try:
            if one.filter is None or one.filter.matches(values):
                return Match(armed, one.number)
        except ExpressionError as error:
            failure = f"the filter of trigger {one.number} failed: {error}"
            failed = failed or Match(armed, one.number, failure)
    return failed
