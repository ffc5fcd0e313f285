"""No database: transactions begin and end, and what is written in between is noted and goes nowhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, cast

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker


class NoDatabaseError(RuntimeError):
    """The plugin used the database, and there is none here."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A write that a plugin made in one transaction: its SQL, and its parameters."""

    sql: str
    parameters: Any


class NoDatabase:
    """Stands for the database: transactions begin and end, and what is written in between is noted."""

    def __init__(self, end: Callable[[NoSession, bool], None], statements: list[Statement]) -> None:
        # SQLAlchemy's is a class and no protocol: this does what plugins use of it.
        self.sessions = cast("async_sessionmaker[AsyncSession]", _Sessions(end, statements))
        self.trouble: str | None = None

    def autocommit(self) -> NoReturn:
        """Raise `NoDatabaseError`: what is asked by itself must answer something."""
        raise _no_database("asked it by itself")


class _Sessions:
    def __init__(self, end: Callable[[NoSession, bool], None], statements: list[Statement]) -> None:
        self._end = end
        self._statements = statements

    def __call__(self) -> NoSession:
        return NoSession(self._end, self._statements)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[NoSession]:
        async with self() as session, session.begin():
            yield session


class NoSession:
    """A session that takes part in transactions, notes what is written, and cannot answer anything."""

    def __init__(self, end: Callable[[NoSession, bool], None], statements: list[Statement]) -> None:
        self.written: list[Statement] = []
        self._end = end
        self._statements = statements
        self._begun = False

    async def execute(self, statement: object, parameters: object = None) -> None:
        """Note a write. Raises `NoDatabaseError` for a statement that must answer something."""
        words = str(statement).upper().split()
        if not words or words[0] not in {"INSERT", "UPDATE", "DELETE"} or "RETURNING" in words:
            raise _no_database(f"ran {str(statement).strip()!r}, which must answer something")
        self._begun = True
        noted = Statement(str(statement), parameters)
        self.written.append(noted)
        self._statements.append(noted)

    async def __aenter__(self) -> NoSession:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._begun:
            await self.rollback()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[NoSession]:
        self._begun = True
        try:
            yield self
        except BaseException:
            await self.rollback()
            raise
        await self.commit()

    def in_transaction(self) -> bool:
        return self._begun

    async def commit(self) -> None:
        self._begun = False
        self._end(self, True)
        self.written.clear()

    async def rollback(self) -> None:
        self._begun = False
        self._end(self, False)
        self.written.clear()

    def __getattr__(self, name: str) -> NoReturn:
        raise _no_database(f"used session.{name}")


def _no_database(use: str) -> NoDatabaseError:
    return NoDatabaseError(f"the plugin {use}, but a recorder has no database: test this with run_host")
