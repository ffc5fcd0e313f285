"""A copy in memory of what a table says, so that nobody waits for the database: believed while the log is followed.

Threat: an instance that is cut off from the database goes on by what somebody has since changed or taken away; or the
database was set back, and what was copied is of a history that it does not have. Mechanism: the copy is used only while
the event log is followed live and no event was missed (`PluginContext.tail_is_live`); otherwise what it is a copy of is
read, and whoever cannot read it gets no answer. What was read before `event_log_resumed` is forgotten. Not covered: the
seconds for which the log counts as followed (`ringfence.eventlog.tail.LIVE_SECONDS`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Replica(Generic[T]):
    """One copy. Made by `PluginContext.replica`, which has it forgotten when the log is followed again."""

    def __init__(
        self,
        load: Callable[[], Awaitable[T]],
        is_live: Callable[[], bool],
        *,
        newer: Callable[[T, T], T] | None = None,
    ) -> None:
        """Copy what `load` answers.

        Args:
            load: reads it from the database; may raise.
            is_live: whether a copy may be believed at this moment.
            newer: which of two is the later one, where that can be told: then `keep` may be called at any time.
        """
        self._load = load
        self._is_live = is_live
        self._newer = newer
        self._copy: T | None = None
        self._is_forgotten = False
        self._last: T | Exception | None = None
        """What the last read came to; None if nobody knows."""
        self._reads = self._times_forgotten = 0
        self._turn = asyncio.Lock()
        """A read and a change take turns, so that the older of the two never overwrites the newer."""

    def known(self) -> T | None:
        """What it is, without asking the database, while that may be believed."""
        return self._copy if self._is_live() and not self._is_forgotten else None

    async def current(self) -> T:
        """What it is. Those who ask during a read share the next one, and what that raises."""
        if (known := self.known()) is not None:
            return known
        asked_after = self._reads
        async with self._turn:
            if (known := self.known()) is not None:
                return known
            if self._reads > asked_after and self._last is not None:
                if isinstance(self._last, Exception):
                    raise self._last
                return self._last
            return await self._read()

    def keep(self, value: T) -> None:
        """Have this for a copy, unless a newer one is known. What is equal stays, with what has been made of it."""
        if self._copy is not None and self._newer is not None and not self._is_forgotten:
            value = self._newer(self._copy, value)
        self._copy, self._is_forgotten = self._copy if value == self._copy else value, False

    async def change(self, apply: Callable[[T | None], Awaitable[T | None]]) -> None:
        """Have the copy changed, between reads: `apply` gets it (None if there is none), and answers the new one.

        One that is forgotten is changed too, and not believed for that: it says what others were told last.
        """
        async with self._turn:
            self._copy = await apply(self._copy)

    def forget(self) -> None:
        """Have it read again, whatever is being read at this moment."""
        self._times_forgotten += 1
        self._is_forgotten = True

    async def _read(self) -> T:
        self._reads += 1
        self._last, before = None, self._times_forgotten
        try:
            value = await self._load()
        except Exception as error:
            self._last = error
            raise
        if before == self._times_forgotten:
            self.keep(value)
        self._last = value
        return value
