"""Restoring a backup: into an empty database, or in place of what is there, which goes only when all is well.

What is replaced is set aside under another name of its schema, and comes back if anything fails; pg_restore works in
one transaction. Nothing of the history is changed: positions, revisions and hashes are those of the backup. By that,
instances and satellites that hold newer revisions see that the database was set back (see `held_policy`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from ringfence.backup import programs
from ringfence.backup.archive import Archive, Progress
from ringfence.backup.contents import ASIDE, NOT_OF_EXTENSIONS, OUR_SCHEMAS, Connection, contents, is_empty
from ringfence.backup.errors import BackupError
from ringfence.backup.keys import KeysOutside
from ringfence.backup.manifest import Contents, NeededKey
from ringfence.backup.place import Place
from ringfence.eventlog.groups.presence import GONE_SECONDS
from ringfence.redaction import describe
from ringfence.storage.migrating import MIGRATING, MigrationBranch
from ringfence.storage.revisions import known

_RESTORE = (
    "--no-owner",
    "--no-privileges",
    "--no-tablespaces",
    "--no-publications",
    "--no-subscriptions",
    "--no-password",
    "--exit-on-error",
    "--single-transaction",
)

_OBJECTS = sql.SQL(f"""
    SELECT CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
                          ELSE 'TABLE' END, c.oid::regclass::text
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND {OUR_SCHEMAS} AND {NOT_OF_EXTENSIONS.format("c.oid")}
    UNION ALL
    SELECT 'ROUTINE', p.oid::regprocedure::text FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
     WHERE {OUR_SCHEMAS} AND {NOT_OF_EXTENSIONS.format("p.oid")}
    UNION ALL
    SELECT 'TYPE', t.oid::regtype::text FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace
     WHERE t.typtype IN ('d', 'e', 'r') AND {OUR_SCHEMAS} AND {NOT_OF_EXTENSIONS.format("t.oid")}
