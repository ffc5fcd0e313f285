"""One instance of the fleet at a time does a piece of work: whoever holds an advisory lock on a connection of its own.

The database lets the lock go when that connection ends, so when the leader's process dies another takes over within
`RETRY_SECONDS`; when its machine vanishes, some seconds later, in which the database finds out that nobody answers.
A leader that is cut off from the database stops within `PING_SECONDS + ANSWER_SECONDS`; so for that long two may
believe that they lead, and what the work does must bear it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

RETRY_SECONDS = 1.0
PING_SECONDS = 1.0
ANSWER_SECONDS = 3.0

_KEEPALIVE = text("""
    SELECT set_config('tcp_keepalives_idle', '3', false), set_config('tcp_keepalives_interval', '2', false),
           set_config('tcp_keepalives_count', '2', false), set_config('tcp_user_timeout', '7000', false)
""")
_TRY = text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))")
_PING = text("SELECT 1")
_log = structlog.get_logger("ringfence.health_checks")


class Leadership:
    """Takes part in the election for `name`, which is one in the whole database."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession], name: str) -> None:
        self._sessions = sessions
        self._name = name
        self.leads = False

    async def serve(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` whenever this instance leads, until cancelled. It is cancelled when the instance leads no more."""
        while True:
            try:
                await self._stand(work)
            except (SQLAlchemyError, OSError, TimeoutError) as error:
                _log.warning(
                    "cannot stand for leader", of=self._name, error=f"{type(error).__name__}: {error}"
                )
            await asyncio.sleep(RETRY_SECONDS)

    async def _stand(self, work: Callable[[], Awaitable[None]]) -> None:
        async with self._sessions() as session:
            # Outside of any transaction: one that stayed open for hours would keep the database from tidying up.
            await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
            if not (await session.execute(_TRY, {"name": self._name})).scalar_one():
                return
            try:
                await session.execute(_KEEPALIVE)
                await self._lead(session, work)
            finally:
                # The lock belongs to the connection, which must not go back to the pool with it.
                await session.invalidate()

    async def _lead(self, session: AsyncSession, work: Callable[[], Awaitable[None]]) -> None:
        _log.info("this instance leads", of=self._name)
        self.leads = True
        working = asyncio.create_task(_awaited(work), name=f"leader of {self._name}")
        try:
            while not working.done():
                async with asyncio.timeout(ANSWER_SECONDS):
                    await session.execute(_PING)
                await asyncio.wait([working], timeout=PING_SECONDS)
            await working
        finally:
            self.leads = False
            working.cancel()
            await asyncio.wait([working])
            _log.info("this instance leads no more", of=self._name)


async def _awaited(work: Callable[[], Awaitable[None]]) -> None:
    await work()
