"""Runs that wait for others of their key begin here, as far as their mode allows it."""

from __future__ import annotations

from ringfence import PluginContext
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_automations.runs.asking import Asking
from ringfence_automations.runs.deciding.admission import to_begin
from ringfence_automations.runs.jobs import TELL_STARTED, RunRef
from ringfence_automations.runs.tables import runs_table

BEGIN_AT_ONCE = 100
"""How many of those that wait are begun in one transaction."""


class Admitting:
    """Has those begin that wait."""

    def __init__(self, context: PluginContext, asking: Asking) -> None:
        self._context = context
        self._asking = asking

    async def admit(self, session: AsyncSession, automation: str, key: str) -> None:
        """Begin those of a key that wait, as far as there is room."""
        await runs_table.lock_key(session, automation, key)
        await self.admit_next(session, automation, key)

    async def admit_next(self, session: AsyncSession, automation: str, key: str) -> None:
        """The same, where the key is locked already."""
        there = await runs_table.under_way(session, automation, key)
        running, left = there.running, min(there.waiting, BEGIN_AT_ONCE)
        while left > 0:
            # Few at first: mostly there is room for one, and the rows of the others are locked for nothing.
            limit = min(left, max(1, running - there.running) * 2)
            waiting = await runs_table.waiting(session, automation, key, limit=limit)
            count = to_begin(running, [one for _, one in waiting])
            for run, _ in waiting[:count]:
                await runs_table.begin(session, run)
                await self._context.enqueue(TELL_STARTED, RunRef(run=run), session=session, key=str(run))
                await self._asking.look_at(session, run)
            if count < limit:
                return
            running, left = running + count, left - count
