"""Reading the log: by position, and by stream."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence.eventlog.record import COLUMNS, EventRecord

_LAST_POSITION = text("SELECT coalesce(max(position), 0) FROM events")
_AFTER = text(f"SELECT {COLUMNS} FROM events WHERE position > :position ORDER BY position LIMIT :limit")  # noqa: S608
_STREAM = text(f"""
    SELECT {COLUMNS} FROM events
     WHERE stream = :stream AND version > :after AND version < :before
     ORDER BY version LIMIT :limit
""")  # noqa: S608
_STREAM_NEWEST = text(f"""
    SELECT {COLUMNS} FROM events
     WHERE stream = :stream AND version > :after AND version < :before
     ORDER BY version DESC LIMIT :limit
""")  # noqa: S608

END = 2**63 - 1


async def last_position(session: AsyncSession) -> int:
    """The position of the newest event, or 0 in an empty log."""
    return int((await session.execute(_LAST_POSITION)).scalar_one())


async def read_after(session: AsyncSession, position: int, *, limit: int = 500) -> list[EventRecord]:
    """The events after `position`, oldest first, at most `limit` of them."""
    rows = await session.execute(_AFTER, {"position": position, "limit": limit})
    return [EventRecord(*row) for row in rows]


async def read_stream(
    session: AsyncSession,
    stream: str,
    *,
    after: int = 0,
    before: int = END,
    limit: int = 500,
    newest_first: bool = False,
) -> list[EventRecord]:
    """The events of one stream whose versions lie between `after` and `before`, both exclusive."""
    values = {"stream": stream, "after": after, "before": before, "limit": limit}
    rows = await session.execute(_STREAM_NEWEST if newest_first else _STREAM, values)
    return [EventRecord(*row) for row in rows]
