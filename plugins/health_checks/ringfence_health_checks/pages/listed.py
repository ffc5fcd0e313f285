"""`/checks`: all checks, the worst first."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from ringfence.pages import View
from ringfence.web import cursor, not_a_cursor, page, parts_of
from starlette.responses import PlainTextResponse, Response

from ringfence_health_checks.pages.parts import KINDS, Parts
from ringfence_health_checks.states.overview import STATES, Standing

MOST = 50
MOST_SUGGESTED = 200
"""How many systems the field for one suggests."""
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
            return await self._filled(view, [], wanted, errors, None)
        every = await self._parts.overview.standings(place=place, label=wanted["label"] or None)
        found = [one for one in every if _fits(one, wanted)]
        return await self._filled(view, found, wanted, errors, place, every=every)

    async def fresh(self, view: View) -> Response:
        """Another text once another thing would be shown: results are too many to be told of one by one."""
        return PlainTextResponse(_seen(await self._parts.overview.standings()))

    async def _filled(
        self,
        view: View,
        found: Sequence[Standing],
        wanted: Mapping[str, str],
        errors: Mapping[str, str | None],
        place: str | None,
        *,
        every: Sequence[Standing] = (),
    ) -> Mapping[str, Any]:
        begin = _key(view.after)
        shown = page(
            [one for one in found if begin is None or one.key > begin][: MOST + 1],
            MOST,
            lambda one: cursor(str(one.rank), one.name),
        )
        ids = [one.id for one in shown.entries]
        worst = await self._parts.states.worst(ids, place=place, label=wanted["label"] or None) if ids else {}
        return {
            "checks": [(one, worst.get(one.id)) for one in shown.entries],
            "names": await self._parts.place_names(view, {one.ran_on for one in worst.values()}),
            "next": shown.next,
            "found": len(found),
            "wanted": wanted,
            "errors": errors,
            "is_filtered": any(wanted.values()),
            "states": STATES,
            "systems": sorted({one.system for one in every})[:MOST_SUGGESTED],
            "kinds": KINDS,
            # With a filter by places, what is there is asked for by itself.
            "seen": _seen(every) if not (wanted["place"] or wanted["label"]) else None,
            **self._parts.rights(view),
        }


def _fits(one: Standing, wanted: Mapping[str, str]) -> bool:
    words = wanted["q"].lower().split()
    text = f"{one.name} {one.system}".lower()
    return (
        all(word in text for word in words)
        and wanted["state"] in ("", one.state)
        and wanted["system"] in ("", one.system)
    )


def _key(after: str | None) -> tuple[int, str] | None:
    if after is None:
        return None
    rank, name = parts_of(after, 2)
    if not (rank.isascii() and rank.isdigit() and len(rank) < 3):
        raise not_a_cursor()
    return int(rank), name


def _seen(every: Sequence[Standing]) -> str:
    told = "\n".join(f"{one.id} {one.rank} {one.counts} {one.is_quiet}" for one in every)
    return hashlib.sha256(told.encode()).hexdigest()[:16]
