"""The panel on the policy's page that names what checks were refused on the network, for one click into the form."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from ringfence import AccessRule
from ringfence.pages import Panel, View

from ringfence_health_checks.destinations.suggesting import Suggestions

HOURS = 24
MOST_SHOWN = 20
MOST_ASKERS = 5


class SuggestionsPanel:
    """The panel."""

    def __init__(self, suggestions: Suggestions, read: AccessRule) -> None:
        self._suggestions = suggestions
        self._read = read

    def panel(self) -> Panel:
        """What is declared."""
        return Panel(
            name="suggestions",
            on="/policy",
            title="Refused on the network",
            template="suggestions.html",
            show=self.show,
            rule=self._read,
            order=20,
            live=("sandbox-policy-changed",),
        )

    async def show(self, view: View) -> Mapping[str, Any] | None:
        """What was refused in the last day and the policy does not allow by now, the most tried first."""
        if not view.principal.holds(self._read.name):
            return None
        found = await self._suggestions.since(view.now - dt.timedelta(hours=HOURS))
        return {
            "hours": HOURS,
            "entries": [
                {
                    "entry": one.entry,
                    "tries": one.tries,
                    "guessed": one.guessed,
                    "askers": one.askers[:MOST_ASKERS],
                    "more": len(one.askers) - MOST_ASKERS,
                    "last": max(asker.last_at for asker in one.askers),
                }
                for one in found.allow[:MOST_SHOWN]
            ],
            "more": len(found.allow) - MOST_SHOWN,
            "unfit": found.unfit[:MOST_SHOWN],
        }
