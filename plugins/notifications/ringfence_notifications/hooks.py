"""The hooks that notifications emits."""

from __future__ import annotations

import enum
from uuid import UUID

from pydantic import StrictBool, StrictInt
from ringfence import Hook, WireModel

READ = "notifications.channel.read"


class Subject(enum.StrEnum):
    """What was changed."""

    CHANNEL = "channel"
    ROUTE = "route"


class NotificationSettingsChanged(WireModel):
    """Somebody has added, changed or removed a channel or a route: from now on, others may be told of what happens."""

    subject: Subject
    name: str
    removed: StrictBool = False


class NotificationFailed(WireModel):
    """A message could not be delivered, and is not tried again unless somebody says so."""

    message_id: UUID
    channel: str
    title: str
    attempts: StrictInt
    error: str


class NotificationSent(WireModel):
    """A service has taken a message."""

    message_id: UUID
    channel: str


class IncidentsChanged(WireModel):
    """Incidents have begun, are over, or were acknowledged: the first of them by their numbers."""

    incidents: tuple[StrictInt, ...]


notification_settings_changed = Hook(
    "notification-settings-changed", NotificationSettingsChanged, payload_rule=READ
)
notification_failed = Hook("notification-failed", NotificationFailed, payload_rule=READ)
notification_sent = Hook("notification-sent", NotificationSent, payload_rule=READ)
incidents_changed = Hook("incidents-changed", IncidentsChanged, payload_rule=READ)
OWN_NEWS = frozenset({notification_sent.name, incidents_changed.name})
"""What tells of notifications themselves: told by notifications, it would never end."""
