"""Which checks would lose a destination by a change of the policy: one that they have used in the last days."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from ringfence import PluginContext
from ringfence.sandbox.policy.coverage import Reached
from ringfence_script_packages.service import Fate, ProposedPolicy, Prospect, Prospects
from sqlalchemy import text

from ringfence_health_checks.destinations.entries import entry_of, why_unfit
from ringfence_health_checks.destinations.table import Destinations, Wish
from ringfence_health_checks.destinations.tried import Tried

LAST_DAYS = 7
_CHECKS = text("SELECT id, name FROM health_checks_checks ORDER BY name")


class CheckPreviewer:
    """Is the checks' `PolicyPreviewer`."""

    def __init__(self, context: PluginContext, destinations: Destinations) -> None:
        self._context = context
        self._destinations = destinations

    async def preview(self, proposed: ProposedPolicy) -> Prospects:
        """What each check would lose."""
        since = dt.datetime.now(dt.UTC) - dt.timedelta(days=LAST_DAYS)
        used = await self._destinations.tried(since=since, outcome=Tried.USED)
        async with self._context.sessions() as session:
            checks = [(row.id, row.name) for row in await session.execute(_CHECKS)]
        lost = lost_by(proposed, used)
        return Prospects("check", [_prospect(id, name, lost) for id, name in checks])


def lost_by(proposed: ProposedPolicy, used: Iterable[Wish]) -> dict[UUID, list[Wish]]:
    """What was used, could be used now, and could not be used with the change, by check. Pure.

    A name that was opened by a wildcard, or an address by a network, counts as what it is.
    """
    lost: dict[UUID, list[Wish]] = {}
    if not proposed.before.enabled or not proposed.after.enabled:
        # Where there is no sandbox nothing is used by its leave, and nothing is lost.
        return lost
    before, after = Reached(proposed.before.network), Reached(proposed.after.network)
    for wish in used:
        # Whatever can be pinged has a port that counts.
        if not wish.destination.port or why_unfit(wish.destination) is not None:
            continue
        entry = entry_of(wish.destination)
        if before.covers(entry) and not after.covers(entry):
            lost.setdefault(wish.check_id, []).append(wish)
    return lost


def _prospect(id: UUID, name: str, lost: Mapping[UUID, Sequence[Wish]]) -> Prospect:
    wishes = lost.get(id, ())
    if not wishes:
        return Prospect(name, Fate.RUN, Fate.RUN, id=str(id))
    reasons = [
        f"network.allow: it has used {entry_of(wish.destination)} in {wish.runs} "
        f"run{'' if wish.runs == 1 else 's'}, last at {wish.last_at:%Y-%m-%d %H:%M} UTC"
        for wish in wishes
    ]
    return Prospect(name, Fate.CUT_OFF, Fate.RUN, reasons, str(id))
