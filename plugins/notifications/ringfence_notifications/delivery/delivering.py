"""Delivers messages: each is sent at least once, and recorded as sent in the transaction that ends the job.

That an attempt begins is recorded before it does. An instance that dies in between leaves a message with more attempts
begun than ended: another instance sends it once more when its lease is over, and it is shown that it may have been sent
twice. Each channel is served by itself: one that hangs, or is down, holds up no other.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from uuid import UUID

from ringfence import PluginContext, RunningJob
from ringfence.metrics import Counts
from ringfence_secrets.service import SecretError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_notifications.channels.channels import Channels
from ringfence_notifications.delivery.attempts import LEASE, MAX_ATTEMPTS, next_attempt
from ringfence_notifications.delivery.sending import DeliveryError, Outgoing, kind_of_message, send
from ringfence_notifications.hooks import (
    NotificationFailed,
    NotificationSent,
    notification_failed,
    notification_sent,
)
from ringfence_notifications.jobs import OfChannel, have_delivered
from ringfence_notifications.links import for_people
from ringfence_notifications.severity import Severity

_GOOD_NEWS = frozenset({"recovered", "passed"})

_CLAIM = text("""
    UPDATE notifications_messages
       SET begun = begun + 1, claimed_until = clock_timestamp() + CAST(:lease AS interval)
     WHERE id = (
        SELECT id FROM notifications_messages
         WHERE channel = :channel AND status = 'pending' AND next_at <= clock_timestamp()
           AND (claimed_until IS NULL OR claimed_until < clock_timestamp())
         ORDER BY next_at, created_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING id, severity, kind, title, text, link, begun, ended
""")
_SENT = text("""
    UPDATE notifications_messages
       SET status = 'sent', ended = ended + 1, sent_at = clock_timestamp(), claimed_until = NULL, error = NULL
     WHERE id = :id AND begun = :begun
""")
_CHANNEL_SENT = text("UPDATE notifications_channels SET sent_at = clock_timestamp() WHERE name = :channel")
_FAILED = text("""
    UPDATE notifications_messages
       SET ended = ended + 1, error = :error, claimed_until = NULL,
           status = CASE WHEN CAST(:next AS timestamptz) IS NULL THEN 'failed' ELSE 'pending' END,
           next_at = coalesce(:next, next_at)
     WHERE id = :id AND begun = :begun AND status = 'pending' RETURNING id
""")
_CHANNEL_FAILED = text("""
    UPDATE notifications_channels SET failed_at = clock_timestamp(), error = :error WHERE name = :channel
""")
_NEXT = text("""
    SELECT min(greatest(next_at, coalesce(claimed_until, next_at))) FROM notifications_messages
     WHERE channel = :channel AND status = 'pending'
""")
_NOW = text("SELECT clock_timestamp()")


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message that this instance has begun to send."""

    id: UUID
    severity: Severity
    kind: str | None
    title: str
    text: str
    link: str | None
    begun: int
    ended: int

    def outgoing(self, public_url: str | None) -> Outgoing:
        """What is sent of it. `public_url`: where people reach the host, if that is known."""
        link = for_people(self.link, public_url)
        body = self.text if link is None else f"{self.text}\n{link}".strip()
        kind = kind_of_message(self.severity, is_good_news=self.kind in _GOOD_NEWS)
        return Outgoing(self.id, self.title, body or self.title, kind)


class Delivering:
    """Does the job."""

    def __init__(self, context: PluginContext, channels: Channels) -> None:
        self._context = context
        self._channels = channels
        self.attempts = Counts()
        """Attempts at messages that this instance has made, by how they ended."""

    async def on_job(self, job: RunningJob[OfChannel], session: AsyncSession) -> None:
        """Send the oldest message of the channel that is due, and have the next one sent after it."""
        channel = job.payload.channel
        claimed = await self._claim(channel)
        error = None if claimed is None else await self._sent(channel, claimed)
        # The job's session only now: it should hold no connection while somebody else's service takes its time.
        if claimed is not None:
            self.attempts.add("failed" if error else "sent")
            await self._record(session, channel, claimed, error)
        if (next := (await session.execute(_NEXT, {"channel": channel})).scalar_one()) is not None:
            await have_delivered(self._context, session, channel, next)

    async def _claim(self, channel: str) -> Claimed | None:
        async with self._context.sessions.begin() as session:
            row = (await session.execute(_CLAIM, {"channel": channel, "lease": LEASE})).one_or_none()
        if row is None:
            return None
        return Claimed(
            row.id, Severity(row.severity), row.kind, row.title, row.text, row.link, row.begun, row.ended
        )

    async def _sent(self, channel: str, message: Claimed) -> str | None:
        """Send it; answers what is wrong, or None."""
        try:
            await send(
                await self._channels.address(channel), message.outgoing(self._context.settings.public_url)
            )
        except (DeliveryError, SecretError) as error:
            return str(error)
        return None

    async def _record(self, session: AsyncSession, channel: str, message: Claimed, error: str | None) -> None:
        values = {"id": message.id, "begun": message.begun, "channel": channel, "error": error}
        if error is None:
            await session.execute(_SENT, values)
            await session.execute(_CHANNEL_SENT, values)
            sent = NotificationSent(message_id=message.id, channel=channel)
            await self._context.emit_hook(notification_sent, sent, session=session)
            return
        now: dt.datetime = (await session.execute(_NOW)).scalar_one()
        next = next_attempt(message.ended + 1, now)
        if (await session.execute(_FAILED, values | {"next": next})).one_or_none() is None:
            return
        await session.execute(_CHANNEL_FAILED, values)
        self._context.logger.warning(
            "a message was not delivered", channel=channel, message=str(message.id), attempt=message.ended + 1
        )
        if next is None:
            fact = NotificationFailed(
                message_id=message.id,
                channel=channel,
                title=message.title,
                attempts=MAX_ATTEMPTS,
                error=error,
            )
            await self._context.emit_hook(notification_failed, fact, session=session)
