"""The panel on the policy's page that says how far its last change has come, and who lags, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ringfence import PluginContext
from ringfence.pages import Panel, View
from ringfence_script_packages.hooks import sandbox_policy_changed

from ringfence_satellite.hooks import (
    satellite_connected,
    satellite_deleted,
    satellite_disconnected,
    satellite_heartbeat_lost,
    satellite_policy_applied,
    satellite_registered,
)
from ringfence_satellite.server.rollout import rollout_now
from ringfence_satellite.server.rules import FleetRules

MOST_SHOWN = 20
_LIVE = (
    sandbox_policy_changed,
    satellite_registered,
    satellite_connected,
    satellite_disconnected,
    satellite_heartbeat_lost,
    satellite_policy_applied,
    satellite_deleted,
)


class RolloutPanel:
    """The panel, which is made anew whenever a satellite has applied a revision."""

    def __init__(self, context: PluginContext, rules: FleetRules) -> None:
        self._context = context
        self._rules = rules

    def panel(self) -> Panel:
        """What is declared."""
        return Panel(
            name="rollout",
            on="/policy",
            title="Rollout",
            template="rollout.html",
            show=self.show,
            rule=self._rules.read,
            order=10,
            live=tuple(hook.name for hook in _LIVE),
        )

    async def show(self, view: View) -> Mapping[str, Any] | None:
        """The counts of the whole fleet, so that it is for those alone who may see all of it."""
        if not view.principal.holds(self._rules.read.name):
            return None
        rollout = await rollout_now(self._context)
        lagging = [{**one, "why": _why_behind(one)} for one in rollout.lagging[:MOST_SHOWN]]
        lacking = [
            {**one, "why": "; ".join(f"{each['layer']}: {each['reason']}" for each in one["downgrades"])}
            for one in rollout.downgraded[:MOST_SHOWN]
        ]
        behind = rollout.online - rollout.applied
        return {
            "rollout": rollout,
            "lagging": lagging,
            "more_lagging": behind - len(lagging),
            "lacking": lacking,
            "more_lacking": rollout.downgraded_count - len(lacking),
            "away": rollout.offline + rollout.never,
        }


def _why_behind(one: Mapping[str, Any]) -> str:
    if one["appliedUnknown"]:
        return (
            f"It uses revision {one['appliedRevision']}, which this host's database does not have, because it was "
            "set back: start its agent again."
        )
    if one["appliedRevision"] is None:
        return "It has not applied any revision yet."
    return f"It still uses revision {one['appliedRevision']}."
