"""How all checks are at once: one state each over all of its places, for lists that show the worst first.

One statement answers for all of them, however many look. Threat: many open pages ask for it after each event.
Mechanism: on one instance one statement runs at a time, and whoever asks the same meanwhile shares the next one, which
begins after all of them have asked; so nobody is shown what was before. Not covered: many different filters at once.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from ringfence import PluginContext
from ringfence_satellite.service import Satellites
from sqlalchemy import TextClause

from ringfence_health_checks.states import standing_rows
from ringfence_health_checks.states.current_states import DISABLED, absent_values

STATES = ("unhealthy", "unknown", "degraded", "healthy", DISABLED)
"""What a check can be, the worst first."""
MOST_SYSTEMS = 200
MOST_NAMED = 5
"""How many checks that are in trouble are named, of each state."""
LONG_SECONDS = 600.0
"""How long a check is unknown before that needs anybody's attention."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How one check is: of its places, how many are how; since when the worst of them is so, as it has settled.

    `rank` is where its state stands from the worst on; `is_quiet`: nobody wants to be told of what is wrong.
    """

    id: UUID
    name: str
    system: str
    rank: int
    is_quiet: bool
    unhealthy: int
    unknown: int
    degraded: int
    healthy: int
    stale: int
    executed_at: dt.datetime | None
    since: dt.datetime | None

    @property
    def enabled(self) -> bool:
        """Whether it runs at all."""
        return self.state != DISABLED

    @property
    def places(self) -> int:
        """How many places it has."""
        return self.unhealthy + self.unknown + self.degraded + self.healthy

    @property
    def counts(self) -> Sequence[tuple[str, int]]:
        """The states of its places, with how many are so, the worst first."""
        told = (self.unhealthy, self.unknown, self.degraded, self.healthy)
        return [(state, count) for state, count in zip(STATES, told, strict=False) if count]

    @property
    def state(self) -> str:
        """The worst state of a place; unknown where there is none."""
        return STATES[self.rank]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which checks a list is of: those with all the words in their name or system, in a state, of a system, somewhere.

    `after`: from where on, by rank and name.
    """

    words: tuple[str, ...] = ()
    state: str | None = None
    system: str | None = None
    place: str | None = None
    label: str | None = None
    after: tuple[int, str] | None = None


@dataclass(frozen=True, slots=True)
class WorstPlace:
    """The place of a check that is worst off, and of those the one heard of last; and what its newest result says."""

    ran_on: str
    message: str


@dataclass(frozen=True, slots=True)
class Listed:
    """Some checks, each with its worst place if it has one; how many such there are; and the systems to choose from.

    `seen` is another text once any check, or how it is, would be shown otherwise.
    """

    checks: Sequence[tuple[Standing, WorstPlace | None]]
    found: int
    seen: str
    systems: Sequence[str]


@dataclass(frozen=True, slots=True)
class Group:
    """All checks that are in one state, and that somebody should see to, or not: how many, and how their places are.

    `quiet` counts the checks of which nobody wants to be told; `first` are the first by name, if they are in trouble.
    """

    rank: int
    troubles: bool
    checks: int
    quiet: int
    unhealthy: int
    unknown: int
    degraded: int
    healthy: int
    stale: int
    first: list[Standing] = field(default_factory=list)

    @property
    def state(self) -> str:
        """That of its checks."""
        return STATES[self.rank]


class Overview:
    """Answers how all checks are."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        self._next: dict[object, asyncio.Future[Any]] = {}
        self._turn = asyncio.Lock()

    async def listed(self, wanted: Wanted, *, limit: int) -> Listed:
        """So many checks, the worst first, and by name; with a place or a label, those there, as they are there."""

        async def read() -> Listed:
            return await self._listed(wanted, limit)

        found: Listed = await self._shared((wanted, limit), read)
        return found

    async def seen(self) -> str:
        """See `Listed`."""

        async def read() -> str:
            ((summed,),) = await self._rows(standing_rows.of_all(), {})
            return _short(summed)

        found: str = await self._shared("seen", read)
        return found

    async def groups(self) -> Sequence[Group]:
        """All checks by their states, the worst first, and by whether somebody should see to them."""
        found: Sequence[Group] = await self._shared("groups", self._groups)
        return found

    async def _listed(self, wanted: Wanted, limit: int) -> Listed:
        filters: dict[str, Any] = {
            "words": list(wanted.words) or None,
            "rank": None if wanted.state is None else STATES.index(wanted.state),
            "system": wanted.system,
        }
        filters = {name: value for name, value in filters.items() if value is not None}
        places = {
            name: value
            for name, value in (("place", wanted.place), ("label", wanted.label))
            if value is not None
        }
        begin = {} if wanted.after is None else {"after_rank": wanted.after[0], "after_name": wanted.after[1]}
        statement = standing_rows.of_a_page(frozenset(places), frozenset(filters), goes_on=bool(begin))
        rows = await self._rows(
            statement, {**filters, **places, **begin, "limit": limit, "most_systems": MOST_SYSTEMS}
        )
        checks = [
            (_standing(row), row.ran_on and WorstPlace(row.ran_on, row.message))
            for row in rows
            if row.id is not None
        ]
        return Listed(checks, rows[0].found, _short(rows[0].seen), rows[0].systems)

    async def _groups(self) -> Sequence[Group]:
        found: dict[tuple[int, bool], Group] = {}
        values = {"named": MOST_NAMED, "long": LONG_SECONDS}
        for row in await self._rows(standing_rows.of_groups(), values):
            rank, troubles, *numbers = row[:9]
            group = found.setdefault((rank, troubles), Group(rank, troubles, *numbers))
            if row.id is not None:
                group.first.append(_standing(row))
        return list(found.values())

    async def _rows(self, statement: TextClause, values: dict[str, Any]) -> Sequence[Any]:
        presence = await self._context.services.get(Satellites).presence()
        values["absent"] = absent_values(presence.absent)["absent"]
        async with self._context.sessions() as session:
            return (await session.execute(statement, values)).all()

    async def _shared(self, key: object, read: Callable[[], Awaitable[Any]]) -> Any:
        waiting = self._next.get(key)
        if waiting is None:
            waiting = self._next[key] = asyncio.ensure_future(self._read(key, read))
            # Where everybody has given up, nobody else takes its error.
            waiting.add_done_callback(lambda done: done.cancelled() or done.exception())
        # Whoever gives up takes nothing from those who wait for the same.
        return await asyncio.shield(waiting)

    async def _read(self, key: object, read: Callable[[], Awaitable[Any]]) -> Any:
        try:
            async with self._turn:
                self._next.pop(key, None)
                return await read()
        finally:
            if self._next.get(key) is asyncio.current_task():
                del self._next[key]


def _standing(row: Any) -> Standing:
    return Standing(
        id=row.id,
        name=row.name,
        system=row.system,
        rank=row.rank,
        is_quiet=row.is_quiet,
        unhealthy=row.unhealthy,
        unknown=row.unknown,
        degraded=row.degraded,
        healthy=row.healthy,
        stale=row.stale,
        executed_at=row.executed_at,
        since=row.since,
    )


def _short(summed: str | None) -> str:
    return hashlib.sha256(str(summed).encode()).hexdigest()[:16]
