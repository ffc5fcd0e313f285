"""The migrations of the host and of every plugin: each is a branch of its own, brought to its head under one lock."""

from __future__ import annotations

import asyncio
import functools
import importlib.metadata
import importlib.util
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import psycopg
import structlog
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from ringfence.storage.errors import MigrationError
from ringfence.storage.urls import libpq_url
from ringfence.storage.usable import unusable

SCRIPTS = "ringfence_migrations"
HOST_MIGRATIONS = "ringfence_migrations.host"
MIGRATING = "hashtextextended('ringfence.migrations', 0)"
"""The key of the advisory lock of whoever changes tables."""
ALEMBIC = threading.Lock()
"""alembic keeps what it is doing in module globals, so one thread at a time may use it."""
_NOTES: LiteralString = """
    SELECT name, coalesce(obj_description(to_regclass(name), 'pg_class'), '') FROM unnest(%(tables)s::text[]) AS name
     WHERE to_regclass(name) IS NOT NULL
"""

_log = structlog.get_logger("ringfence.database")


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


async def behind(url: str, branches: Sequence[MigrationBranch]) -> frozenset[MigrationBranch]:
    """Which branches `migrate` has something to do for, looked at under its lock: after most starts none.

    One whose migrations cannot be read is among them. Raises `DatabaseError` when the database does not answer.
    """
    return await asyncio.to_thread(_behind, url, branches)


async def migrate(url: str, branches: list[MigrationBranch]) -> None:
    """Bring every branch to its head, under a lock, so that instances which start together take turns.

    Raises `MigrationError` when a branch fails (what it did is undone), and `DatabaseError` when the database does not
    answer.
    """
    await asyncio.to_thread(_migrate, url, branches)


def _behind(url: str, branches: Sequence[MigrationBranch]) -> frozenset[MigrationBranch]:
    heads = {branch: _heads(branch) for branch in branches}
    signature = f"Ringfence {_release()}"
    tables = [branch.version_table for branch in branches]
    try:
        with psycopg.connect(libpq_url(url), autocommit=True) as connection:
            connection.execute(f"SELECT pg_advisory_lock({MIGRATING})".encode())
            notes: dict[str, str] = dict(connection.execute(_NOTES, {"tables": tables}).fetchall())
            signed = [branch for branch in branches if notes.get(branch.version_table) == signature]
            at_head = {
                branch
                for branch in signed
                if frozenset(version for (version,) in connection.execute(_versions(branch))) == heads[branch]
            }
    except psycopg.Error as error:
        raise unusable(url, error) from error
    return frozenset(branches) - at_head


def _versions(branch: MigrationBranch) -> sql.Composed:
    return sql.SQL("SELECT version_num FROM {}").format(sql.Identifier(branch.version_table))


def _heads(branch: MigrationBranch) -> frozenset[str] | None:
    """The newest revisions of a branch; None where its migrations cannot be read."""
    try:
        directory = _directory(branch.package)
        files = sorted((str(file), file.stat().st_mtime_ns) for file in directory.glob("*.py"))
        return _heads_in(branch, tuple(files))
    except Exception:  # what is wrong is told by whoever runs them
        return None


@functools.lru_cache(maxsize=128)
def _heads_in(branch: MigrationBranch, files: tuple[tuple[str, int], ...]) -> frozenset[str]:
    """Read once as long as the files are the same: that is most of what it takes to see how a branch stands."""
    with ALEMBIC:
        return frozenset(ScriptDirectory.from_config(alembic_config(branch)).get_heads())


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
        raise unusable(url, error) from error
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
