"""The database: one engine per instance, and the migrations of the host and of every plugin."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import select
import threading
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import psycopg
import structlog
from alembic import command
from alembic.config import Config
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, PoolResetState

SCRIPTS = "ringfence_migrations"
HOST_MIGRATIONS = "ringfence_migrations.host"
POOL_SIZE = 10
_ALEMBIC = threading.Lock()
"""alembic keeps what it is doing in module globals, so one thread at a time may use it."""

_log = structlog.get_logger("ringfence.database")


T = TypeVar("T")
_Driver = psycopg.AsyncConnection[tuple[Any, ...]]
_abandoned: set[asyncio.Task[Any]] = set()


class DatabaseError(RuntimeError):
    """The database cannot be reached or migrated; the message says which and what to do."""


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
            url, pool_size=POOL_SIZE, max_overflow=POOL_SIZE, pool_recycle=1800, pool_reset_on_return=None
        )
        self.sessions: async_sessionmaker[AsyncSession] = async_sessionmaker(
            self.engine, class_=_Session, expire_on_commit=False
        )

        # A worker group's transaction stays open while its handler works: that must starve neither the requests
        # nor another group, so these have connections of their own, as many as there are groups at work.
        self._work_engine = create_async_engine(url, pool_size=2, max_overflow=-1, pool_reset_on_return=None)
        self.work_sessions: async_sessionmaker[AsyncSession] = async_sessionmaker(
            self._work_engine, class_=_Session, expire_on_commit=False
        )

        for engine in (self.engine, self._work_engine):
            event.listen(engine.sync_engine, "checkout", _check_open)
            event.listen(engine.sync_engine, "reset", _roll_back)

    @property
    def libpq_url(self) -> str:
        """The same database, as psycopg and libpq want it."""
        return make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)

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

    async def close(self) -> None:
        """Give every connection back."""
        await self.engine.dispose()
        await self._work_engine.dispose()


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


async def answer_within(seconds: float, work: Coroutine[Any, Any, T], *, name: str) -> T:
    """What `work` answers, if it does so in time. Raises what it raises, or `TimeoutError`.

    Late work is cancelled and left behind. To wait for its end would be to wait for the stalled network that made it
    late: the driver first asks the server to stop the query, and gives that request seconds of its own.
    """
    task = asyncio.create_task(work, name=name)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if task.done():
            return task.result()
    finally:
        if not task.done():
            task.cancel()
            _abandoned.add(task)
            task.add_done_callback(_forget)
    raise TimeoutError(f"{name} did not answer within {seconds:g} s")


def _forget(task: asyncio.Task[Any]) -> None:
    _abandoned.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.debug("late work failed", name=task.get_name(), error=str(error))


class MigrationError(DatabaseError):
    """The migrations of one branch fail, and were undone; the database itself answers."""


@dataclass(frozen=True, slots=True)
class MigrationBranch:
    """One plugin's migrations: `label` is the plugin's id, `package` the importable directory of its revisions."""

    label: str
    package: str

    @property
    def version_table(self) -> str:
        """Where alembic keeps how far this branch has come.

        Each branch has its own, so that a plugin that is taken away (and its scripts with it) never stops the
        others from migrating.
        """
        return f"alembic_version_{self.label.replace('-', '_')}"


async def migrate(url: str, branches: list[MigrationBranch]) -> None:
    """Bring every branch to its head, under a lock, so that instances which start together take turns.

    Raises `MigrationError` when a branch fails (what it did is undone), and `DatabaseError` when the database does not
    answer.
    """
    await asyncio.to_thread(_migrate, url, branches)


def _migrate(url: str, branches: list[MigrationBranch]) -> None:
    with _ALEMBIC:
        _migrate_alone(url, branches)


def _migrate_alone(url: str, branches: list[MigrationBranch]) -> None:
    engine = create_engine(url, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(hashtextextended('ringfence.migrations', 0))"))
            connection.commit()
            for branch in branches:
                _upgrade(connection, branch)
    except OperationalError as error:
        shown = make_url(url).render_as_string(hide_password=True)
        raise DatabaseError(
            f"cannot use the database at {shown}: {error.orig}; check RINGFENCE_DATABASE_URL"
        ) from error
    finally:
        engine.dispose()


def _upgrade(connection: Connection, branch: MigrationBranch) -> None:
    versions = _directory(branch.package)
    config = Config()
    config.set_main_option("script_location", str(_directory(SCRIPTS)))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(versions))
    config.attributes["connection"] = connection
    config.attributes["version_table"] = branch.version_table
    try:
        command.upgrade(config, "head")
        connection.commit()
    except Exception as error:
        if connection.invalidated:
            raise
        connection.rollback()
        raise MigrationError(
            f"the migrations of {branch.label} ({branch.package}) failed: {error}"
        ) from error
    _log.debug("migrated", branch=branch.label)


def _directory(package: str) -> Path:
    try:
        spec = importlib.util.find_spec(package)
    except ImportError as error:
        raise MigrationError(f"migrations package {package} cannot be imported: {error}") from error
    if spec is None or not spec.submodule_search_locations:
        raise MigrationError(f"there is no migrations package {package}, or it is not a package")
    return Path(next(iter(spec.submodule_search_locations)))
