"""What checks add to others' pages: the overview, what the palette finds, and the page of a satellite."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

from ringfence.pages import Attention, Count, Found, View

from ringfence_health_checks.pages.parts import KINDS, Parts
from ringfence_health_checks.pages.silencing import SatelliteSilence, Wish, wish_of
from ringfence_health_checks.results.history import MOST_COUNTED
from ringfence_health_checks.states.overview import STATES, Group, Standing

MOST_FOUND = 10
MOST_SILENCED = 3
MOST_ON_PLACE = 50
_URGENCY: Mapping[str, tuple[Literal["bad", "warn"], int]] = {
    "unhealthy": ("bad", 90),
    "unknown": ("warn", 70),
    "degraded": ("warn", 60),
}
_UNITS = (("d", 86_400), ("h", 3600), ("min", 60))


class SummedUp:
    """The functions behind them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._silence = SatelliteSilence(parts)

    async def attention(self, view: View) -> Sequence[Attention]:
        """Checks that fail, or of which it has not been known for long how they are; silenced ones are left out."""
        if not view.principal.holds(self._parts.read.name):
            return []
        return troubles(await self._parts.overview.groups(), view.now)

    async def counts(self, view: View) -> Sequence[Count]:
        """How many checks are how, and how many results have come in the last hour."""
        if not view.principal.holds(self._parts.read.name):
            return []
        states = Counter[str]()
        for group in await self._parts.overview.groups():
            states[group.state] += group.checks
        received = await self._parts.history.received(view.now)
        many = "or more" if max(received) >= MOST_COUNTED else ""
        return [
            *(
                Count(f"checks {state}", states[state], to=f"/checks?state={state}", weight=90)
                for state in STATES
                if states[state]
            ),
            Count("results in the last hour", sum(received), unit=many, last_hour=received, weight=65),
        ]

    async def find(self, view: View, query: str) -> Sequence[Found]:
        """Checks by their names and systems; "silence web" leads to silencing them."""
        if not view.principal.holds(self._parts.read.name):
            return []
        wish = wish_of(query)
        named = (query if wish is None else wish.name).lower().split()[:10]
        found = await self._parts.checks.find(named, limit=MOST_FOUND)
        pages = [Found(name, f"/checks/{id}", "check") for id, name, _ in found]
        if not view.principal.holds(self._parts.manage.name):
            return pages
        length = wish or Wish("")
        silences = [
            Found(
                f"Silence {name} for {length.words}", f"/checks/{id}/silence?for={length.seconds}", "action"
            )
            for id, name, _ in found
        ]
        if wish is not None:
            return [*await self._silence.found(view, wish), *silences][:MOST_FOUND]
        return [*pages[: MOST_FOUND - MOST_SILENCED], *silences[:MOST_SILENCED]]

    async def on_satellite(self, view: View) -> Mapping[str, Any] | None:
        """The checks of a satellite, as they are there."""
        try:
            place = str(UUID(view.parameters["id"]))
        except ValueError:
            return None
        found = await self._parts.states.on_place(place, limit=MOST_ON_PLACE + 1)
        return {
            "checks": found[:MOST_ON_PLACE],
            "is_all": len(found) <= MOST_ON_PLACE,
            "kinds": KINDS,
            "place": place,
            **self._parts.rights(view),
        }


def troubles(groups: Sequence[Group], now: dt.datetime) -> Sequence[Attention]:
    """What needs attention, the first few by name. Pure."""
    return [said for one in groups if one.troubles for said in _told(one, now)]


def _told(group: Group, now: dt.datetime) -> Sequence[Attention]:
    state = group.state
    kind, weight = _URGENCY[state]
    told = [Attention(_sentence(one, state, now), f"/checks/{one.id}", kind, weight) for one in group.first]
    if (more := group.checks - len(told)) > 0:
        words = f"{more} more checks are {state}." if more > 1 else f"1 more check is {state}."
        told.append(Attention(words, f"/checks?state={state}", kind, weight - 1))
    return told


def _sentence(one: Standing, state: str, now: dt.datetime) -> str:
    if not one.places:
        return f"Check {one.name} runs nowhere: no satellite matches its selector."
    count = dict(one.counts).get(state, 0)
    where = "" if one.places == 1 else f" in {count} of {one.places} places"
    how = f"is {state}" if one.since is None else f"has been {state} for {span(now - one.since)}"
    stale = f", {one.stale} without a fresh result" if state == "unknown" and one.stale else ""
    return f"Check {one.name} {how}{where}{stale}."


def span(length: dt.timedelta) -> str:
    """A length of time in its largest unit."""
    seconds = max(0, int(length.total_seconds()))
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
