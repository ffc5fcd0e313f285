"""The fleet: which instances are there, how far each has read, and which worker groups each of them serves.

Every instance says about once a second that it is there and takes its share of the groups, under one lock, so that
all see the same table. One that is gone (`presence`) loses its groups to the others; one that leaves in good order
gives them up at once. Only the database's clock is used: those of the hosts may differ.

Nothing is *correct* because of this table (see `consume`): when two instances believe that they hold a group, they
get in each other's way, and no more.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from ringfence.eventlog.groups import presence
from ringfence.eventlog.groups.assignment import assign
from ringfence.eventlog.groups.workers import Workers
from ringfence.hooks import AnyGroup, GroupKey, HookBus
from ringfence.redaction import describe
from ringfence.storage.answering import answer_within

TICK_SECONDS = 1.0
STATEMENT_SECONDS = 2.0
"""How long anything in here may wait for the database, or the database for us, while the lock is held."""
TICK_LIMIT_SECONDS = 3.0
"""How long a whole turn may take as seen from here, where a stalled network shows."""

_LIMITS = text("""
    SELECT set_config('lock_timeout', :limit, true), set_config('statement_timeout', :limit, true),
           set_config('idle_in_transaction_session_timeout', :limit, true)
""")
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('ringfence.fleet', 0))")
_SEEN = text("""
    INSERT INTO event_instances (instance, cursor, seen_at, release)
    VALUES (:instance, :cursor, clock_timestamp(), :release)
    ON CONFLICT (instance) DO UPDATE SET cursor = excluded.cursor, seen_at = excluded.seen_at
""")
_START_CURSOR = text("""
    INSERT INTO event_cursors (plugin, worker_group, position, served_at)
    VALUES (:plugin, :name, :position, clock_timestamp()) ON CONFLICT DO NOTHING
""")
_SERVED = text("""
    UPDATE event_cursors SET served_at = clock_timestamp() WHERE (plugin, worker_group) IN (
        SELECT cursor.plugin, cursor.worker_group FROM event_cursors AS cursor
          JOIN event_workers AS worker USING (plugin, worker_group)
         WHERE worker.instance = :instance AND cursor.served_at < clock_timestamp() - interval '1 minute'
           FOR UPDATE OF cursor SKIP LOCKED)
""")
_OFFER = text("""
    INSERT INTO event_workers (instance, plugin, worker_group) VALUES (:instance, :plugin, :name)
    ON CONFLICT DO NOTHING
""")
_WITHDRAW = text("""
    DELETE FROM event_workers WHERE instance = :instance AND plugin = :plugin AND worker_group = :name
""")
_GONE = text(f"DELETE FROM event_workers AS worker WHERE {presence.IS_GONE.format('worker.instance')}")  # noqa: S608
_WORKERS = text("SELECT instance, plugin, worker_group, holds FROM event_workers")
_RELEASE = text("""
    UPDATE event_workers SET holds = false WHERE plugin = :plugin AND worker_group = :name AND holds
""")
_HOLD = text("""
    UPDATE event_workers SET holds = true
     WHERE instance = :instance AND plugin = :plugin AND worker_group = :name
""")
# What a turn finds where nothing is to be done: that costs one exchange, and no lock.
_LOOK = text(f"""
    WITH seen AS ({_SEEN.text})
    SELECT instance, plugin, worker_group, holds, ({presence.IS_GONE.format("worker.instance")}) AS is_gone,
           EXISTS (SELECT FROM event_cursors AS cursor
                    WHERE worker.instance = :instance
                      AND (cursor.plugin, cursor.worker_group) = (worker.plugin, worker.worker_group)
                      AND cursor.served_at < clock_timestamp() - interval '1 minute') AS is_due
      FROM event_workers AS worker
