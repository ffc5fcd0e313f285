"""How the host itself stands: what of it needs somebody, and its numbers."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence.eventlog.groups import standing
from ringfence.eventlog.search import positions_at
from ringfence.pages.declared import Attention, Count, View
from ringfence.plugins.lifecycle import LoadedPlugin
from ringfence.plugins.runtime import Runtime
from ringfence.web.event_routes import MANAGE_EVENTS, READ_EVENTS
from ringfence.web.host_routes import READ_INSTANCE, READ_PLUGINS
from ringfence.web.job_routes import READ_JOBS

MOST_COUNTED = 1000
"""Beyond that it is no matter how many there are, and the database need not count them."""
HOUR = dt.timedelta(hours=1)
POINTS = 12
LOST_SECONDS = 15 * 60.0
"""For how long it is told that an instance was lost: one that was started anew in its place has another id."""
LAGGING_SECONDS = 10.0
REMEMBERED_SECONDS = 10.0
"""How old the numbers of the last hour may be."""
MOST_NAMED = 5

_TROUBLE = text("""
    SELECT (SELECT count(*) FROM (SELECT FROM jobs WHERE status = 'failed' LIMIT :most) AS counted) AS failed_jobs,
           (SELECT count(*) FROM (SELECT FROM failed_events LIMIT :most) AS counted) AS failed_events,
           (SELECT count(*) FROM (SELECT FROM set_aside LIMIT :most) AS counted) AS set_aside,
           ARRAY(SELECT stream FROM event_anchors WHERE told IS NOT NULL ORDER BY stream LIMIT :named) AS tampered
""")
_JOBS = text("""
    SELECT floor(extract(epoch FROM ended_at - :since) * :points / 3600)::integer AS point, count(*) AS number
      FROM jobs WHERE ended_at >= :since GROUP BY 1