""")  # noqa: S608


@dataclass(frozen=True, slots=True)
class Keys:
    """How the keys that a backup needs stand on this machine."""

    missing: tuple[NeededKey, ...]
    """Neither here nor in the backup."""
    to_add: Mapping[str, Mapping[str, str]]
    """In the backup, and not here: by plugin, and by fingerprint."""


def keys_of(archive: Archive, outside: Mapping[str, KeysOutside]) -> Keys:
    """Compare the keys that the backup needs with those that are here. Raises `BackupError`."""
    missing: list[NeededKey] = []
    to_add: dict[str, dict[str, str]] = {}
    try:
        here = {plugin: one.here() for plugin, one in outside.items()}
    except ValueError as error:
        raise BackupError(describe(error)) from error
    for need in archive.manifest.keys:
        if need.fingerprint in here.get(need.plugin, {}):
            continue
        text = archive.keys.get(need.plugin, {}).get(need.fingerprint)
        if text is None or need.plugin not in outside:
            missing.append(need)
        else:
            to_add.setdefault(need.plugin, {})[need.fingerprint] = text
    return Keys(tuple(missing), to_add)


def check_schema(archive: Archive, branches: Sequence[MigrationBranch]) -> tuple[str, ...]:
    """The plugins whose tables are in the backup and that are not installed here.

    Raises:
        BackupError: if the backup is of a newer release.
    """
    installed = {branch.label: known(branch) for branch in branches}
    for label, at in archive.manifest.contents.revisions.items():
        if unknown := [one for one in at if label in installed and one not in installed[label]]:
            raise BackupError(
                f"the backup is at revision {', '.join(unknown)} of {label}, which this release does not know: it was "
                f"made with Ringfence {archive.manifest.ringfence}",
                hint="Restore it with that release, or a newer one.",
            )
    return tuple(label for label in archive.manifest.contents.revisions if label not in installed)


def program_for(archive: Archive, server: int, given: Path | None) -> programs.Program:
    """The pg_restore that reads the backup, for a server of that version. Raises `BackupError`."""
    dumped = archive.manifest.pg_dump

    def unfit(version: int) -> str | None:
        if version < dumped:
            return f"the backup was written by pg_dump {dumped}, which an older pg_restore cannot read"
        if version >= programs.KNOWS_TRANSACTION_TIMEOUT > server:
            return (
                f"what pg_restore {version} writes is unknown to a server of PostgreSQL {server}; a backup that the "
                f"pg_dump of that version made can be restored by the pg_restore of that version"
            )
        return None

    return programs.chosen("pg_restore", unfit, server=server, given=given)


def look(connection: Connection) -> Contents | None:
    """What is in the database that is restored to; None if it is empty.

    Raises:
        BackupError: if instances run on it, or a restore was killed in the middle.
    """
    if aside := [name for name in _schemas(connection) if name.startswith(ASIDE)]:
        raise BackupError(
            f"a restore was stopped in the middle; what it was to replace is in the schema {aside[0]}",
            hint=f"To have it back: DROP SCHEMA {aside[0].removeprefix(ASIDE)} CASCADE; ALTER SCHEMA {aside[0]} "
            f"RENAME TO {aside[0].removeprefix(ASIDE)}. To be rid of it: DROP SCHEMA {aside[0]} CASCADE.",
        )
    if is_empty(connection):
        return None
    there = contents(connection)
    if "event_instances" in {name.partition(".")[2] for name in there.rows}:
        row = connection.execute(
            "SELECT count(*) FROM event_instances WHERE seen_at > clock_timestamp() - make_interval(secs => %s)",
            (GONE_SECONDS,),
        ).fetchone()
        if row is not None and row[0]:
            raise BackupError(
                f"instances of Ringfence run on this database: {row[0]}",
                hint="Stop them first: ringfence drain.",
            )
    return there


def restore(
    place: Place,
    archive: Archive,
    program: programs.Program,
    *,
    replace: bool,
    progress: Progress = lambda _: None,
) -> Contents:
    """Put the backup into the database; what is there then. All or nothing. Raises `BackupError`.

    Instances that are started meanwhile wait until it is done.
    """
    try:
        return _restored(place, archive, program, replace, progress)
    except psycopg.Error as error:
        raise BackupError(f"the database refuses: {describe(error)}") from error


def _restored(
    place: Place, archive: Archive, program: programs.Program, replace: bool, progress: Progress
) -> Contents:
    with place.connected() as connection, _no_migration(connection):
        if not replace and not is_empty(connection):
            raise BackupError("something has come into the database meanwhile: nothing was restored")
        with _set_aside(connection) if replace else _emptied_if_it_fails(connection):
            programs.fed(
                program,
                [*_RESTORE, f"--dbname={_database(place)}"],
                programs.environment(place.libpq_url, programs.inherited()),
                _counted(archive.dump(), progress),
            )
            found = contents(connection)
            if (
                expected := archive.manifest.contents
            ).rows != found.rows or expected.event_log != found.event_log:
                raise BackupError("what was restored is not what the manifest tells: the backup is damaged")
    return found


def unreadable(place: Place, outside: Mapping[str, KeysOutside]) -> dict[str, tuple[str, ...]]:
    """The names of rows that cannot be read with the keys that are here, by plugin."""
    engine = create_engine(place.url, poolclass=NullPool, hide_parameters=True)
    try:
        with engine.connect() as connection:
            found = {plugin: tuple(one.unreadable(connection)) for plugin, one in outside.items()}
    finally:
        engine.dispose()
    return {plugin: names for plugin, names in found.items() if names}


def _database(place: Place) -> str:
    # pg_restore connects only if it is told where to; all the rest is in its environment.
    return programs.environment(place.libpq_url, {})["PGDATABASE"]


def _counted(pieces: Iterator[bytes], progress: Progress) -> Iterator[bytes]:
    done = 0
    for piece in pieces:
        yield piece
        done += len(piece)
        progress(done)


@contextmanager
def _no_migration(connection: Connection) -> Iterator[None]:
    """Hold what instances that start wait for. Raises `BackupError` if one of them is at it."""
    row = connection.execute(f"SELECT pg_try_advisory_lock({MIGRATING})").fetchone()
    if row is None or not row[0]:
        raise BackupError("an instance of Ringfence is starting on this database", hint="Stop it first.")
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute(f"SELECT pg_advisory_unlock({MIGRATING})")


@contextmanager
def _emptied_if_it_fails(connection: Connection) -> Iterator[None]:
    """Leave the database as empty as it was, if what is done in it fails."""
    try:
        yield
    except BaseException:
        # What pg_restore does is undone by itself; what has come in as a whole is not.
        with connection.transaction():
            # Tables first: what belongs to them goes with them.
            for kind, name in sorted(
                connection.execute(_OBJECTS).fetchall(), key=lambda one: one[0] != "TABLE"
            ):
                connection.execute(sql.SQL(f"DROP {kind} IF EXISTS {name} CASCADE"))
        raise


@contextmanager
def _set_aside(connection: Connection) -> Iterator[None]:
    """Rename the schemas that are there, and drop them at the end; or put them back, if what is done fails."""
    names = _schemas(connection)
    with connection.transaction():
        extensions = _extensions(connection)
        for name in names:
            _rename(connection, name, ASIDE + name)
        connection.execute("CREATE SCHEMA IF NOT EXISTS public")
        for extension, schema in extensions:
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
            _move(connection, extension, schema)
    try:
        yield
    except BaseException as error:
        try:
            _put_back(connection, names, extensions)
        except psycopg.Error as failed:
            raise BackupError(
                f"{error}; and what was there could not be put back ({describe(failed)}): it is in "
                f"{', '.join(ASIDE + name for name in names)}"
            ) from error
        raise
    with connection.transaction():
        _drop(connection, [ASIDE + name for name in names])


def _put_back(connection: Connection, names: Sequence[str], extensions: Sequence[tuple[str, str]]) -> None:
    with connection.transaction():
        for extension, schema in extensions:
            _move(connection, extension, ASIDE + schema)
        _drop(connection, [name for name in _schemas(connection) if not name.startswith(ASIDE)])
        for name in names:
            _rename(connection, ASIDE + name, name)


def _schemas(connection: Connection) -> list[str]:
    found = connection.execute(
        sql.SQL(f"SELECT n.nspname FROM pg_namespace AS n WHERE {OUR_SCHEMAS} ORDER BY 1")  # noqa: S608
    )
    return [str(name) for (name,) in found]


def _extensions(connection: Connection) -> list[tuple[str, str]]:
    """The extensions whose objects are in schemas that are to be renamed."""
    found = connection.execute(
        sql.SQL(
            "SELECT e.extname, n.nspname FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace "  # noqa: S608
            f"WHERE {OUR_SCHEMAS} ORDER BY 1"
        )
    )
    return [(str(name), str(schema)) for name, schema in found]


def _move(connection: Connection, extension: str, schema: str) -> None:
    statement = sql.SQL("ALTER EXTENSION {} SET SCHEMA {}")
    try:
        connection.execute(statement.format(sql.Identifier(extension), sql.Identifier(schema)))
    except psycopg.Error as error:
        raise BackupError(
            f"the extension {extension} cannot be kept: {describe(error)}",
            hint="Restore into a database of its own instead.",
        ) from error


def _rename(connection: Connection, old: str, new: str) -> None:
    statement = sql.SQL("ALTER SCHEMA {} RENAME TO {}")
    connection.execute(statement.format(sql.Identifier(old), sql.Identifier(new)))


def _drop(connection: Connection, names: Sequence[str]) -> None:
    for name in names:
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))
