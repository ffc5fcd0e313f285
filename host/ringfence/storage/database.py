"""The database: one engine per instance, and the migrations of the host and of every plugin."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import importlib.util
import select
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import psycopg
import structlog
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, DisconnectionError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, PoolResetState

from ringfence.redaction import describe
from ringfence.storage.counted_pool import CountedPool, PoolStanding

SCRIPTS = "ringfence_migrations"
HOST_MIGRATIONS = "ringfence_migrations.host"
POOL_SIZE = 10
JOB_CONNECTIONS = 2
JOB_SILENT_SECONDS = 120
JOB_STALLED_SECONDS = 20
"""A connection of theirs whose other end has not answered for so long is given up by the kernel (tcp(7))."""
WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.2, 5.0
"""How long it takes until a database that does not answer is asked again: doubled each time, up to the longest."""
MIGRATING = "hashtextextended('ringfence.migrations', 0)"
"""The key of the advisory lock of whoever changes tables."""
ALEMBIC = threading.Lock()
"""alembic keeps what it is doing in module globals, so one thread at a time may use it."""

_log = structlog.get_logger("ringfence.database")


T = TypeVar("T")
_Driver = psycopg.AsyncConnection[tuple[Any, ...]]
_abandoned: set[asyncio.Task[Any]] = set()


class DatabaseError(RuntimeError):
    """The database cannot be reached or migrated; the message says which and what to do."""


_OUTAGES = {
    "25006": "it is read-only",
    "53100": "its disk is full",
    "53200": "it is out of memory",
    "53300": "it takes no more connections",
    "57014": "it takes too long",
    "57P01": "it is being stopped",
    "57P02": "it is being stopped",
    "57P03": "it is starting or stopping",
}
"""Conditions of the database that pass, by SQLSTATE (PostgreSQL, Appendix A)."""

_OUTAGE_CLASSES = {
    "08": "the connection to it fails",
    "53": "it lacks a resource",
    "58": "its system fails",
}


def outage(error: Exception) -> str | None:
    """What is out of order with the database, if that is why `error` was raised; None if it is something else.

    What was asked is not at fault then, and may be asked again later.
    """
    if isinstance(error, PoolTimeoutError):
        return "all connections to it are in use"
    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(error, SQLAlchemyError | psycopg.Error):
        return None
    state = getattr(cause, "sqlstate", None)
    if state is not None:
        return _OUTAGES.get(state) or _OUTAGE_CLASSES.get(state[:2])
    lost = isinstance(error, DisconnectionError) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    )
    return "it cannot be reached" if lost or isinstance(cause, psycopg.OperationalError) else None


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
        return make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)

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
        _log.debug("late work failed", name=task.get_name(), error=describe(error))


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


async def wait_until_usable(url: str, *, seconds: float) -> None:
    """Wait until the database takes connections, for at most `seconds`, and say in the log that it is waited for.

    A database that starts later than its hosts is no fault of anybody's. What waiting cannot mend (a wrong password, a
    database that does not exist) is raised at once.

    Raises `DatabaseError`, which says what is wrong; also if what answers is a pooler that shares connections.
    """
    deadline = time.monotonic() + seconds
    pause = WAIT_SECONDS
    while True:
        try:
            await asyncio.to_thread(_check_usable, url)
        except OperationalError as error:
            left = deadline - time.monotonic()
            if left <= 0 or not _may_pass(error):
                raise _unusable(url, error) from error
            _log.warning("waiting for the database", reason=_words(error), seconds_left=round(left, 1))
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 2, LONGEST_WAIT_SECONDS)
        else:
            return


def _may_pass(error: OperationalError) -> bool:
    """Whether the database may be usable later. libpq tells most failures to connect without a state."""
    state = getattr(error.orig, "sqlstate", None)
    refused = any(
        word in str(error.orig) for word in ("authentication failed", "does not exist", "no pg_hba.conf")
    )
    return outage(error) is not None if state is not None else not refused


def _unusable(url: str, error: OperationalError) -> DatabaseError:
    shown = make_url(url).render_as_string(hide_password=True)
    return DatabaseError(f"cannot use the database at {shown}: {_words(error)}; check RINGFENCE_DATABASE_URL")


def _words(error: OperationalError) -> str:
    return " ".join(str(error.orig).split())


def _check_usable(url: str) -> None:
    """Connect, and see that the connection is our own for as long as we have it.

    A pooler that shares connections among transactions (PgBouncer's pool_mode=transaction) loses locks and LISTEN,
    without an error. There, a second connection gets the server process of the first one when that has no transaction
    open, or the first one gets another. Not covered: a pooler that others keep so busy that neither happens.
    """
    engine = create_engine(url, poolclass=NullPool, hide_parameters=True)
    try:
        with engine.connect() as ours, engine.connect() as other:
            before = _server_process(ours)
            ours.commit()
            meanwhile = _server_process(other)
            shared = meanwhile == before or _server_process(ours) != before
    finally:
        engine.dispose()
    if shared:
        shown = make_url(url).render_as_string(hide_password=True)
        raise DatabaseError(
            f"the database at {shown} is behind a pooler that shares connections among transactions, which loses locks "
            "and notifications: give RINGFENCE_DATABASE_URL the address of PostgreSQL itself, or set the pooler to "
            "pool_mode=session"
        )


def _server_process(connection: Connection) -> int:
    return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


async def migrate(url: str, branches: list[MigrationBranch]) -> None:
    """Bring every branch to its head, under a lock, so that instances which start together take turns.

    Raises `MigrationError` when a branch fails (what it did is undone), and `DatabaseError` when the database does not
    answer.
    """
    await asyncio.to_thread(_migrate, url, branches)


def _migrate(url: str, branches: list[MigrationBranch]) -> None:
    with ALEMBIC:
        _migrate_alone(url, branches)


def _migrate_alone(url: str, branches: list[MigrationBranch]) -> None:
    engine = create_engine(url, poolclass=NullPool, hide_parameters=True)
    try:
        with engine.connect() as connection:
            connection.execute(text(f"SELECT pg_advisory_lock({MIGRATING})"))
            connection.commit()
            for branch in branches:
                _upgrade(connection, branch)
    except OperationalError as error:
        raise _unusable(url, error) from error
    finally:
        engine.dispose()


def alembic_config(branch: MigrationBranch) -> Config:
    """What alembic is told of a branch. Raises `MigrationError` if its package is not there."""
    config = Config()
    config.set_main_option("script_location", str(_directory(SCRIPTS)))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(_directory(branch.package)))
    return config


def _upgrade(connection: Connection, branch: MigrationBranch) -> None:
    config = alembic_config(branch)
    config.attributes["connection"] = connection
    config.attributes["version_table"] = branch.version_table
    try:
        _check_not_newer(connection, branch, config)
        command.upgrade(config, "head")
        _sign(connection, branch)
        connection.commit()
    except MigrationError:
        connection.rollback()
        raise
    except Exception as error:
        if connection.invalidated:
            raise
        connection.rollback()
        raise MigrationError(
            f"the migrations of {branch.label} ({branch.package}) failed: {error}"
        ) from error
    _log.debug("migrated", branch=branch.label)


def _check_not_newer(connection: Connection, branch: MigrationBranch, config: Config) -> None:
    """Raise `MigrationError` if the branch is at a revision that this release does not know: a newer one was here."""
    signature = _signature(connection, branch)
    if signature is None:
        return
    known = {revision.revision for revision in ScriptDirectory.from_config(config).walk_revisions()}
    at = connection.execute(text(f"SELECT version_num FROM {branch.version_table}")).scalars().all()  # noqa: S608
    if unknown := [revision for revision in at if revision not in known]:
        raise MigrationError(
            f"the database is at revision {', '.join(unknown)} of {branch.label}, which this release (Ringfence "
            f"{_release()}) does not know: start {signature or 'the release that made it'}, or a newer one"
        )


def _sign(connection: Connection, branch: MigrationBranch) -> None:
    """Note on the version table which release has brought the branch to where it is, for one that is older."""
    signature = f"Ringfence {_release()}"
    if _signature(connection, branch) not in (None, signature):
        connection.execute(text(f"COMMENT ON TABLE {branch.version_table} IS '{signature}'"))


def _signature(connection: Connection, branch: MigrationBranch) -> str | None:
    """What is noted on the version table: "" if nothing is, None if there is no such table."""
    return connection.execute(
        text("SELECT coalesce(obj_description(oid), '') FROM pg_class WHERE oid = to_regclass(:table)"),
        {"table": branch.version_table},
    ).scalar()


def _release() -> str:
    return importlib.metadata.version("ringfence")


def _directory(package: str) -> Path:
    try:
        spec = importlib.util.find_spec(package)
    except ImportError as error:
        raise MigrationError(f"migrations package {package} cannot be imported: {error}") from error
    if spec is None or not spec.submodule_search_locations:
        raise MigrationError(f"there is no migrations package {package}, or it is not a package")
    return Path(next(iter(spec.submodule_search_locations)))
