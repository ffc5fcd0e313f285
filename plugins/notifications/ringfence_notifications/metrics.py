"""The metrics of notifications: what lasts, and what becomes of messages. No channel is named."""

from __future__ import annotations

from collections.abc import Sequence

from ringfence.metrics import Metric, counter, gauge

from ringfence_notifications.channels.channels import Channels
from ringfence_notifications.delivery.delivering import Delivering
from ringfence_notifications.delivery.messages import Messages
from ringfence_notifications.incidents.incidents import Incidents


async def of_notifications(
    channels: Channels, incidents: Incidents, messages: Messages, delivering: Delivering
) -> Sequence[Metric]:
    """All of them."""
    lasting, unseen = await incidents.lasting()
    failing = [one for one in await channels.listed() if one.fails and one.settings.enabled]
    return [
        gauge("ringfence_incidents_lasting", "Incidents that last", lasting),
        gauge("ringfence_incidents_unseen", "Incidents that last and nobody has acknowledged", unseen),
        gauge("ringfence_channels_failing", "Channels that do not take messages", len(failing)),
        gauge(
            "ringfence_messages_failed",
            "Messages that were not delivered to anybody, and are not tried again by themselves",
            await messages.failed(),
        ),
        counter(
            "ringfence_message_attempts_total",
            "Attempts at sending messages that this instance has made, by how they ended",
            {("sent",): 0.0, ("failed",): 0.0, **dict(delivering.attempts.items())},
            labels=["end"],
        ),
    ]
