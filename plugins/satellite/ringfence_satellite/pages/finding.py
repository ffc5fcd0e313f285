"""What of the fleet is told elsewhere: what needs attention, how many there are, and what the palette finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal
from uuid import UUID

from ringfence import PluginContext
from ringfence.pages import Attention, Count, Found, View
from ringfence.web import Problem
from ringfence_script_packages.service import SandboxPolicyService

from ringfence_satellite.server import lists
from ringfence_satellite.server.lists import Only, Standing
from ringfence_satellite.server.rules import FleetRules

NAMED = 3
FOUND = 10


def id_of(text: str) -> UUID:
    """The id in a path. Raises `Problem`."""
    try:
        return UUID(text)
    except ValueError as error:
        raise Problem(404, detail="There is nothing with such an id.") from error


async def current_policy(context: PluginContext) -> Any:
    """The policy that satellites are to have."""
    return await context.services.get(SandboxPolicyService).current()


class Finding:
    """Looks through the satellites that the viewer may see."""

    def __init__(self, context: PluginContext, rules: FleetRules) -> None:
        self._context = context
        self._rules = rules

    async def attention(self, view: View) -> Sequence[Attention]:
        """Satellites that are offline, were refused, lag behind, or cannot enforce the policy."""
        if not view.may(self._rules.read):
            return ()
        standing = await self._standing(view)
        told: list[tuple[int, Only, str, str, Literal["bad", "warn"], int]] = [
            (standing.offline, Only.OFFLINE, "is offline", "are offline", "bad", 70),
            (
                standing.refused,
                Only.REFUSED,
                "had an agent refused: its token is not the current one",
                "had agents refused: their tokens are not the current ones",
                "bad",
                60,
            ),
            (
                standing.lacking,
                Only.LACKING,
                "cannot enforce the policy",
                "cannot enforce the policy",
                "bad",
                65,
            ),
            (standing.behind, Only.BEHIND, "is behind on the policy", "are behind on the policy", "warn", 40),
        ]
        found = []
        for number, only, one, several, kind, weight in told:
            if number:
                names = await self._names(view, only)
                what = f"1 satellite {one}" if number == 1 else f"{number} satellites {several}"
                more = f" and {number - len(names)} more" if number > len(names) else ""
                text = f"{what}: {', '.join(names)}{more}."
                found.append(Attention(text, f"/satellites?only={only}", kind=kind, weight=weight))
        return found

    async def counts(self, view: View) -> Sequence[Count]:
        """How many there are online and offline."""
        if not view.may(self._rules.read):
            return ()
        standing = await self._standing(view)
        async with self._context.sessions() as session:
            lost = await lists.lost_lately(session, reach=self._reach(view))
        return [
            Count("satellites online", standing.online, to="/satellites?only=online"),
            Count("satellites offline", standing.offline, to="/satellites?only=offline", last_hour=lost),
        ]

    async def find(self, view: View, words: str) -> Sequence[Found]:
        """The satellites whose name, region or labels have these words in them."""
        if not view.may(self._rules.read) or not words.strip():
            return ()
        async with self._context.sessions() as session:
            found = await lists.look_through(
                session,
                search=words.strip()[:200],
                revision=0,
                reach=self._reach(view),
                after=None,
                limit=FOUND,
            )
        return [Found(one.satellite.name, f"/satellites/{one.satellite.id}", "satellite") for one in found]

    async def _standing(self, view: View) -> Standing:
        revision = (await current_policy(self._context)).revision
        async with self._context.sessions() as session:
            return await lists.standing(session, revision, reach=self._reach(view))

    async def _names(self, view: View, only: Only) -> list[str]:
        revision = (await current_policy(self._context)).revision
        async with self._context.sessions() as session:
            found = await lists.look_through(
                session, only=only, revision=revision, reach=self._reach(view), after=None, limit=NAMED
            )
        return [one.satellite.name for one in found]

    def _reach(self, view: View) -> tuple[frozenset[str], ...] | None:
        return view.principal.reach(self._rules.read.name)
