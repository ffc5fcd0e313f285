"""What of the fleet is told elsewhere: what needs attention, how many there are, and what the palette finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from ringfence import PluginContext
from ringfence.pages import Attention, Count, Found, View
from ringfence.web import Problem
from ringfence_script_packages.service import SandboxPolicyService
from sqlalchemy.ext.asyncio import AsyncSession

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


@dataclass(frozen=True, slots=True)
class _Wrong:
    """Something that is wrong with so many satellites, in words for one of them and for several."""

    number: int
    only: Only
    one: str
    several: str
    kind: Literal["bad", "warn"]
    weight: int


@dataclass(frozen=True, slots=True)
class _Fleet:
    """How the satellites stand under the policy's revision, and how many fell silent in each part of the last hour."""

    revision: int
    standing: Standing
    lost: Sequence[int]


class Finding:
    """Looks through the satellites that the viewer may see."""

    def __init__(self, context: PluginContext, rules: FleetRules) -> None:
        self._context = context
        self._rules = rules

    async def attention(self, view: View) -> Sequence[Attention]:
        """Satellites that are offline, were refused, lag behind, or cannot enforce the policy."""
        if not view.may(self._rules.read):
            return ()
        fleet = await view.once(self._look)
        async with self._context.sessions() as session:
            return [
                await self._attention(session, view, fleet.revision, one)
                for one in _told(fleet.standing)
                if one.number
            ]

    async def _attention(self, session: AsyncSession, view: View, revision: int, wrong: _Wrong) -> Attention:
        found = await lists.look_through(
            session, only=wrong.only, revision=revision, reach=self._reach(view), after=None, limit=NAMED
        )
        names = [one.satellite.name for one in found]
        number = wrong.number
        what = f"1 satellite {wrong.one}" if number == 1 else f"{number} satellites {wrong.several}"
        more = f" and {number - len(names)} more" if number > len(names) else ""
        text = f"{what}: {', '.join(names)}{more}."
        return Attention(text, f"/satellites?only={wrong.only}", kind=wrong.kind, weight=wrong.weight)

    async def counts(self, view: View) -> Sequence[Count]:
        """How many there are online and offline."""
        if not view.may(self._rules.read):
            return ()
        fleet = await view.once(self._look)
        return [
            Count("satellites online", fleet.standing.online, to="/satellites?only=online", weight=80),
            Count(
                "satellites offline",
                fleet.standing.offline,
                to="/satellites?only=offline",
                last_hour=fleet.lost,
                weight=80,
            ),
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

    async def _look(self, view: View) -> _Fleet:
        """How it all stands, for what needs attention and for the numbers."""
        revision = (await current_policy(self._context)).revision
        async with self._context.sessions() as session:
            standing = await lists.standing(session, revision, reach=self._reach(view))
            lost = await lists.lost_lately(session, reach=self._reach(view))
        return _Fleet(revision, standing, lost)

    def _reach(self, view: View) -> tuple[frozenset[str], ...] | None:
        return view.principal.reach(self._rules.read.name)


def _told(standing: Standing) -> list[_Wrong]:
    one = "had an agent refused: it used an old token"
    several = "had agents refused: they used old tokens"
    cannot = "cannot enforce the policy"
    return [
        _Wrong(standing.offline, Only.OFFLINE, "is offline", "are offline", "bad", 70),
        _Wrong(standing.lacking, Only.LACKING, cannot, cannot, "bad", 65),
        _Wrong(standing.refused, Only.REFUSED, one, several, "bad", 60),
        _Wrong(
            standing.behind, Only.BEHIND, "is behind on the policy", "are behind on the policy", "warn", 40
        ),
    ]
