"""A database that a test backs up and restores while instances use it, as an administrator would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import psycopg
from psycopg import sql
from ringfence.testing import TestPostgres
from sqlalchemy.exc import SQLAlchemyError

from tests.waiting import in_time, until_it

T = TypeVar("T")


@dataclass(slots=True)
class Restorable:
    """The database at `url`, and at most one backup of it. Taking one, and restoring it, cuts every connection."""

    url: str
    _postgres: TestPostgres

    @property
    def _name(self) -> str:
        return self.url.partition("@/")[2].partition("?")[0]

    @property
    def _backup(self) -> str:
        return f"{self._name}_backup"

    async def back_up(self) -> None:
        """Keep the database as it is now."""
        async with self._closed() as admin:
            copy = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
            await _with_nobody_in(
                admin, self._name, copy.format(sql.Identifier(self._backup), sql.Identifier(self._name))
            )

    async def restore(self, meanwhile: Callable[[str], Awaitable[None]] | None = None) -> None:
        """Put the backup in the database's place. `meanwhile` is done to it before anybody else can reach it."""
        if meanwhile is not None:
            await meanwhile(self._postgres.server.url_of(self._backup))
        async with self._closed() as admin:
            name, backup = sql.Identifier(self._name), sql.Identifier(self._backup)
            await _with_nobody_in(admin, self._name, sql.SQL("DROP DATABASE {}").format(name))
            rename = sql.SQL("ALTER DATABASE {} RENAME TO {}").format(backup, name)
            await _with_nobody_in(admin, self._backup, rename)

    @asynccontextmanager
    async def _closed(self) -> AsyncIterator[psycopg.AsyncConnection[tuple[object, ...]]]:
        """Nobody is connected to the database, nor can be, while this lasts."""
        url = self._postgres.server.url_of("postgres").replace("+psycopg", "", 1)
        name = sql.Identifier(self._name)
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as admin:
            await admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
            yield admin
            await admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))


async def _with_nobody_in(
    admin: psycopg.AsyncConnection[tuple[object, ...]], name: str, statement: sql.Composed
) -> None:
    """Run a statement that needs a database without sessions, once all of them are gone; they are cut."""
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"

    async def nobody() -> bool:
        return await (await admin.execute(cut, (name,))).fetchone() is None

    async def done() -> bool:
        await until_it(nobody, f"every session on {name} ends", pause=0.01)
        try:
            await admin.execute(statement)
        except psycopg.errors.ObjectInUse:  # by a session that had been let in, and was not to be seen yet
            return False
        return True

    await until_it(done, f"no session on {name} is in the way")


@asynccontextmanager
async def restorable(postgres: TestPostgres) -> AsyncIterator[Restorable]:
    """A database of its own for one test: instances that start on it migrate it."""
    database = Restorable(await postgres.create([]), postgres)
    try:
        yield database
    finally:
        await postgres.drop(database.url)
        await postgres.drop(postgres.server.url_of(database._backup))


async def until_reached(work: Callable[[], Awaitable[T]]) -> T:
    """What `work` answers, once the database can be reached."""
    async with in_time("the database can be reached again"):
        while True:
            try:
                return await work()
            except SQLAlchemyError:
                await asyncio.sleep(0.02)
