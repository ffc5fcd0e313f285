"""Looks from time to time whether the streams that are kept for ever still say what was written, and tells if not.

Threat: somebody with access to the database changes or removes events, and nobody runs `verify` for months. Mechanism:
each stream is verified against its hashes, and against its head as it was found the last time, so what is removed from
the end is found too. What is found is told once. Not covered: somebody who also changes what was noted of the heads, or
sets the whole database back: an anchor that was noted elsewhere shows that. A stream whose beginning was let go before
it was to be kept is looked at once it was found whole.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from ringfence.eventlog.history.doubts import EventLogTampered, event_log_tampered
from ringfence.eventlog.history.verify import Anchor, Misfit, Verification, verify_stream
from ringfence.hooks import Hook

_STREAMS = text("""
    SELECT stream FROM events WHERE keep_forever GROUP BY stream UNION SELECT stream FROM event_anchors ORDER BY stream
""")
_ANCHOR = text("SELECT version, hash, told FROM event_anchors WHERE stream = :stream FOR UPDATE")
_NOTE = text("""
    INSERT INTO event_anchors (stream, version, hash) VALUES (:stream, :version, :hash)
    ON CONFLICT (stream) DO UPDATE
       SET version = excluded.version, hash = excluded.hash, told = NULL, noted_at = clock_timestamp()
""")
_TOLD = text("UPDATE event_anchors SET told = :version WHERE stream = :stream")


class Emit(Protocol):
    """How the host records a fact in the transaction of `session`."""

    def __call__(self, hook: Hook[Any], payload: Any, *, session: AsyncSession) -> Awaitable[object]: ...


class Watching:
    """Looks at the streams."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession], emit: Emit) -> None:
        self._sessions = sessions
        self._emit = emit

    async def look(self) -> int:
        """Look at each stream; answers of how many something was told."""
        async with self._sessions() as session:
            streams = list((await session.execute(_STREAMS)).scalars())
        return sum([await self._look_at(stream) for stream in streams])

    async def _look_at(self, stream: str) -> bool:
        async with self._sessions.begin() as session:
            row = (await session.execute(_ANCHOR, {"stream": stream})).one_or_none()
            anchor = None if row is None else Anchor(row.version, row.hash)
            found = await verify_stream(session, stream, anchor=anchor)
            if found.misfit is None:
                await self._note(session, stream, found)
                return False
            if (row is None and found.misfit.version == 1) or (
                row is not None and row.told == found.misfit.version
            ):
                return False
            await self._tell(session, stream, found.misfit, found)
        return True

    async def _note(self, session: AsyncSession, stream: str, found: Verification) -> None:
        if found.head is not None:
            values = {"stream": stream, "version": found.head.version, "hash": found.head.hash}
            await session.execute(_NOTE, values)

    async def _tell(self, session: AsyncSession, stream: str, misfit: Misfit, found: Verification) -> None:
        if (await session.execute(_TOLD, {"stream": stream, "version": misfit.version})).rowcount == 0:  # type: ignore[attr-defined]
            await self._note(session, stream, found)
            await session.execute(_TOLD, {"stream": stream, "version": misfit.version})
        fact = EventLogTampered(stream=stream, version=misfit.version, what=misfit.what)
        await self._emit(event_log_tampered, fact, session=session)
