"""Silencing from the palette, and all checks of a satellite at once: `/satellites/{id}/silence`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from ringfence.pages import Again, Found, Redirect, View
from ringfence.web import Problem

from ringfence_health_checks.pages.parts import Parts, refused
from ringfence_health_checks.silences.silences import SilenceWanted

TEMPLATE = "silence-satellite.html"
MOST_LISTED = 100
HOUR = 3600
LENGTHS = (
    ("1800", "30 minutes"),
    ("3600", "1 hour"),
    ("14400", "4 hours"),
    ("28800", "8 hours"),
    ("86400", "1 day"),
    ("604800", "7 days"),
)
"""For how long one silences, in seconds."""
_UNITS = {"m": (60, "min"), "h": (HOUR, "h"), "d": (86_400, "d")}
_NEWEST = 2**62
_WHOLE = re.compile(r"(?P<name>.+?)\s+for\s+(?P<count>\d{1,3})\s*(?P<unit>[mhd])[a-z]*")
_BEGUN = re.compile(r"\s+for(\s+\d*)?$")


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody types: `silence web-1 for 2 h`, or the beginning of it."""

    name: str
    seconds: int = HOUR
    words: str = "1 h"


def wish_of(query: str) -> Wish | None:
    """What somebody wants silenced; None if it does not begin with that word. Pure."""
    first, _, rest = query.strip().partition(" ")
    if len(first) < 3 or not "silence".startswith(first.lower()):
        return None
    if found := _WHOLE.fullmatch(rest.strip()):
        size, unit = _UNITS[found["unit"]]
        count = max(1, int(found["count"]))
        return Wish(found["name"], count * size, f"{count} {unit}")
    return Wish(_BEGUN.sub("", rest.strip()))


def lengths_with(seconds: str) -> Sequence[tuple[str, str]]:
    """The lengths to choose from, with this one if it is none of them. Pure."""
    if seconds in dict(LENGTHS) or not (seconds.isascii() and seconds.isdigit() and len(seconds) < 9):
        return LENGTHS
    number = int(seconds)
    words = next(
        (f"{number // size} {unit}" for size, unit in reversed(_UNITS.values()) if number % size == 0), ""
    )
    return (*LENGTHS, (seconds, words or f"{number} s"))


class SatelliteSilence:
    """All checks of a satellite are silenced, and what silences it has."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def found(self, view: View, wish: Wish) -> Sequence[Found]:
        """The line of the palette for a satellite of just this name."""
        place = await self._parts.names.place(wish.name, view.principal)
        names = {} if place is None else await self._parts.names.of({place}, view.principal)
        return [
            Found(
                f"Silence all checks on {name} for {wish.words}",
                f"/satellites/{id}/silence?for={wish.seconds}",
                "action",
            )
            for id, name in names.items()
        ]

    async def show(self, view: View) -> Mapping[str, Any]:
        """The form."""
        return await self._shown(view, {"for": view.query.get("for", str(HOUR)), "reason": ""})

    async def silence(self, view: View) -> Redirect | Again:
        """Silence all of them."""
        given = {name: view.form.get(name, "").strip() for name in ("for", "reason")}
        shown = await self._shown(view, given)
        length = float(given["for"]) if given["for"].isascii() and given["for"].isdigit() else given["for"]
        wanted = {"satellite": shown["id"], "forSeconds": length, "reason": given["reason"]}
        try:
            await self._parts.silences.add(SilenceWanted.model_validate(wanted), view.principal)
        except ValidationError as wrong:
            error = refused(wrong)
            return Again(TEMPLATE, {**shown, "error": error if given["reason"] else "Enter a reason."})
        return Redirect(f"/satellites/{shown['id']}", f"All checks on {shown['named']} are silenced.")

    async def end(self, view: View) -> Redirect | Again:
        """End a silence now."""
        shown = await self._shown(view, {"for": "", "reason": ""})
        if view.parameters["silence"] not in {str(one.id) for one in shown["silences"]}:
            raise Problem(404, "No such silence", detail="there is no such silence of this satellite")
        await self._parts.silences.end(UUID(view.parameters["silence"]), view.principal)
        return Redirect(f"/satellites/{shown['id']}/silence", "The silence is ended.")

    async def _shown(self, view: View, given: Mapping[str, str]) -> dict[str, Any]:
        names = await self._parts.names.of({view.parameters["id"]}, view.principal)
        if not names:
            raise Problem(404, "No such satellite", detail="there is no satellite with such an id")
        [(id, name)] = names.items()
        listed = await self._parts.silences.stored.listed(before=_NEWEST, ended=False, limit=MOST_LISTED)
        silences = [one for one in listed if one.place == id and one.check_id is None]
        return {
            "id": id,
            "named": name,
            "given": given,
            "lengths": lengths_with(given["for"]),
            "silences": silences,
            "held_silences": await self._parts.held_silences(silences),
            "error": None,
        }
