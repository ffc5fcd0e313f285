"""The list of automations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ringfence import PluginContext
from ringfence.pages import View
from ringfence.web import DEFAULT_LISTED, page

from ringfence_automations.access_rules import AccessRules
from ringfence_automations.pages.words import kind_of, triggers_in_words
from ringfence_automations.runs.tables import seen
from ringfence_automations.runs.tables.seen import Listed

LONGEST_WORDS = 200
_SHOWN = {"enabled": True, "disabled": False}


class Listing:
    """Shows all automations, page by page."""

    def __init__(self, context: PluginContext, rules: AccessRules) -> None:
        self._context = context
        self._rules = rules

    async def show(self, view: View) -> Mapping[str, Any]:
        """The automations that match."""
        words = view.query.get("q", "").strip()[:LONGEST_WORDS]
        shown = view.query.get("show", "")
        async with self._context.sessions() as session:
            found = await seen.listed(
                session,
                words=words,
                enabled=_SHOWN.get(shown),
                after=view.after or "",
                limit=DEFAULT_LISTED + 1,
            )
        listed = page(found, DEFAULT_LISTED, lambda one: one.name)
        return {
            "automations": [_row(one) for one in listed.entries],
            "next": listed.next,
            "q": words,
            "shown": shown if shown in _SHOWN else "",
            "may_manage": view.may(self._rules.manage),
        }


def _row(one: Listed) -> dict[str, Any]:
    return {
        "name": one.name,
        "description": one.definition.get("description"),
        "enabled": one.enabled,
        "triggers": triggers_in_words(one.definition.get("triggers") or []),
        "mode": one.definition.get("mode", "single"),
        **last_of(one),
    }


def last_of(one: Listed) -> dict[str, Any]:
    """How an automation does, for a template."""
    last = (
        None
        if one.last_id is None
        else {
            "id": one.last_id,
            "status": one.last_status,
            "kind": kind_of(one.last_status),
            "at": one.last_at,
            "message": one.last_message,
        }
    )
    return {"last": last, "running": one.running, "waiting": one.waiting}
