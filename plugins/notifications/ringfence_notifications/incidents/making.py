"""Makes messages of what a channel is due to be told: one transaction for what is told, and what is to be sent.

The channel's row is locked meanwhile, so its limit holds for the whole fleet. A telling that is moved at the same time
waits for this, or this for it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

from ringfence import PluginContext, RunningJob
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_notifications.channels.channel import ChannelSettings
from ringfence_notifications.deciding import Allowance, Draft, Due, Limits, Telling, Why, compose
from ringfence_notifications.incidents import table
from ringfence_notifications.incidents.suppressed import Counts, Reason, count
from ringfence_notifications.incidents.table import StoredTelling
from ringfence_notifications.incidents.timing import AT_ONCE, DIRECT, timing_of
from ringfence_notifications.jobs import OfChannel, have_composed, have_delivered
from ringfence_notifications.routing.routes import KnownRoute, Routes

BATCH = 2000

# Rows that refer to the channel may be added meanwhile.
_CHANNEL = text("""
    SELECT settings, allowance_left, allowance_at FROM notifications_channels
     WHERE name = :channel FOR NO KEY UPDATE
""")
_USED = text("""
    UPDATE notifications_channels SET allowance_left = :left, allowance_at = :at WHERE name = :channel
""")
_SEND = text("""
    INSERT INTO notifications_messages
        (id, channel, route, kind, severity, title, text, link, held, told, events, next_at)
    VALUES (:id, :channel, :route, :kind, :severity, :title, :text, :link, :held, CAST(:told AS jsonb), :events, :at)
""")


class Making:
    """Does the job."""

    def __init__(self, context: PluginContext, routes: Routes) -> None:
        self._context = context
        self._routes = routes

    async def on_job(self, job: RunningJob[OfChannel], session: AsyncSession) -> None:
        """Make the messages that are due, and have this done again when the next ones are."""
        channel, routes = job.payload.channel, await self._routes.all()
        row = (await session.execute(_CHANNEL, {"channel": channel})).one_or_none()
        if row is None:
            return
        now = await table.clock(session)
        stored = await table.due(session, channel, now, limit=BATCH)
        settings = ChannelSettings.model_validate(row.settings)
        if not settings.enabled:
            await _drop(session, stored)
        elif stored:
            allowance = Allowance.full(settings.per_hour, now)
            if row.allowance_at is not None:
                allowance = Allowance(settings.per_hour, row.allowance_left, row.allowance_at)
                allowance = allowance.limited_to(settings.per_hour)
            quiet = None if settings.quiet is None else settings.quiet.hours()
            made = compose([_due(one, routes) for one in stored], Limits(allowance, quiet), now)
            await table.write(session, _moved(stored, made.tellings))
            await session.execute(
                _USED, {"channel": channel, "left": made.allowance.left, "at": made.allowance.at}
            )
            if made.drafts:
                await session.execute(_SEND, [_row(channel, one) | {"at": now} for one in made.drafts])
                await have_delivered(self._context, session, channel)
        if (next := await table.next_due(session, channel)) is not None:
            await have_composed(self._context, session, channel, next)


def _due(one: StoredTelling, routes: Mapping[str, KnownRoute]) -> Due:
    assert one.telling is not None
    known = routes.get(one.route)
    timing = AT_ONCE if known is None else timing_of(known.route)
    what = known.route.what if known is not None else "messages" if one.route == DIRECT else one.route
    return Due(one.incident, one.telling, one.route, one.group, what, timing)


def _moved(
    stored: Sequence[StoredTelling], tellings: Sequence[tuple[Hashable, Telling]]
) -> list[StoredTelling]:
    after = dict(tellings)
    return [replace(one, telling=after[one.incident]) for one in stored]


def _row(channel: str, draft: Draft) -> dict[str, object]:
    return {
        "id": uuid.uuid4(),
        "channel": channel,
        "route": draft.route,
        "kind": None if draft.kind is None else draft.kind.value,
        "severity": draft.severity.value,
        "title": draft.title,
        "text": draft.text,
        "link": draft.link,
        "held": None if draft.held is None else draft.held.value,
        "told": json.dumps([{"incident": incident, "kind": kind.value} for incident, kind in draft.told]),
        "events": draft.events,
    }


async def _drop(session: AsyncSession, stored: Sequence[StoredTelling]) -> None:
    """A channel that is switched off is told nothing: what it was to be told is counted."""
    counts = Counts()
    dropped = []
    for one in stored:
        assert one.telling is not None
        counts[Reason(one.channel, one.route, Why.SWITCHED_OFF)] += one.telling.events
        silent = replace(
            one.telling, pending=None, due_at=None, held=None, events=0, told=None, flaps=False, changes=()
        )
        dropped.append(replace(one, telling=silent))
    await table.write(session, dropped)
    await count(session, counts)
