"""Takes events in: what each is to the routes becomes what channels have yet to be told, in one transaction.

The worker group of one instance does this, one event after another, so what happens is told in the order of the log.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import structlog
from ringfence import AnyEvent, PluginContext
from ringfence.expressions import ExpressionError
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_notifications.channels.channel import Channel
from ringfence_notifications.channels.channels import Channels
from ringfence_notifications.deciding import Fact, Phase, Telling, Timing, Why, taken
from ringfence_notifications.hooks import IncidentsChanged, incidents_changed
from ringfence_notifications.incidents import table
from ringfence_notifications.incidents.suppressed import EVERYBODY, Counts, Reason, count
from ringfence_notifications.incidents.table import StoredTelling
from ringfence_notifications.incidents.timing import timing_of
from ringfence_notifications.jobs import have_composed
from ringfence_notifications.routing.compiled import Matched
from ringfence_notifications.routing.routes import KnownRoute, Routes

MOST_TOLD = 100
"""How many incidents an event names that tells of changed ones."""
_log = structlog.get_logger("ringfence.notifications")


class Taking:
    """Handles the events of all hooks that routes look at."""

    def __init__(self, context: PluginContext, channels: Channels, routes: Routes) -> None:
        self._context = context
        self._channels = channels
        self._routes = routes

    def is_wanted(self, hook: str) -> bool:
        """Whether a route looks at events of this hook. Asked about hooks by the host, from memory."""
        return self._routes.looks_at(hook)

    async def on_event(self, event: AnyEvent, session: AsyncSession) -> None:
        """Take an event in."""
        counts, changed = Counts(), list[int]()
        looking = [
            known
            for known in (await self._routes.all()).values()
            if known.route.enabled and event.hook in known.route.hooks
        ]
        # Expressions are bounded, but there may be many of them.
        for known, matches in await asyncio.to_thread(_judged, looking, event):
            if isinstance(matches, ExpressionError):
                _log.warning(
                    "a route cannot judge an event",
                    route=known.route.name,
                    hook=event.hook,
                    error=str(matches),
                )
                counts[Reason(EVERYBODY, known.route.name, Why.UNREADABLE)] += 1
                continue
            for matched in matches:
                await self._take(session, matched, counts, changed)
        await count(session, counts)
        if changed:
            fact = IncidentsChanged(incidents=tuple(changed[:MOST_TOLD]))
            await self._context.emit_hook(incidents_changed, fact, session=session)

    async def _take(
        self, session: AsyncSession, matched: Matched, counts: Counts, changed: list[int]
    ) -> None:
        route, fact = matched.route, matched.fact
        if fact.phase is Phase.CLEARED:
            if ended := await table.end(session, route.name, matched.key):
                changed += ended
                stored = await table.of_incidents(session, ended)
                await self.move(session, route.name, stored, fact, timing_of(route), counts)
            return
        key = [part for part in matched.key if part is not None]
        incident, is_new = await table.begin(session, route.name, key, fact)
        if is_new:
            changed.append(incident)
        wanting = self._wanting((await self._channels.all()).values(), matched, counts)
        known = {one.channel: one for one in await table.of_incidents(session, [incident])}
        stored = [
            replace(known[name], group=matched.group)
            if name in known
            else StoredTelling(name, incident, route.name, matched.group, None)
            for name in wanting
        ]
        await self.move(session, route.name, stored, fact, timing_of(route), counts)

    def _wanting(self, channels: Iterable[Channel], matched: Matched, counts: Counts) -> Sequence[str]:
        """Who is to be told."""
        route = matched.route
        named = [one for one in channels if route.channels is None or one.name in route.channels]
        on = [one for one in named if one.settings.enabled]
        if not on:
            counts[Reason(EVERYBODY, route.name, Why.NO_CHANNEL)] += 1
        wanting = [one.name for one in on if matched.fact.severity.rank >= one.settings.at_least.rank]
        for one in on:
            if one.name not in wanting:
                counts[Reason(one.name, route.name, Why.LESS_SEVERE)] += 1
        return wanting

    async def move(
        self,
        session: AsyncSession,
        route: str,
        stored: Sequence[StoredTelling],
        fact: Fact,
        timing: Timing,
        counts: Counts,
    ) -> None:
        """Move tellings by what happened, and have the messages made when they are due."""
        if not stored:
            return
        now = await table.clock(session)
        by_group: dict[str, Mapping[str, dt.datetime]] = {}
        moved: list[StoredTelling] = []
        look_at: dict[str, dt.datetime] = {}
        for one in stored:
            if one.group not in by_group:
                names = {other.channel for other in stored if other.group == one.group}
                by_group[one.group] = await table.group_due(session, names, route, one.group, now)
            group_due = by_group[one.group].get(one.channel)
            after, lost = taken(one.telling, fact, timing, now, group_due=group_due)
            if lost is not None:
                counts[Reason(one.channel, route, lost.why)] += lost.events
            if after is None or after == one.telling:
                continue
            moved.append(replace(one, telling=after))
            if _is_sooner(after, one.telling, group_due):
                assert after.due_at is not None
                look_at[one.channel] = min(after.due_at, look_at.get(one.channel, after.due_at))
        await table.write(session, moved)
        for channel, at in sorted(look_at.items()):
            await have_composed(self._context, session, channel, at)


def _judged(
    looking: Iterable[KnownRoute], event: AnyEvent
) -> list[tuple[KnownRoute, Sequence[Matched] | ExpressionError]]:
    """What the event is to each of these routes, or why that cannot be said."""
    found: list[tuple[KnownRoute, Sequence[Matched] | ExpressionError]] = []
    for known in looking:
        try:
            found.append((known, known.compiled.matches(event)))
        except ExpressionError as error:
            found.append((known, error))
    return found


def _is_sooner(after: Telling, before: Telling | None, group_due: dt.datetime | None) -> bool:
    """Whether nobody looks at it in time yet."""
    return (
        after.due_at is not None
        and after.due_at != group_due
        and (before is None or before.due_at is None or after.due_at < before.due_at)
    )
