"""What is asked of runs from anywhere: that somebody looks at one, and that one ends."""

from __future__ import annotations

import datetime as dt
from uuid import UUID

from ringfence import PluginContext
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_automations.runs.deciding.moves import Closing, Outcome
from ringfence_automations.runs.deciding.records import Ending
from ringfence_automations.runs.jobs import ADVANCE, RunRef
from ringfence_automations.runs.tables import runs_table


class Asking:
    """Has runs looked at, in the caller's transactions."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context

    async def cancel(
        self, session: AsyncSession, run: UUID, *, by: str | None, why: str | None = None
    ) -> bool:
        """Have a run end, and what it does end where it is done; False if it is told to already, or has ended."""
        closing = Closing(
            Ending.CANCELLED, Outcome.CANCELLED, why or (f"cancelled by {by}" if by else "cancelled")
        )
        if not await runs_table.close(session, run, closing, by=by):
            return False
        await self.look_at(session, run)
        return True

    async def look_at(self, session: AsyncSession, run: UUID, *, at: float | None = None) -> None:
        """Have a run looked at when the transaction commits, or at that time; once, if asked for several times."""
        when = None if at is None else dt.datetime.fromtimestamp(at, dt.UTC)
        await self._context.enqueue(ADVANCE, RunRef(run=run), session=session, at=when, unique=str(run))

    async def look_no_more(self, session: AsyncSession, run: UUID) -> None:
        """A run has ended: nobody needs to look at it later."""
        await self._context.cancel_waiting(ADVANCE, unique=str(run), session=session)
