"""The page of all satellites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from ringfence import PluginContext
from ringfence.pages import View
from ringfence.web import Problem, page

from ringfence_satellite.pages import words
from ringfence_satellite.pages.finding import current_policy
from ringfence_satellite.server import lists
from ringfence_satellite.server.lists import Listed, Only, Sets, Sort
from ringfence_satellite.server.rules import FleetRules

MOST = 50
"""On one page: a row has nine parts, and a browser lays each of them out before it shows any."""
MOST_SEARCHED = 200
FILTERS = (
    ("", "all satellites"),
    (Only.ONLINE.value, "online"),
    (Only.OFFLINE.value, "offline"),
    (Only.NEVER.value, "never connected"),
    (Only.BEHIND.value, "behind on the policy"),
    (Only.LACKING.value, "cannot enforce the policy"),
    (Only.REFUSED.value, "refused in the last hour"),
)
HEADS = {Sort.NAME: "Name", Sort.STATE: "State", Sort.SEEN: "Last seen", Sort.REVISION: "Policy"}


class Listing:
    """Searched, sorted and filtered, page by page."""

    def __init__(self, context: PluginContext, rules: FleetRules) -> None:
        self._context = context
        self._rules = rules

    async def show(self, view: View) -> Mapping[str, Any]:
        """One page of the list."""
        search = view.query.get("q", "").strip()[:MOST_SEARCHED]
        sort, descending = _sort(view.query.get("sort", ""))
        only = _only(view.query.get("only", ""))
        revision = (await current_policy(self._context)).revision
        async with self._context.sessions() as session:
            found = await lists.look_through(
                session,
                sort=sort,
                descending=descending,
                search=search,
                only=only,
                revision=revision,
                reach=view.principal.reach(self._rules.read.name),
                after=view.after,
                limit=MOST + 1,
            )
            shown = page(found, MOST, lambda one: one.cursor)
            sets = await lists.packages(session, [one.satellite.id for one in shown.entries])
        given = {"q": search, "only": only or ""}
        return {
            "satellites": [_row(one, revision, sets.get(one.satellite.id)) for one in shown.entries],
            "next": shown.next,
            "first": None if view.after is None else _address(given, sort, descending),
            "search": search,
            "only": only or "",
            "filters": FILTERS,
            "sort": view.query.get("sort", "") and _sort_text(sort, descending),
            "heads": {one.value: _head(one, given, sort, descending) for one in Sort},
            "narrowed": bool(search or only),
            "may_add": view.may(self._rules.manage),
        }


def _row(one: Listed, revision: int, sets: Sets | None) -> dict[str, Any]:
    satellite = one.satellite
    return {
        "id": satellite.id,
        "name": satellite.name,
        "state": words.state_of(satellite),
        "refused": one.refused,
        "region": satellite.region,
        "labels": sorted(satellite.profile.carried),
        "version": satellite.version,
        "policy": words.policy(satellite, revision),
        "enforces": words.enforces(satellite),
        "packages": _packages(sets),
        "online": satellite.status == "online",
        "seen": satellite.last_heartbeat_at,
    }


def _packages(sets: Sets | None) -> words.State:
    if sets is None:
        return words.State("none", "off")
    if sets.failed:
        return words.State(f"{sets.failed} of {sets.sets} failed", "bad")
    if sets.ready < sets.sets:
        return words.State(f"{sets.ready} of {sets.sets} ready", "warn")
    return words.State(f"{sets.sets} ready", "good")


def _head(one: Sort, given: Mapping[str, str], sort: Sort, descending: bool) -> dict[str, str]:
    """The words above a column, and where they lead: to the list sorted by it, or the other way round."""
    mine = one is sort
    turned = mine and not descending
    return {
        "words": HEADS[one],
        "to": _address(given, one, turned),
        "sorted": "" if not mine else "descending" if descending else "ascending",
    }


def _address(given: Mapping[str, str], sort: Sort, descending: bool) -> str:
    query = {key: value for key, value in given.items() if value} | {"sort": _sort_text(sort, descending)}
    return f"/satellites?{urlencode(query)}"


def _sort_text(sort: Sort, descending: bool) -> str:
    return f"-{sort.value}" if descending else sort.value


def _sort(text: str) -> tuple[Sort, bool]:
    name = text.removeprefix("-") or Sort.NAME.value
    if name not in set(Sort):
        raise Problem(422, detail="Satellites cannot be sorted by this.")
    return Sort(name), text.startswith("-")


def _only(text: str) -> Only | None:
    if text and text not in set(Only):
        raise Problem(422, detail="There is no such filter.")
    return Only(text) if text else None
