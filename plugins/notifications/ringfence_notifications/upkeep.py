"""What is seen to from time to time: that nothing is left lying, and that what is old goes."""

from __future__ import annotations

from ringfence import Nothing, PluginContext, RunningJob
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_notifications.jobs import have_composed, have_delivered

BATCH = 5000

_CHANNELS = text("""
    SELECT channel, min(due_at) AS due_at FROM notifications_tellings WHERE due_at IS NOT NULL GROUP BY channel
     ORDER BY channel
""")
_SENDING = text("""
    SELECT channel, min(next_at) AS next_at FROM notifications_messages WHERE status = 'pending' GROUP BY channel
     ORDER BY channel
""")
_OLD = tuple(
    text(statement)
    for statement in (
        """
        DELETE FROM notifications_messages WHERE id IN (
            SELECT id FROM notifications_messages
             WHERE status <> 'pending' AND created_at < clock_timestamp() - make_interval(secs => :keep) LIMIT :batch)
        """,
        """
        DELETE FROM notifications_incidents WHERE id IN (
            SELECT id FROM notifications_incidents AS incident
             WHERE NOT lasts AND changed_at < clock_timestamp() - make_interval(secs => :keep)
               AND NOT EXISTS (SELECT FROM notifications_tellings AS telling
                                WHERE telling.incident = incident.id AND telling.due_at IS NOT NULL)
             LIMIT :batch)
        """,
        """
        DELETE FROM notifications_suppressed
         WHERE day < CAST(clock_timestamp() - make_interval(secs => :keep) AS date)
        """,
    )
)


class Upkeep:
    """Does the job."""

    def __init__(self, context: PluginContext, *, keep_days: float) -> None:
        self._context = context
        self._keep_seconds = keep_days * 86_400

    async def on_job(self, job: RunningJob[Nothing], session: AsyncSession) -> None:
        """See to it."""
        for row in (await session.execute(_CHANNELS)).all():
            await have_composed(self._context, session, row.channel, row.due_at)
        for row in (await session.execute(_SENDING)).all():
            await have_delivered(self._context, session, row.channel, row.next_at)
        for statement in _OLD:
            await session.execute(statement, {"keep": self._keep_seconds, "batch": BATCH})
