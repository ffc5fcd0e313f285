"""What would change if this release ran on a database. Reads only, in one transaction that cannot write."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from typing import Any

import psycopg

from ringfence.backup.contents import Connection, revisions
from ringfence.backup.place import Place
from ringfence.bounded import Int32, Int64
from ringfence.eventlog.groups.presence import GONE_SECONDS
from ringfence.sandbox.wire import WireModel
from ringfence.storage.migrating import MigrationBranch
from ringfence.storage.revisions import changed_tables, known, pending

NO_RELEASE = "before 0.1.0"
"""What an instance is of that does not say so."""


class PendingMigration(WireModel):
    """A migration that is to be run."""

    revision: str
    what: str


class Table(WireModel):
    """A table that migrations change or go through: the larger, the longer. Rows are estimated."""

    name: str
    rows: Int64
    bytes: Int64


class Branch(WireModel):
    """How far the tables of the host, or of one plugin, are from this release."""

    plugin: str
    at: tuple[str, ...]
    pending: tuple[PendingMigration, ...]
    unknown: tuple[str, ...]
    """Revisions that this release does not know: a newer one was here."""
    tables: tuple[Table, ...] | None
    """None if it is not known what the migrations change."""


class Instances(WireModel):
    """How many instances of a release run."""

    release: str
    count: Int64


class Extension(WireModel):
    """An extension of PostgreSQL of which the server has another version than the database."""

    name: str
    installed: str
    available: str


class Upgrade(WireModel):
    """What would change, and what is to be mended."""

    release: str
    server: Int32
    branches: tuple[Branch, ...]
    missing_plugins: tuple[str, ...]
    """Plugins that have tables in the database and are not installed."""
    instances: tuple[Instances, ...]
    extensions: tuple[Extension, ...]

    @property
    def to_do(self) -> bool:
        """Whether there is something to do, or to mend."""
        behind = any(one.pending or one.unknown for one in self.branches)
        others = any(one.release != self.release for one in self.instances)
        return bool(behind or others or self.missing_plugins or self.extensions)


def look(place: Place, branches: Sequence[MigrationBranch]) -> Upgrade:
    """Compare the database with this release. Raises `BackupError` if it cannot be reached."""
    with place.connected() as connection:
        connection.autocommit = False
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        at = revisions(connection)
        return Upgrade(
            release=importlib.metadata.version("ringfence"),
            server=connection.info.server_version,
            branches=tuple(_branch(connection, one, at.get(one.label, ())) for one in branches),
            missing_plugins=tuple(sorted(at.keys() - {one.label for one in branches})),
            instances=_instances(connection),
            extensions=_extensions(connection),
        )


def _branch(connection: Connection, branch: MigrationBranch, at: tuple[str, ...]) -> Branch:
    unknown = tuple(sorted(set(at) - known(branch)))
    waiting = () if unknown else pending(branch, at)
    changed = changed_tables(branch, at) if waiting else frozenset()
    return Branch(
        plugin=branch.label,
        at=at,
        pending=tuple(PendingMigration(revision=one.id, what=one.what) for one in waiting),
        unknown=unknown,
        tables=None if changed is None else _tables(connection, sorted(changed)),
    )


def _tables(connection: Connection, names: Sequence[str]) -> tuple[Table, ...]:
    found = connection.execute(
        """SELECT relname, greatest(reltuples, 0)::bigint, pg_total_relation_size(oid) FROM pg_class
            WHERE relkind = 'r' AND relname = ANY(%s) AND pg_table_is_visible(oid) ORDER BY 3 DESC""",
        (list(names),),
    )
    return tuple(Table(name=name, rows=rows, bytes=size) for name, rows, size in found)


def _instances(connection: Connection) -> tuple[Instances, ...]:
    has = _one(
        connection,
        "SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass('event_instances') AND attname = 'release'",
    )
    if not _one(connection, "SELECT count(to_regclass('event_instances'))"):
        return ()
    found = connection.execute(
        f"""SELECT coalesce({"release" if has else "NULL"}, %s), count(*) FROM event_instances
             WHERE seen_at > clock_timestamp() - make_interval(secs => %s) GROUP BY 1 ORDER BY 1""",  # noqa: S608
        (NO_RELEASE, GONE_SECONDS),
    )
    return tuple(Instances(release=release, count=count) for release, count in found)


def _extensions(connection: Connection) -> tuple[Extension, ...]:
    found = connection.execute(
        """SELECT name, installed_version, default_version FROM pg_available_extensions
            WHERE installed_version IS NOT NULL AND installed_version <> default_version ORDER BY 1"""
    )
    return tuple(Extension(name=name, installed=old, available=new) for name, old, new in found)


def _one(connection: Connection, statement: Any) -> int:
    row = connection.execute(statement).fetchone()
    return 0 if row is None else int(row[0])
