"""`/checks`: all checks, the worst first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ringfence.pages import View
from ringfence.web import cursor, not_a_cursor, page, parts_of
from starlette.responses import PlainTextResponse, Response

from ringfence_health_checks.pages.parts import KINDS, Parts
from ringfence_health_checks.states.overview import STATES, Listed, Wanted

MOST = 50
FILTERS = ("q", "state", "system", "label", "place")


class ListedChecks:
    """The list, and whether it is still as it was shown."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def show(self, view: View) -> Mapping[str, Any]:
        """Fill in the list."""
        wanted = {name: view.query.get(name, "").strip()[:200] for name in FILTERS}
        errors: dict[str, str | None] = dict.fromkeys(FILTERS)
        if wanted["state"] and wanted["state"] not in STATES:
            errors["state"] = f"there is no such state; there are {', '.join(STATES)}"
        place = None
        if wanted["place"]:
            place = await self._parts.names.place(wanted["place"], view.principal)
            if place is None:
                errors["place"] = "there is no such place: enter core, or a satellite that you may see"
        if any(errors.values()):
            return await self._filled(view, Listed([], 0, "", ()), wanted, errors)
        asked = Wanted(
            words=tuple(wanted["q"].split()),
            state=wanted["state"] or None,
            system=wanted["system"] or None,
            place=place,
            label=wanted["label"] or None,
            after=_key(view.after),
        )
        found = await self._parts.overview.listed(asked, limit=MOST + 1)
        return await self._filled(view, found, wanted, errors)

    async def fresh(self, view: View) -> Response:
        """Another text once another thing would be shown: results are too many to be told of one by one."""
        return PlainTextResponse(await self._parts.overview.seen())

    async def _filled(
        self, view: View, found: Listed, wanted: Mapping[str, str], errors: Mapping[str, str | None]
    ) -> Mapping[str, Any]:
        shown = page(found.checks, MOST, lambda one: cursor(str(one[0].rank), one[0].name))
        return {
            "checks": shown.entries,
            "names": await self._parts.place_names(
                view, {place.ran_on for _, place in shown.entries if place is not None}
            ),
            "next": shown.next,
            "found": found.found,
            "wanted": wanted,
            "errors": errors,
            "is_filtered": any(wanted.values()),
            "states": STATES,
            "systems": found.systems,
            "kinds": KINDS,
            # With a filter by places, what is there is asked for by itself.
            "seen": found.seen if not (wanted["place"] or wanted["label"]) else None,
            **self._parts.rights(view),
        }


def _key(after: str | None) -> tuple[int, str] | None:
    if after is None:
        return None
    rank, name = parts_of(after, 2)
    if not (rank.isascii() and rank.isdigit() and len(rank) < 3):
        raise not_a_cursor()
    return int(rank), name
