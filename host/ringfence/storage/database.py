"""The database: the engines of one instance, and the sessions that are made of them."""

from __future__ import annotations

import contextlib
import select
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolResetState

from ringfence.storage.counted_pool import CountedPool, PoolStanding
from ringfence.storage.outages import outage
from ringfence.storage.urls import libpq_url

POOL_SIZE = 10
JOB_CONNECTIONS = 2
JOB_SILENT_SECONDS = 120
JOB_STALLED_SECONDS = 20
"""A connection of theirs whose other end has not answered for so long is given up by the kernel (tcp(7))."""

_Driver = psycopg.AsyncConnection[tuple[Any, ...]]


class _Session(AsyncSession):
    """A session that is closed on the spot when its transaction has ended, as it nearly always has.

    There is nothing left to ask the database then. SQLAlchemy closes in a task of its own, so that a cancellation
    cannot tear the connection's last exchange: a tenth of what a small transaction costs.
    """

    async def __aexit__(self, type_: Any, value: Any, traceback: Any) -> None:
        if self.sync_session.in_transaction():
            await super().__aexit__(type_, value, traceback)
        else:
            self.sync_session.close()


class Database:
    """One instance's connections. `sessions` makes transactions, `libpq_url` is for connections outside the pool."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine: AsyncEngine = create_async_engine(
            url,
            poolclass=CountedPool,
            pool_size=POOL_SIZE,
            max_overflow=POOL_SIZE,
            pool_recycle=1800,
            pool_reset_on_return=None,
            hide_parameters=True,
        )
        self.sessions: async_sessionmaker[AsyncSession] = async_sessionmaker(
            self.engine, class_=_Session, expire_on_commit=False
        )

        # A worker group's transaction stays open while its handler works: that must starve neither the requests
        # nor another group, so these have connections of their own, as many as there are groups at work.
        self._work_engine = create_async_engine(
            url,
            poolclass=CountedPool,
            pool_size=2,
            max_overflow=-1,
            pool_reset_on_return=None,
            hide_parameters=True,
        )
        self.work_sessions: async_sessionmaker[AsyncSession] = async_sessionmaker(
            self._work_engine, class_=_Session, expire_on_commit=False
        )

        # What jobs write: their handlers share two connections, and wait for them in turn. Whoever holds one and says
        # nothing for long is cut off, for the rows that a frozen instance has locked are another's to work on.
        self._job_engine = create_async_engine(
            url,
            poolclass=CountedPool,
            pool_size=JOB_CONNECTIONS,
            max_overflow=0,
            pool_timeout=3600,
            pool_reset_on_return=None,
            hide_parameters=True,
            connect_args={
                "options": f"-c idle_in_transaction_session_timeout={JOB_SILENT_SECONDS}s",
                "tcp_user_timeout": JOB_STALLED_SECONDS * 1000,
            },
        )
        self.job_sessions: async_sessionmaker[AsyncSession] = async_sessionmaker(
            self._job_engine, class_=_Session, expire_on_commit=False
        )

        self.trouble: str | None = None
        """What keeps this instance from writing, as it tries to each second (`Membership`); None while it can."""

        for engine in (self.engine, self._work_engine, self._job_engine):
            event.listen(engine.sync_engine, "checkout", _check_open)
            event.listen(engine.sync_engine, "reset", _roll_back)

    @property
    def libpq_url(self) -> str:
        """The same database, as psycopg and libpq want it."""
        return libpq_url(self.url)

    def pools(self) -> Sequence[PoolStanding]:
        """How the pools of connections stand: those of requests, of worker groups and of jobs."""
        engines = {"requests": self.engine, "worker-groups": self._work_engine, "jobs": self._job_engine}
        pools = [(name, cast("CountedPool", engine.sync_engine.pool)) for name, engine in engines.items()]
        return [
            PoolStanding(name, pool.checkedout(), pool.checkedin(), pool.waits, pool.waited_seconds)
            for name, pool in pools
        ]

    @contextlib.asynccontextmanager
    async def autocommit(self) -> AsyncIterator[_Driver]:
        """Lend a connection on which each statement is a transaction by itself."""
        lent = await self.engine.raw_connection()
        driver = cast("_Driver", lent.driver_connection)
        try:
            await driver.set_autocommit(True)
            yield driver
        finally:
            if driver.info.transaction_status == TransactionStatus.IDLE:
                await driver.set_autocommit(False)
                lent.close()
            else:
                lent.detach()
                await driver.close()

    def note_trouble(self, error: Exception | None) -> None:
        """Note how this instance's own writing went: what it failed at, or None."""
        self.trouble = None if error is None else outage(error) or f"{type(error).__name__} while writing"

    async def close(self) -> None:
        """Give every connection back."""
        await self.engine.dispose()
        await self._work_engine.dispose()
        await self._job_engine.dispose()


def _check_open(_: object, record: ConnectionPoolEntry, __: object) -> None:
    """Have the pool replace a connection that the server has closed while it lay idle.

    The server says nothing on an idle connection until it ends it, so one that has something to be read is over. That
    costs no round trip, which `pool_pre_ping` would, for each transaction. Not covered: a server that is gone without
    a word; the first statement fails on that.
    """
    driver = cast("_Driver", record.driver_connection)
    if not driver.closed:
        idle = select.poll()
        idle.register(driver.fileno(), select.POLLIN)
        if not idle.poll(0):
            return
    raise DisconnectionError("the server has closed the connection")


def _roll_back(connection: DBAPIConnection, record: ConnectionPoolEntry, state: PoolResetState) -> None:
    """Have a connection come back with no transaction open, as the pool would: but one that has none is not asked."""
    driver = cast("_Driver", record.driver_connection)
    if not state.terminate_only and driver.info.transaction_status != TransactionStatus.IDLE:
        connection.rollback()
