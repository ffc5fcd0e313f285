"""Incidents on pages: their list, what lasts of what another page shows, and acknowledging."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ringfence.pages import Redirect, View
from ringfence.web import DEFAULT_LISTED, Problem, number_of, page

from ringfence_notifications.access_rules import AccessRules
from ringfence_notifications.incidents.incidents import Incidents
from ringfence_notifications.links import is_own_page

BIGGEST = 2**63 - 1
MOST_ON_A_PANEL = 20


class IncidentPages:
    """What pages show of incidents."""

    def __init__(self, incidents: Incidents, rules: AccessRules) -> None:
        self._incidents = incidents
        self._rules = rules

    async def show(self, view: View) -> Mapping[str, Any]:
        """Those that last, or all of them, the newest first."""
        lasting = bool(view.query.get("lasting"))
        before = None if view.after is None else number_of(view.after)
        found = await self._incidents.listed(lasting=lasting, after=before, limit=DEFAULT_LISTED + 1)
        shown = page(found, DEFAULT_LISTED, lambda one: str(one["id"]))
        return {
            "incidents": [with_place(one) for one in shown.entries],
            "next": shown.next,
            "lasting": lasting,
            "may_ack": view.may(self._rules.ack),
            "back": "/notifications/incidents",
        }

    def panel(self, under: str, key: str) -> Callable[[View], Awaitable[Mapping[str, Any] | None]]:
        """What lasts of what a page under this path shows, which is known by `key`; nothing if nothing lasts."""

        async def show(view: View) -> Mapping[str, Any] | None:
            here = f"{under}/{view.parameters.get(key, '')}"
            found = await self._incidents.lasting_at(here, limit=MOST_ON_A_PANEL)
            if not found:
                return None
            return {"incidents": found, "may_ack": view.may(self._rules.ack), "back": here}

        return show

    async def acknowledge(self, view: View) -> Redirect:
        """End the reminders of an incident that lasts."""
        number = _number(view.parameters["number"])
        found = await self._incidents.acknowledge(number, by=view.principal.name)
        if found is None:
            raise Problem(404, "No such incident", detail=f"There is no incident {number}.")
        if not found["lasts"]:
            raise Problem(409, "The incident is over", detail="The incident is closed already.")
        back = view.form.get("back", "")
        return Redirect(
            back if is_own_page(back) else "/notifications",
            f"{found['title']}: no more reminders are sent. Its recovery is still reported.",
        )


def with_place(incident: Mapping[str, Any]) -> dict[str, Any]:
    """An incident with the page that shows what it is about, if the host has one."""
    link = incident["link"]
    return {**incident, "place": link if is_own_page(link) else None}


def _number(given: str) -> int:
    if given.isascii() and given.isdigit() and 0 < int(given[:20]) <= BIGGEST:
        return int(given)
    raise Problem(404, "No such incident", detail="There is no such incident: incidents have numbers.")
