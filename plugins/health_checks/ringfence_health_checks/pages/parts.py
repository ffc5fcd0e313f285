"""What the pages of checks are made from: the services behind the routes, and who may what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from pydantic import ValidationError
from ringfence import AccessRule, PluginContext
from ringfence.declaring import Held, held, held_among
from ringfence.pages import View
from ringfence.refusals import in_words
from ringfence.web import Problem

from ringfence_health_checks.definitions.checks import KIND, Checks, UnreadableCheckError
from ringfence_health_checks.definitions.definition import CORE
from ringfence_health_checks.results.history import History
from ringfence_health_checks.results.results import Results
from ringfence_health_checks.routes.place_names import Names
from ringfence_health_checks.running.changes import Changes
from ringfence_health_checks.running.manual_runs import ManualRuns
from ringfence_health_checks.running.tries import Tries
from ringfence_health_checks.silences.asked import AskedSilences
from ringfence_health_checks.silences.silences import KIND as SILENCE
from ringfence_health_checks.silences.silences import Silence
from ringfence_health_checks.states.current_states import States
from ringfence_health_checks.states.overview import Overview

KINDS: Mapping[str, str] = {
    "healthy": "good",
    "degraded": "warn",
    "unhealthy": "bad",
    "unknown": "warn",
    "disabled": "off",
}
"""How each state is coloured."""
_CALLED = {"forSeconds": "The duration", "for_seconds": "The duration", "reason": "The reason"}
"""What people call the fields of a silence."""
HOOKS = ("health-check-changed", "health-state-changed", "health-silence-changed")
"""After which events pages of checks are made anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The services, and the rules."""

    context: PluginContext
    checks: Checks
    changes: Changes
    results: Results
    history: History
    runs: ManualRuns
    tries: Tries
    names: Names
    states: States
    overview: Overview
    silences: AskedSilences
    manage: AccessRule
    read: AccessRule
    run: AccessRule

    def rights(self, view: View) -> dict[str, bool]:
        """What of the page's buttons are shown."""
        return {
            "may_manage": view.principal.holds(self.manage.name),
            "may_run": view.principal.holds(self.run.name),
        }

    async def held(self, view: View) -> Held | None:
        """Whether the check that the path names is changed elsewhere alone."""
        try:
            check = await self.checks.one(UUID(view.parameters["id"]))
        except (KeyError, ValueError, UnreadableCheckError):
            return None
        return None if check is None else await held(self.context, KIND, check.definition.name)

    async def held_silences(self, silences: Iterable[Silence]) -> Mapping[str, Held]:
        """Those of some silences that are changed elsewhere alone, by their ids."""
        return await held_among(self.context, SILENCE, ids=[str(one.id) for one in silences])

    async def place_names(self, view: View, places: set[str]) -> Mapping[str, str]:
        """What places are called, of those that the viewer may know; the others by their ids."""
        return {**{one: one for one in places}, **await self.names.of(places, view.principal), CORE: "core"}


def refused(error: ValidationError) -> str:
    """Why a silence cannot be, to be read above the form that asked for it."""
    found = error.errors(include_url=False, include_input=False)
    return " ".join(f"{_called(one['loc'])} {in_words(one)}." for one in found)


def _called(place: tuple[int | str, ...]) -> str:
    return _CALLED.get(str(place[-1]), "The silence") if place else "The silence"


def check_id(view: View) -> UUID:
    """The check that the path names. Raises `Problem`."""
    try:
        return UUID(view.parameters["id"])
    except ValueError as error:
        raise Problem(404, "No such check", detail="there is no check with such an id") from error
