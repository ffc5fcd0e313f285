"""Which event comes next for a worker group, and how it is handed to the group's handler.

A group of one hook takes the next event of that hook. A group of many takes the next one whose hook it wants, which may
change at any time, with what its plugin has heard of: an automation that was just made wants another hook.

Threat: the group moves past an event because the plugin has not yet heard what makes it want that one; the event is
lost. Mechanism: the group looks no further than the plugin's broadcast listeners on this instance have heard, and only
in the history that they have heard: the event that this instance has read last must still be in the log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence.eventlog.history.trail import Mark
from ringfence.eventlog.record import COLUMNS, EventRecord
from ringfence.hooks import AnyGroup, EventsGroup, HookDirectory, WorkGroup

# A statement of its own, after the cursor's lock: its snapshot shows all that the last holder of the lock has done.
_NEXT = f"""
    SELECT {COLUMNS}, {{last}} AS last,
           (SELECT min(failed.position) FROM failed_events AS failed
             WHERE failed.replay AND failed.plugin = :group_plugin AND failed.worker_group = :name) AS replay
      FROM (SELECT 1) AS one LEFT JOIN (
        SELECT {COLUMNS} FROM events WHERE position > :position AND {{wanted}} ORDER BY position LIMIT 1
    ) AS next ON true
"""  # noqa: S608
_NEXT_OF_ONE = text(_NEXT.format(last="(SELECT max(position) FROM events)", wanted="hook = :hook"))
_NEXT_OF_MANY = text(
    _NEXT.format(
        last="(SELECT max(position) FROM events WHERE position <= :up_to AND :same)",
        wanted="position <= :up_to AND hook <> ALL(CAST(:unwanted AS text[])) AND :same",
    ).replace(":same", "EXISTS (SELECT FROM events WHERE position = :head AND hash = :head_hash)")
)


class Heard(NamedTuple):
    """How far a plugin has heard the log on this instance, and the event that the instance has read last."""

    up_to: int
    head: Mark | None


class Next(NamedTuple):
    """What is next: an event, if there is one, or else where the log ends; and which one is to be replayed first."""

    record: EventRecord | None
    last: int | None
    replay: int | None


class Reading(Protocol):
    """One group's way of reading the log."""

    async def next(self, session: AsyncSession, position: int) -> Next:
        """What comes after `position`. Where there is no event, none up to `last` is for the group."""

    async def handle(self, record: EventRecord, session: AsyncSession) -> None:
        """Hand the event to the handler. Raises what that raises, and `pydantic.ValidationError`."""


class OneHook:
    """Reads the events of one hook."""

    def __init__(self, group: WorkGroup) -> None:
        self._group = group

    async def next(self, session: AsyncSession, position: int) -> Next:
        """See `Reading`."""
        values = {"position": position, "hook": self._group.hook.name}
        return _next((await session.execute(_NEXT_OF_ONE, _names(self._group) | values)).one())

    async def handle(self, record: EventRecord, session: AsyncSession) -> None:
        """See `Reading`."""
        await self._group(record.as_event(self._group.hook), session)


class ManyHooks:
    """Reads the events of all hooks that are wanted."""

    def __init__(self, group: EventsGroup, heard: Callable[[str], Heard], directory: HookDirectory) -> None:
        """`heard` says of a plugin how far it is, `directory` how a payload is read."""
        self._group = group
        self._heard = heard
        self._directory = directory
        self._met: set[str] = set()
        """The names of the hooks that were met in the log."""

    async def next(self, session: AsyncSession, position: int) -> Next:
        """See `Reading`."""
        # Before anything is asked: what is wanted then is known from at least so much of the log.
        up_to, head = self._heard(self._group.plugin)
        values = {"position": position, "up_to": up_to} | _names(self._group)
        values |= (
            {"head": None, "head_hash": None} if head is None else {"head": head[0], "head_hash": head[1]}
        )
        unwanted = {name for name in self._met if not self._group.wants(name)}
        while True:
            found = await session.execute(_NEXT_OF_MANY, values | {"unwanted": sorted(unwanted)})
            next = _next(found.one())
            if next.record is None or next.record.hook in self._met:
                return next
            # The first of its hook: from now on the database passes over those of its kind by itself.
            self._met.add(next.record.hook)
            if self._group.wants(next.record.hook):
                return next
            unwanted.add(next.record.hook)

    async def handle(self, record: EventRecord, session: AsyncSession) -> None:
        """See `Reading`."""
        declared = self._directory.find(record.hook)
        await self._group(record.as_any_event(None if declared is None else declared.hook), session)


def _names(group: AnyGroup) -> dict[str, Any]:
    return {"group_plugin": group.plugin, "name": group.name}


def _next(row: Row[*tuple[Any, ...]]) -> Next:
    *columns, last, replay = row
    return Next(None if columns[0] is None else EventRecord(*columns), last, replay)
