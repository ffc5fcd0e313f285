"""What an instance needs of the world outside, as its plugins see it: the database, and the end of the event log.

A running host has the real ones; the test kit has its own, with which a plugin runs alone. Where events are appended is
`ringfence.eventlog.Log`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from psycopg import AsyncConnection
    from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

    from ringfence.eventlog.history.trail import Mark
    from ringfence.eventlog.tail import NoticedSetBack


class Transactions(Protocol):
    """Where plugins read and write: the database."""

    @property
    def sessions(self) -> async_sessionmaker[AsyncSession]:
        """Makes transactions."""

    def autocommit(self) -> AbstractAsyncContextManager[AsyncConnection[tuple[Any, ...]]]:
        """Lend a connection on which each statement is a transaction by itself."""

    @property
    def trouble(self) -> str | None:
        """What keeps this instance from writing; None while it can."""


class Tail(Protocol):
    """How far this instance has read the event log."""

    @property
    def live(self) -> bool:
        """Whether it has read to the end of the log just now."""

    @property
    def cursor(self) -> int:
        """The position of the last event that was handed on."""

    @property
    def head(self) -> Mark | None:
        """That event, as it is known again; None before the first."""

    @property
    def silent_seconds(self) -> float | None:
        """How long ago it last read to the end; None if it never has."""

    @property
    def error(self) -> str | None:
        """Why it cannot read, if it cannot."""

    @property
    def set_back(self) -> NoticedSetBack | None:
        """When the database was last found to have been set back; None if it never was."""

    async def wait_for(self, position: int) -> None:
        """Return once the event at `position` was handed on. Raises `LogSetBackError`."""