""")  # noqa: S608
_LEAVE = text("DELETE FROM event_instances WHERE instance = :instance")

_log = structlog.get_logger("ringfence.eventlog")


class Membership:
    """This instance's membership: announces it, and keeps `workers` at the groups that fall to it."""

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        *,
        instance: UUID,
        bus: HookBus,
        workers: Workers,
        cursor: Callable[[], int],
        told: Callable[[Exception | None], None] = lambda _: None,
    ) -> None:
        """Be a member, once it runs. `told` hears after each turn what it failed at, or None."""
        self._sessions = sessions
        self._told = told
        self._instance = instance
        self._bus = bus
        self._workers = workers
        self._cursor = cursor
        self._start = cursor()
        self._release = importlib.metadata.version("ringfence")
        self._started: set[GroupKey] = set()
        self._takes_part = True

    async def give_up(self) -> None:
        """Leave all groups to the others from now on, and tell them at once."""
        self._takes_part = False
        try:
            await answer_within(TICK_LIMIT_SECONDS, self.tick(), name="the fleet's table")
        except (SQLAlchemyError, OSError) as error:
            _log.warning(
                "could not tell the fleet that this instance is there; trying again", error=describe(error)
            )

    def set_back(self, position: int) -> None:
        """The log was set back, and is read again from `position`.

        Cursors went back with it, since they are in the same database. One that was not made yet at that time is made
        again, from where nobody has heard anything yet.
        """
        self._start = min(self._start, position)
        self._started = set()

    async def run(self) -> None:
        """Stay a member until cancelled; then leave."""
        missed = 0
        try:
            while True:
                try:
                    await answer_within(TICK_LIMIT_SECONDS, self.tick(), name="the fleet's table")
                    missed = 0
                    self._told(None)
                except (SQLAlchemyError, OSError) as error:
                    missed += 1
                    self._told(error)
                    _log.warning("cannot read or write the fleet's table", error=describe(error))
                    if missed * TICK_SECONDS >= presence.GONE_SECONDS:
                        self._workers.hold(())
                await asyncio.sleep(TICK_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311  (not for secrets)
        finally:
            self._workers.hold(())
            await self._leave()

    async def tick(self) -> None:
        """Say that this instance is there, and take or give up groups. Raises what the database raises."""
        offered = self._bus.groups() if self._takes_part else {}
        mine = await self._unchanged(set(offered))
        if mine is None:
            mine = await self._take_turn(offered)
        self._workers.hold([group for key, group in offered.items() if key in mine])

    async def _unchanged(self, offered: set[GroupKey]) -> set[GroupKey] | None:
        """Say that this instance is there; the groups that it holds, if all is as it should be, or None.

        Without the lock somebody may be changing the table at this moment: that is seen at the next turn.
        """
        if not offered <= self._started:
            return None
        async with self._sessions.begin() as session:
            # A statement by itself: BEGIN and COMMIT would be exchanges of their own.
            await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
            rows = await session.execute(
                _LOOK,
                {**self._seen(), "gone": presence.GONE_SECONDS},
            )
            workers = rows.all()
        if any(row.is_gone or row.is_due for row in workers):
            return None
        table = {(GroupKey(row.plugin, row.worker_group), row.instance): row.holds for row in workers}
        if {group for group, instance in table if instance == self._instance} != offered:
            return None
        assigned, holders = _assigned(table)
        return (
            {group for group, one in holders.items() if one == self._instance}
            if assigned == holders
            else None
        )

    async def _take_turn(self, offered: Mapping[GroupKey, AnyGroup]) -> set[GroupKey]:
        """Bring the table up to date under the lock; answers the groups that fall to this instance."""
        # Kept hold of, for the log may be set back meanwhile: what was started then does not count.
        started = self._started
        async with self._sessions.begin() as session:
            await self._limit(session)
            await session.execute(_LOCK)
            await session.execute(_SEEN, self._seen())
            await session.execute(_GONE, {"gone": presence.GONE_SECONDS})
            table = await self._offer(session, set(offered))
            mine = await self._settle(session, table)
            await session.execute(_SERVED, {"instance": self._instance})
        started |= set(offered)
        return mine

    async def _offer(
        self, session: AsyncSession, offered: set[GroupKey]
    ) -> dict[tuple[GroupKey, UUID], bool]:
        """Bring this instance's rows up to date; answers everybody's: who could serve what, and whether they do."""
        rows = await session.execute(_WORKERS)
        table = {(GroupKey(row.plugin, row.worker_group), row.instance): row.holds for row in rows}
        known = {group for group, instance in table if instance == self._instance}
        for group in sorted(offered - self._started):
            # From where this instance began to listen, so that a group also gets what its plugin emits at the start.
            await session.execute(_START_CURSOR, self._names(group) | {"position": self._start})
        for group in sorted(offered - known):
            await session.execute(_OFFER, self._names(group) | {"instance": self._instance})
            table[group, self._instance] = False
        for group in sorted(known - offered):
            await session.execute(_WITHDRAW, self._names(group) | {"instance": self._instance})
            del table[group, self._instance]
        return table

    async def _settle(self, session: AsyncSession, table: dict[tuple[GroupKey, UUID], bool]) -> set[GroupKey]:
        """Write down who serves what from now on; answers the groups that fall to this instance."""
        assigned, holders = _assigned(table)
        for group, instance in assigned.items():
            if holders.get(group) != instance:
                await session.execute(_RELEASE, self._names(group))
                await session.execute(_HOLD, self._names(group) | {"instance": instance})
        return {group for group, instance in assigned.items() if instance == self._instance}

    def _seen(self) -> dict[str, object]:
        return {"instance": self._instance, "cursor": self._cursor(), "release": self._release}

    async def _leave(self) -> None:
        try:
            await answer_within(STATEMENT_SECONDS, self._delete(), name="the fleet's table")
        except (SQLAlchemyError, OSError) as error:
            _log.warning(
                "could not tell the fleet that this instance leaves; the others will notice",
                error=describe(error),
            )

    async def _delete(self) -> None:
        async with self._sessions.begin() as session:
            await self._limit(session)
            await session.execute(_LEAVE, {"instance": self._instance})

    @staticmethod
    async def _limit(session: AsyncSession) -> None:
        await session.execute(_LIMITS, {"limit": f"{STATEMENT_SECONDS * 1000:.0f}"})

    @staticmethod
    def _names(group: GroupKey) -> dict[str, object]:
        return {"plugin": group.plugin, "name": group.name}


def _assigned(
    table: Mapping[tuple[GroupKey, UUID], bool],
) -> tuple[dict[GroupKey, UUID], dict[GroupKey, UUID]]:
    """Who is to serve each group, and who does: by who could, and whether they do."""
    candidates: defaultdict[GroupKey, set[UUID]] = defaultdict(set)
    for group, instance in table:
        candidates[group].add(instance)
    holders = {group: instance for (group, instance), holds in table.items() if holds}
    return assign(candidates, holders), holders
