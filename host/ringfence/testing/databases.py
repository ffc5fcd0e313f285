"""A real PostgreSQL for a test session, and databases on it that cost a test a few milliseconds.

The first test of a set of plugins pays for their migrations; they make a template, and a copy of that is what a test is
given. Copying is not cheap either, so a test's copy is emptied afterwards and handed to the next one, as long as nobody
has changed its schema. A copy whose migrations put rows into it is not emptied but thrown away.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import sql

from ringfence.storage.embedded import EmbeddedPostgres
from ringfence.storage.migrating import MigrationBranch, migrate

TEST_SERVER_OPTIONS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
}
"""Durability is not what a test's database is for; atomicity and order are not touched by these."""

CUT_SECONDS = 5.0
"""How long whoever is still connected to a database may take to be gone, before that database is given up."""

_FIRST_USER_OID = 16384
_CUT_OTHERS: LiteralString = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
# Every change to the schema leaves a row of these catalogues newer, or one more or less of them.
_SHAPE = sql.SQL(" UNION ALL ").join(
    sql.SQL("SELECT {}, count(*), max(xmin::text::bigint) FROM {} WHERE {} >= {}").format(
        sql.Literal(catalogue), sql.Identifier(catalogue), sql.Identifier(key), sql.Literal(_FIRST_USER_OID)
    )
    for catalogue, key in (
        ("pg_class", "oid"),
        ("pg_attribute", "attrelid"),
        ("pg_constraint", "oid"),
        ("pg_index", "indexrelid"),
        ("pg_proc", "oid"),
        ("pg_trigger", "oid"),
        ("pg_namespace", "oid"),
    )
)
_TABLES: LiteralString = """
    SELECT schemaname, tablename FROM pg_tables
     WHERE schemaname NOT IN ('pg_catalog', 'information_schema') AND tablename NOT LIKE 'alembic_version_%'
"""
_SEQUENCES: LiteralString = "SELECT schemaname, sequencename, start_value FROM pg_sequences"


@dataclass(slots=True)
class _Copy:
    """A database that tests use one after the other, and what it takes to make it as good as new."""

    url: str
    branches: tuple[MigrationBranch, ...]
    connection: psycopg.Connection[tuple[object, ...]]
    shape: list[tuple[object, ...]] = field(init=False)
    reset: sql.Composed | None = field(init=False)

    def __post_init__(self) -> None:
        self.shape = self.look()
        self.reset = self._plan_reset()

    def look(self) -> list[tuple[object, ...]]:
        """What the schema is like now; equal to what it was before only if nobody has changed it."""
        return self.connection.execute(_SHAPE).fetchall()

    def renew(self) -> bool:
        """Cut whoever is still connected and remove every row; False where that would not make it as new."""
        deadline = time.monotonic() + CUT_SECONDS
        # Until none is left: PostgreSQL's own waiting looks only ten times a second.
        while self.connection.execute(_CUT_OTHERS).fetchone() is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)
        if self.reset is None or self.look() != self.shape:
            return False
        self.connection.execute(self.reset)
        return True

    def _plan_reset(self) -> sql.Composed | None:
        tables = [sql.Identifier(*map(str, row)) for row in self.connection.execute(_TABLES)]
        for table in tables:
            if self.connection.execute(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(table)).fetchone():
                return None
        sequences = self.connection.execute(_SEQUENCES).fetchall()
        return sql.SQL(";").join(
            [
                # Foreign keys and triggers are not to stand in the way of emptying every table.
                sql.SQL("SET session_replication_role = replica"),
                *(sql.SQL("DELETE FROM {}").format(table) for table in tables),
                *(
                    sql.SQL("SELECT setval({}, {}, false)").format(
                        sql.Literal(sql.Identifier(str(schema), str(name)).as_string()), sql.Literal(start)
                    )
                    for schema, name, start in sequences
                ),
            ]
        )


class TestPostgres:
    """A real PostgreSQL for one test session, and cheap databases on it."""

    __test__ = False

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.server = server
        self._templates: dict[tuple[MigrationBranch, ...], str] = {}
        self._idle: dict[tuple[MigrationBranch, ...], list[_Copy]] = {}
        self._lent: dict[str, _Copy] = {}

    async def lend(self, branches: Sequence[MigrationBranch]) -> str:
        """A database in which `branches` are migrated and that is otherwise empty, until `give_back`; its URL."""
        idle = self._idle.setdefault(tuple(branches), [])
        if idle:
            copy = idle.pop()
        else:
            url = await self.create(branches)
            copy = _Copy(url, tuple(branches), psycopg.connect(_libpq(url), autocommit=True))
        self._lent[copy.url] = copy
        return copy.url

    async def give_back(self, url: str) -> None:
        """End the use of a database that was lent; whoever is still connected to it is cut."""
        copy = self._lent.pop(url)
        if copy.renew():
            self._idle[copy.branches].append(copy)
        else:
            copy.connection.close()
            await self.drop(url)

    async def create(self, branches: Sequence[MigrationBranch]) -> str:
        """Make a database of its own in which `branches` are migrated; answers its URL."""
        key = tuple(branches)
        if key not in self._templates:
            template = await self._create_database(None)
            await migrate(self.server.url_of(template), list(key))
            self._templates[key] = template
        return self.server.url_of(await self._create_database(self._templates[key]))

    async def drop(self, url: str) -> None:
        """Remove a database that `create` made, cutting whoever is connected."""
        name = url.partition("@/")[2].partition("?")[0]
        await self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def close(self) -> None:
        """Let go of the server, which is about to stop."""
        for copy in [*self._lent.values(), *(one for idle in self._idle.values() for one in idle)]:
            copy.connection.close()

    async def _create_database(self, template: str | None) -> str:
        name = f"test_{uuid.uuid4().hex}"
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {} STRATEGY file_copy").format(sql.Identifier(template))
        await self._execute(statement)
        return name

    async def _execute(self, statement: sql.Composed) -> None:
        url = _libpq(self.server.url_of("postgres"))
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute(statement)


def make_reachable_directory() -> Path:
    """A temporary directory that other users can traverse, as the database's own user under root must."""
    directory = Path(tempfile.mkdtemp(prefix="ringfence-test-"))
    directory.chmod(0o711)
    return directory


def _libpq(url: str) -> str:
    return url.replace("+psycopg", "", 1)
