"""The database that a command works on: the one that a setting names, or the bundled one of a data directory.

The bundled server runs only while a host does. Otherwise it is started for the command, under the lock of the data
directory, so that no host starts meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import psycopg

from ringfence.backup.errors import BackupError
from ringfence.settings import HostSettings
from ringfence.storage.datadir import DataDir, DataDirError
from ringfence.storage.embedded import EmbeddedPostgres, EmbeddedPostgresError
from ringfence.storage.errors import DatabaseError
from ringfence.storage.urls import libpq_url, shown_url
from ringfence.storage.usable import check_encoding

CONNECT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Place:
    """A database that can be connected to."""

    url: str
    """As SQLAlchemy wants it."""

    @property
    def libpq_url(self) -> str:
        """As psycopg and PostgreSQL's own programs want it."""
        return libpq_url(self.url)

    @property
    def shown(self) -> str:
        """As people may see it."""
        return shown_url(self.url)

    @contextmanager
    def connected(self) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
        """A connection on which each statement is a transaction by itself.

        Raises:
            BackupError: if the database cannot be reached, or does not take all text.
        """
        try:
            connection = psycopg.connect(self.libpq_url, autocommit=True, connect_timeout=CONNECT_SECONDS)
        except psycopg.Error as error:
            words = " ".join(str(error).split())
            raise BackupError(f"cannot use the database at {self.shown}: {words}") from error
        with connection:
            try:
                check_encoding(connection, self.url)
            except DatabaseError as error:
                raise BackupError(str(error)) from error
            yield connection


@contextmanager
def to_read(settings: HostSettings) -> Iterator[Place]:
    """The database, whether hosts run on it or not. Raises `BackupError`."""
    data_dir = DataDir(settings.data_dir)
    if not is_there(settings):
        raise BackupError(
            f"there is no database in {settings.data_dir}",
            hint="Name the data directory with --data-dir, or the database with RINGFENCE_DATABASE_URL.",
        )
    with ExitStack() as stack:
        try:
            yield stack.enter_context(to_write(settings))
        except DataDirError as in_use:
            place = Place(EmbeddedPostgres(data_dir.postgres_path).url)
            try:
                with place.connected():
                    pass
            except BackupError:
                raise BackupError(str(in_use)) from in_use
            yield place


def is_there(settings: HostSettings) -> bool:
    """Whether there is a database yet: a bundled one is made by the first host, or by a restore."""
    directory = DataDir(settings.data_dir).postgres_path
    return settings.database_url is not None or (directory / "PG_VERSION").exists()


@contextmanager
def to_write(settings: HostSettings) -> Iterator[Place]:
    """The database, for this process alone if it is a bundled one. Makes that if there is none.

    Raises:
        DataDirError: if a host runs on it.
        BackupError: if it cannot be started.
    """
    if settings.database_url is not None:
        yield Place(settings.database_url)
        return
    data_dir = DataDir(settings.data_dir)
    with data_dir.locked():
        server = EmbeddedPostgres(data_dir.postgres_path)
        try:
            asyncio.run(server.start())
        except EmbeddedPostgresError as error:
            raise BackupError(str(error)) from error
        try:
            yield Place(server.url)
        finally:
            asyncio.run(server.stop())
