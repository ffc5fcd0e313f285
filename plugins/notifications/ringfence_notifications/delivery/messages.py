"""The messages as people see them: what was sent, what is to be sent, and what could not be."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from ringfence import PluginContext
from ringfence.web import not_a_cursor, parts_of
from sqlalchemy import text

from ringfence_notifications.jobs import have_delivered

_COLUMNS = """
    id, channel, route, kind, severity, title, text, link, held, told, events, status, begun, ended, next_at,
    created_at, sent_at, error
"""
_LIST = text(f"""
    SELECT {_COLUMNS} FROM notifications_messages
     WHERE (CAST(:status AS text) IS NULL OR status = :status)
       AND (CAST(:channel AS text) IS NULL OR channel = :channel)
       AND (CAST(:after_at AS timestamptz) IS NULL
            OR (created_at, id) < (CAST(:after_at AS timestamptz), CAST(:after_id AS uuid)))
     ORDER BY created_at DESC, id DESC LIMIT :limit
""")  # noqa: S608
_FAILED = text("SELECT count(*) FROM notifications_messages WHERE status = 'failed'")
_RECENT = text("""
    SELECT width_bucket(extract(epoch FROM clock_timestamp() - sent_at), 0, 3600, 12) AS bucket, count(*) AS messages
      FROM notifications_messages
     WHERE created_at > clock_timestamp() - interval '1 day' AND sent_at > clock_timestamp() - interval '1 hour'
     GROUP BY 1
""")
_RETRY = text("""
    UPDATE notifications_messages
       SET status = 'pending', begun = 0, ended = 0, next_at = clock_timestamp(), claimed_until = NULL
     WHERE status = 'failed' AND (CAST(:id AS uuid) IS NULL OR id = :id)
       AND channel IN (SELECT name FROM notifications_channels)
    RETURNING id, channel
""")


class Status(enum.StrEnum):
    """What became of a message."""

    PENDING = "pending"
    SENT = "sent"
    FAILED = "failed"


def place_of(after: str) -> tuple[dt.datetime, UUID]:
    """Where a list of messages goes on. Raises `Problem` where this is no place in one."""
    at, id = parts_of(after, 2)
    try:
        return dt.datetime.fromisoformat(at).astimezone(dt.UTC), UUID(id)
    except (ValueError, OverflowError) as error:
        raise not_a_cursor() from error


class Messages:
    """Lists messages, and has failed ones sent again."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context

    async def listed(
        self,
        *,
        status: str | None,
        channel: str | None,
        after: tuple[dt.datetime, UUID] | None,
        limit: int,
    ) -> Sequence[dict[str, Any]]:
        """Messages as JSON for the API, the newest first."""
        at, id = after or (None, None)
        values = {"status": status, "channel": channel, "after_at": at, "after_id": id, "limit": limit}
        async with self._context.sessions() as session:
            return [_to_wire(row) for row in await session.execute(_LIST, values)]

    async def failed(self) -> int:
        """How many messages could not be delivered, and are not tried again by themselves."""
        async with self._context.sessions() as session:
            return int((await session.execute(_FAILED)).scalar_one())

    async def sent_lately(self) -> Sequence[int]:
        """How many were sent in each twelfth of the last hour, the oldest first."""
        async with self._context.sessions() as session:
            rows = (await session.execute(_RECENT)).all()
        counts = {int(row.bucket): int(row.messages) for row in rows}
        return [counts.get(bucket, 0) for bucket in range(12, 0, -1)]

    async def retry(self, id: UUID | None) -> Sequence[UUID]:
        """Have a failed message sent again, or all of them; answers which. Those of removed channels are not."""
        async with self._context.sessions.begin() as session:
            rows = (await session.execute(_RETRY, {"id": id})).all()
            for channel in sorted({row.channel for row in rows}):
                await have_delivered(self._context, session, channel)
        return [row.id for row in rows]


def _to_wire(row: Any) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "channel": row.channel,
        "route": row.route,
        "kind": row.kind,
        "severity": row.severity,
        "title": row.title,
        "text": row.text,
        "link": row.link,
        "heldBackBy": row.held,
        "told": row.told,
        "events": row.events,
        "status": row.status,
        "attempts": row.ended,
        # An attempt that was begun, and of which nobody knows how it ended: the instance died meanwhile.
        "maybeTwice": row.status != "pending" and row.begun > row.ended,
        "nextAt": row.next_at if row.status == "pending" else None,
        "createdAt": row.created_at,
        "sentAt": row.sent_at,
        "error": row.error,
    }
