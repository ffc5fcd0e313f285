"""The events that a worker group has given up on: what failed and why, and how it is tried again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_LIST = text("""
    SELECT failed.id, failed.plugin, failed.worker_group, failed.attempts, failed.error, failed.failed_at,
           failed.replay, events.position, events.hook, events.stream, events.version, events.occurred_at
      FROM failed_events AS failed JOIN events USING (position)
     WHERE failed.id > :after ORDER BY failed.id LIMIT :limit
""")
_KNOWN = text("SELECT id FROM failed_events WHERE id = ANY(:ids) OR :everything ORDER BY id FOR UPDATE")
_REPLAY = text("UPDATE failed_events SET replay = true WHERE id = ANY(:ids)")


class UnknownFailureError(LookupError):
    """There are no failed events with these ids; they may have been replayed since."""

    def __init__(self, ids: list[int]) -> None:
        listed = ", ".join(map(str, ids))
        super().__init__(
            f"no failed event has the id {listed}: it may have been replayed already; nothing is replayed"
        )


@dataclass(frozen=True, slots=True)
class FailedEvent:
    """An event that was set aside. `replay` tells that it is waiting for its group to try it once more."""

    id: int
    plugin: str
    worker_group: str
    attempts: int
    error: str
    failed_at: dt.datetime
    replay: bool
    position: int
    hook: str
    stream: str
    version: int
    occurred_at: dt.datetime


async def failed_events(session: AsyncSession, *, after: int = 0, limit: int = 500) -> list[FailedEvent]:
    """What has been set aside, oldest first; only what has a higher id than `after`."""
    return [FailedEvent(*row) for row in await session.execute(_LIST, {"after": after, "limit": limit})]


async def request_replay(session: AsyncSession, ids: Collection[int] | None) -> list[int]:
    """Have these failed events (None: all of them) tried once more each; answers their ids.

    The group does so before it goes on: a replayed event comes late, after events that followed it. If it fails again
    it stays where it is, with the new error. Raises `UnknownFailureError`; nothing is replayed then.
    """
    values = {"ids": sorted(ids or ()), "everything": ids is None}
    known = [int(row.id) for row in await session.execute(_KNOWN, values)]
    if missing := sorted(set(ids or ()) - set(known)):
        raise UnknownFailureError(missing)
    await session.execute(_REPLAY, {"ids": known})
    return known
