"""Whether a trigger can ever match what one thing tells, such as the changes of one check's state. Pure.

What can be said for certain is said: a filter that holds for an event as this thing may tell it fits, and one that
holds only for those of other things does not. Of any other, nobody knows before it happens.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ringfence.expressions import ExpressionError

from ringfence_automations.triggers.armed import ArmedTrigger
from ringfence_automations.triggers.trying.samples import as_wished


class Fit(enum.StrEnum):
    """Whether it can match."""

    YES = "yes"
    PERHAPS = "perhaps"
    NO = "no"


def fit(trigger: ArmedTrigger, events: Sequence[Mapping[str, Any]], fixed: Iterable[str], hook: str) -> Fit:
    """Whether a trigger can match an event like these, which all have the same values in the `fixed` fields."""
    text = trigger.trigger.filter
    if trigger.filter is None or text is None:
        return Fit.YES
    names = set(fixed)
    wishes = [as_wished(event, text) for event in events]
    own = [
        {**wish, **{name: event[name] for name in names if name in event}}
        for wish, event in zip(wishes, events, strict=True)
    ]
    if any(_matches(trigger, event, hook) for event in (*events, *own)):
        return Fit.YES
    return Fit.NO if any(_matches(trigger, event, hook) for event in wishes) else Fit.PERHAPS


def choices_of(schema: Mapping[str, Any], name: str) -> list[Any]:
    """The values that a field of an event can have, where its schema lists them."""
    field = (schema.get("properties") or {}).get(name) or {}
    reference = str(field.get("$ref", "")).rpartition("/")[2]
    found: list[Any] = (schema.get("$defs", {}).get(reference) or field).get("enum") or []
    return found


def _matches(trigger: ArmedTrigger, event: Mapping[str, Any], hook: str) -> bool:
    assert trigger.filter is not None
    values = {"event": event, "trigger": {"kind": "hook", "hook": hook, "time": ""}}
    try:
        return trigger.filter.matches(values)
    except ExpressionError:
        return False
