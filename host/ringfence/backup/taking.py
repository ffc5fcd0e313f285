"""Taking a backup: one snapshot of the database, and what it says of itself, read in that very snapshot."""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib.metadata
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from ringfence.backup import archive, programs
from ringfence.backup.archive import Progress, Writer
from ringfence.backup.contents import contents
from ringfence.backup.errors import BackupError
from ringfence.backup.keys import KeysOutside
from ringfence.backup.manifest import Manifest, NeededKey
from ringfence.backup.place import Place
from ringfence.redaction import describe
from ringfence.storage.files import new_file

_DUMP = ("--format=custom", "--no-owner", "--no-privileges", "--no-tablespaces", "--no-password")


def take(
    place: Place,
    path: Path,
    keys: Mapping[str, KeysOutside],
    *,
    include_keys: bool,
    pg_dump: Path | None = None,
    progress: Progress = lambda _: None,
) -> Manifest:
    """Write a backup to `path`, which must not be there: all of it, or nothing. Raises `BackupError`, `OSError`."""
    try:
        return _taken(place, path, keys, include_keys, pg_dump, progress)
    except FileExistsError as error:
        raise BackupError(
            f"{path} is there already", hint="Name a file that is not there, or a directory."
        ) from error


def _taken(
    place: Place,
    path: Path,
    keys: Mapping[str, KeysOutside],
    include_keys: bool,
    pg_dump: Path | None,
    progress: Progress,
) -> Manifest:
    if path.exists():
        raise FileExistsError(path)
    with place.connected() as connection:
        major = connection.info.server_version // 10_000
        program = programs.chosen("pg_dump", lambda one: _unfit(one, major), server=major, given=pg_dump)
        connection.autocommit = False
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        row = connection.execute("SELECT pg_export_snapshot()").fetchone()
        assert row is not None
        needed, given = _keys(place, str(row[0]), keys, include=include_keys)
        manifest = Manifest(
            ringfence=importlib.metadata.version("ringfence"),
            made_at=dt.datetime.now(dt.UTC),
            pg_dump=program.major,
            contents=contents(connection),
            keys=needed,
        )
        dump = programs.output_of(
            program,
            [*_DUMP, f"--snapshot={row[0]}"],
            programs.environment(place.libpq_url, programs.inherited()),
        )
        with new_file(path) as file:
            writer = Writer(file)
            with contextlib.closing(dump):
                writer.add(archive.DUMP, _counted(dump, progress))
            if given:
                writer.add(archive.KEYS, [json.dumps(given).encode()])
            writer.add(archive.MANIFEST, [manifest.model_dump_json(by_alias=True, indent=2).encode() + b"\n"])
            writer.finish()
    return manifest


def _unfit(version: int, server: int) -> str | None:
    if version >= server:
        return None
    return f"the server is of PostgreSQL {server}, and a pg_dump that is older than its server cannot dump it"


def _keys(
    place: Place, snapshot: str, keys: Mapping[str, KeysOutside], *, include: bool
) -> tuple[tuple[NeededKey, ...], dict[str, dict[str, str]]]:
    """Which keys the rows of a snapshot need, and those that go along."""
    needed: list[NeededKey] = []
    given: dict[str, dict[str, str]] = {}
    engine = create_engine(
        place.url, poolclass=NullPool, hide_parameters=True, isolation_level="REPEATABLE READ"
    )
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
            for plugin, one in keys.items():
                here = one.here() if include else {}
                for fingerprint, rows in one.needed(connection).items():
                    if include and fingerprint not in here:
                        raise BackupError(
                            f"the key {fingerprint} of {plugin} is not on this machine, so it cannot be included",
                            hint="Run this where a host runs that has it, or without --include-keys.",
                        )
                    needed.append(
                        NeededKey(plugin=plugin, fingerprint=fingerprint, rows=rows, included=include)
                    )
                    if include:
                        given.setdefault(plugin, {})[fingerprint] = here[fingerprint]
    except ValueError as error:
        raise BackupError(describe(error)) from error
    finally:
        engine.dispose()
    return tuple(needed), given


def _counted(pieces: Iterator[bytes], progress: Progress) -> Iterator[bytes]:
    done = 0
    for piece in pieces:
        done += len(piece)
        progress(done)
        yield piece
