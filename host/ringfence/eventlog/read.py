"""Reading the log: by position, and by stream."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence.eventlog.record import COLUMNS, EventRecord

_LAST_POSITION = text("SELECT coalesce(max(position), 0) FROM events")
# With and without a stream are statements of their own: of one that fits both, no index would be used for the stream.
_AFTER = text(f"""
    SELECT {COLUMNS} FROM events WHERE position > :position ORDER BY position LIMIT :limit
""")  # noqa: S608
# In one stream, versions are in the order of positions, and there is an index for them. Whoever reads on gives the
# position of an event of the stream, whose version says where to begin.
_AFTER_IN_STREAM = text(f"""
    SELECT {COLUMNS} FROM events
     WHERE stream = :stream AND position > :position
       AND version > coalesce((SELECT version FROM events WHERE position = :position AND stream = :stream), 0)
     ORDER BY version LIMIT :limit
""")  # noqa: S608
_NEWEST = text(f"""
    SELECT {COLUMNS} FROM events ORDER BY position DESC LIMIT :limit
""")  # noqa: S608
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


async def read_after(
    session: AsyncSession, position: int, *, stream: str | None = None, limit: int = 500
) -> list[EventRecord]:
    """The events after `position` (of one stream, if one is named), oldest first, at most `limit` of them."""
    values = {"position": position, "limit": limit}
    if stream is None:
        rows = await session.execute(_AFTER, values)
    else:
        rows = await session.execute(_AFTER_IN_STREAM, {**values, "stream": stream})
    return [EventRecord(*row) for row in rows]


async def read_newest(
    session: AsyncSession, *, stream: str | None = None, limit: int = 500
) -> list[EventRecord]:
    """The last `limit` events (of one stream, if one is named), oldest first."""
    if stream is not None:
        return (await read_stream(session, stream, limit=limit, newest_first=True))[::-1]
    rows = await session.execute(_NEWEST, {"limit": limit})
    return [EventRecord(*row) for row in rows][::-1]


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
