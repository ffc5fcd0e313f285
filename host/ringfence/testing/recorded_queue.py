"""The queue of a recorder: what a plugin has enqueued is a list, and nobody does it."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING
from uuid import UUID

from ringfence.jobs import Order, Timetable

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


class RecordedQueue:
    """Notes what is enqueued; what is rolled back is taken away again."""

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.timetables: dict[str, Timetable] = {}
        self._ids: dict[UUID, Order] = {}
        self._of: dict[int, list[Order]] = {}

    async def enqueue(self, session: AsyncSession, order: Order) -> UUID:
        """Note a job, unless one of its kind and `unique` name is noted already."""
        for id, other in self._ids.items():
            if order.unique is not None and (other.kind, other.unique) == (order.kind, order.unique):
                return id
        id = uuid.uuid4()
        self._ids[id] = order
        self.orders.append(order)
        self._of.setdefault(_key(session), []).append(order)
        return id

    async def cancel(self, session: AsyncSession, id: UUID, *, plugin: str | None) -> str | None:
        """Take a job away again."""
        del session, plugin
        order = self._ids.pop(id, None)
        if order is None:
            return None
        self.orders = [one for one in self.orders if one is not order]
        return "waiting"

    async def cancel_waiting(self, session: AsyncSession, kind: str, unique: str) -> bool:
        """Take the job of this kind and name away again."""
        named = (id for id, one in self._ids.items() if (one.kind, one.unique) == (kind, unique))
        id = next(named, None)
        return id is not None and await self.cancel(session, id, plugin=None) is not None

    async def set_timetable(
        self, session: AsyncSession, order: Order, schedule: str, zone: str, *, name: str
    ) -> None:
        """Note a timetable."""
        del session
        self.timetables[name] = Timetable(order.plugin, name, order.job, order.payload, schedule, zone)

    async def remove_timetable(self, session: AsyncSession, plugin: str, name: str) -> bool:
        """Forget a timetable."""
        del session, plugin
        return self.timetables.pop(name, None) is not None

    async def report(self, done: int | None, of: int | None, text: str | None) -> None:
        """Take what a handler tells of its progress."""

    def end(self, session: object, kept: bool) -> None:
        """A transaction has ended: what it enqueued is taken away unless it was `kept`."""
        undone = self._of.pop(_key(session), [])
        if not kept:
            self.orders = [one for one in self.orders if all(one is not other for other in undone)]
            self._ids = {
                id: one for id, one in self._ids.items() if all(one is not other for other in undone)
            }


def _key(session: object) -> int:
    return id(session)
