"""Which checks a change of the policy would break: they need more than it allows, or have used what it takes away."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from ringfence import PluginContext
from ringfence.sandbox.policy import Missing, Needs, NeedsError, SandboxPolicy, beyond, governing
from ringfence.sandbox.policy.coverage import Reached
from ringfence_script_packages.service import Fate, ProposedPolicy, Prospect, Prospects
from sqlalchemy import text

from ringfence_health_checks.destinations.entries import entry_of, why_unfit
from ringfence_health_checks.destinations.table import Destinations, Wish
from ringfence_health_checks.destinations.tried import Tried

LAST_DAYS = 7
_CHECKS = text("SELECT id, name, definition -> 'needs' AS needs FROM health_checks_checks ORDER BY name")


class Needing(NamedTuple):
    """A check, and what it says that it needs."""

    id: UUID
    name: str
    needs: Needs | None = None


class CheckPreviewer:
    """Is the checks' `PolicyPreviewer`."""

    def __init__(self, context: PluginContext, destinations: Destinations) -> None:
        self._context = context
        self._destinations = destinations

    async def preview(self, proposed: ProposedPolicy) -> Prospects:
        """What would become of each check."""
        since = dt.datetime.now(dt.UTC) - dt.timedelta(days=LAST_DAYS)
        used: dict[UUID, list[Wish]] = {}
        for wish in await self._destinations.tried(since=since, outcome=Tried.USED):
            used.setdefault(wish.check_id, []).append(wish)
        async with self._context.sessions() as session:
            checks = [_needing(row.id, row.name, row.needs) for row in await session.execute(_CHECKS)]
        expected = await asyncio.to_thread(
            lambda: [expected_of(proposed, check, used.get(check.id, ())) for check in checks]
        )
        return Prospects("check", expected)


def expected_of(proposed: ProposedPolicy, check: Needing, used: Sequence[Wish]) -> Prospect:
    """What would become of a check that has used this. Pure."""
    missing = [f"the policy would lack {one}" for one in _missing(proposed.after, check.needs)]
    had_all = not _missing(proposed.before, check.needs)
    if missing:
        return _prospect(check, Fate.REFUSED, Fate.RUN if had_all else Fate.REFUSED, missing)
    lost = [
        f"network.allow: it has used {entry_of(wish.destination)} in {wish.runs} "
        f"run{'' if wish.runs == 1 else 's'}, last at {wish.last_at:%Y-%m-%d %H:%M} UTC"
        for wish in lost_by(proposed, check.needs, used)
    ]
    return _prospect(check, Fate.CUT_OFF if lost else Fate.RUN, Fate.RUN, lost)


def lost_by(proposed: ProposedPolicy, needs: Needs | None, used: Sequence[Wish]) -> list[Wish]:
    """What was used, could be used now, and could not be used with the change. Pure.

    A name that was opened by a wildcard, or an address by a network, counts as what it is.
    """
    if not used or not proposed.before.enabled or not proposed.after.enabled:
        # Where there is no sandbox nothing is used by its leave, and nothing is lost.
        return []
    before, after = (
        Reached(governing(policy, needs).network) for policy in (proposed.before, proposed.after)
    )
    return [
        wish
        for wish in used
        # Whatever can be pinged has a port that counts.
        if wish.destination.port
        and why_unfit(wish.destination) is None
        and before.covers(entry := entry_of(wish.destination))
        and not after.covers(entry)
    ]


def _missing(policy: SandboxPolicy, needs: Needs | None) -> tuple[Missing, ...]:
    return () if needs is None else beyond(policy, needs)


def _needing(id: UUID, name: str, needs: object) -> Needing:
    try:
        return Needing(id, name, None if needs is None else Needs.parse(needs))
    except NeedsError:  # of a newer release, which knows better
        return Needing(id, name)


def _prospect(check: Needing, fate: Fate, was: Fate, reasons: Sequence[str]) -> Prospect:
    return Prospect(check.name, fate, was, reasons, str(check.id))