""")


class Standing:
    """What the overview shows of the host."""

    def __init__(self, runtime: Runtime, plugins: Sequence[LoadedPlugin]) -> None:
        self._runtime = runtime
        self._plugins = plugins
        self._hour: tuple[float, list[int], list[int]] | None = None
        self._counting = asyncio.Lock()

    async def attention(self, view: View) -> Sequence[Attention]:
        """What needs somebody, as far as the viewer may see it."""
        async with self._runtime.database.sessions() as session:
            found = (await session.execute(_TROUBLE, {"most": MOST_COUNTED, "named": MOST_NAMED})).one()
            failing = await standing.groups(session, failing=True) if view.may(READ_PLUGINS) else []
        lines = [*self._here(view), *_of_instances(await view.once(self._instances))]
        lines += [
            Attention(
                f"The worker group {one.name} of {one.plugin} has begun {_many(one.attempts, 'time')} with an event.",
                f"/plugins/{one.plugin}",
                "warn",
            )
            for one in failing
        ]
        if view.may(READ_JOBS) and found.failed_jobs:
            has = "has" if found.failed_jobs == 1 else "have"
            lines.append(
                Attention(f"{_bounded(found.failed_jobs, 'job')} {has} failed.", "/jobs?status=failed")
            )
        if view.may(MANAGE_EVENTS):
            if found.failed_events:
                was = "was" if found.failed_events == 1 else "were"
                words = f"{_bounded(found.failed_events, 'event')} {was} given up after failing."
                lines.append(Attention(words, "/events/failed"))
            if found.set_aside:
                was = "was" if found.set_aside == 1 else "were"
                words = f"{_bounded(found.set_aside, 'thing')} could not be written, and {was} set aside."
                lines.append(Attention(words, "/events/failed", "warn"))
        if view.may(READ_EVENTS):
            lines += [
                Attention(
                    f"The history of {stream} does not say any more what was written.",
                    "/events?hook=event-log-tampered",
                    "bad",
                    90,
                )
                for stream in found.tampered
            ]
        return lines

    def _here(self, view: View) -> Iterator[Attention]:
        """What this instance knows of itself."""
        runtime = self._runtime
        place = "/this-host" if view.may(READ_INSTANCE) else None
        if runtime.database.trouble:
            yield Attention(f"The database cannot be written: {runtime.database.trouble}.", place, "bad", 100)
        if not runtime.tailer.live:
            yield Attention(
                f"This instance does not follow the event log: {runtime.tailer.error or 'it is behind'}.",
                place,
                "bad",
                90,
            )
        if runtime.drain.began:
            yield Attention("This instance is stopping: it takes nothing new.", place, "warn", 80)
        for name, error in list(runtime.tasks.failures.items())[:MOST_NAMED]:
            yield Attention(f"The task {name} has ended, and does not run: {error}.", place, "bad", 80)
        for name, restarted in list(runtime.tasks.restarts.items())[:MOST_NAMED]:
            if view.now - restarted.at < HOUR and name not in runtime.tasks.failures:
                words = f"The task {name} has failed {_many(restarted.times, 'time')} and was started again."
                yield Attention(words, place, "warn", 40)
        if not view.may(READ_PLUGINS):
            return
        for one in self._plugins:
            if one.error is not None:
                yield Attention(
                    f"The plugin {one.info.id} is left out.", f"/plugins/{one.info.id}", "bad", 70
                )
        for plugin, waiting in runtime.delivery.lanes.behind.items():
            words = f"The plugin {plugin} is slow: {_many(waiting, 'event')} wait for it."
            yield Attention(words, _of_plugin(plugin), "warn", 60)
        for plugin in runtime.delivery.missed:
            words = f"A listener of the plugin {plugin} has failed, so that it has missed an event."
            yield Attention(words, _of_plugin(plugin), "warn", 60)
        recent = [one for one in list(runtime.hold_ups) if view.now - one.at < HOUR]
        if recent:
            longest = max(recent, key=lambda one: one.seconds)
            who = longest.by.get("plugin", "a task of the host")
            yield Attention(
                f"The event loop was held up {_many(len(recent), 'time')} in the last hour, for up to "
                f"{longest.seconds:g} s, by {who}.",
                place,
                "warn",
                50,
            )

    async def counts(self, view: View) -> Sequence[Count]:
        """The host's numbers, as far as the viewer may see them."""
        instances = await view.once(self._instances)
        events, jobs = await self._last_hour()
        found = []
        if view.may(READ_EVENTS):
            found.append(
                Count("events in the last hour", sum(events), to="/events", last_hour=events, weight=20)
            )
        if view.may(READ_JOBS):
            found.append(
                Count("jobs ended in the last hour", sum(jobs), to="/jobs", last_hour=jobs, weight=20)
            )
        if view.may(READ_PLUGINS):
            found.append(Count("plugins", sum(one.alive for one in self._plugins), to="/plugins", weight=10))
        there = sum(not one.gone for one in instances)
        found.append(
            Count("instances", there, to="/this-host" if view.may(READ_INSTANCE) else None, weight=10)
        )
        return found

    async def _instances(self, _: View) -> Sequence[standing.InstanceStanding]:
        async with self._runtime.database.sessions() as session:
            return await standing.instances(session, within_seconds=LOST_SECONDS)

    async def _last_hour(self) -> tuple[list[int], list[int]]:
        """Events that were appended and jobs that ended, in each twelfth of the last hour.

        Events are counted by their positions: a transaction that was rolled back has left a gap, and counts too.
        """
        async with self._counting:
            now = asyncio.get_running_loop().time()
            if self._hour is None or now - self._hour[0] >= REMEMBERED_SECONDS:
                async with self._runtime.database.sessions() as session:
                    self._hour = (now, *(await _count(session)))
            return self._hour[1], self._hour[2]


async def _count(session: AsyncSession) -> tuple[list[int], list[int]]:
    # All times are the database's: hosts' clocks differ.
    now: dt.datetime = (await session.execute(text("SELECT clock_timestamp()"))).scalar_one()
    since = now - HOUR
    edges = await positions_at(session, [since + HOUR * point / POINTS for point in range(POINTS + 1)])
    rows = await session.execute(_JOBS, {"since": since, "points": POINTS})
    return [after - before for before, after in itertools.pairwise(edges)], _filled(rows.all())


def _filled(rows: Sequence[Any]) -> list[int]:
    found = [0] * POINTS
    for row in rows:
        found[min(row.point, POINTS - 1)] += int(row.number)
    return found


def _of_instances(instances: Sequence[standing.InstanceStanding]) -> Iterator[Attention]:
    for one in instances[:MOST_NAMED]:
        if one.gone:
            words = f"The instance {one.instance} was lost: it was killed, has crashed, or was cut off."
            yield Attention(words, None, "warn", 30)
        elif one.lag_seconds > LAGGING_SECONDS:
            words = f"The instance {one.instance} is {one.lag_seconds:.0f} s behind the event log."
            yield Attention(words, None, "bad", 80)


def _of_plugin(plugin: str) -> str | None:
    return None if plugin == "host" else f"/plugins/{plugin}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _bounded(count: int, what: str) -> str:
    """How many there are, where nobody has counted beyond `MOST_COUNTED`."""
    return f"{count} or more {what}s" if count >= MOST_COUNTED else _many(count, what)
