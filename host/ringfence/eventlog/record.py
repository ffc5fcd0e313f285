"""One row of the event log, and how it becomes the event that a listener sees."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ringfence.hooks import Event, Hook, P

COLUMNS = "position, stream, version, hook, plugin, payload, actor, reason, occurred_at, instance"
"""The columns of an `EventRecord`, in its order."""


@dataclass(frozen=True, slots=True)
class EventRecord:
    """A stored event, its payload still JSON. `position` orders all events, `version` those of one stream."""

    position: int
    stream: str
    version: int
    hook: str
    plugin: str
    payload: dict[str, Any]
    actor: str | None
    reason: str | None
    occurred_at: dt.datetime
    instance: UUID

    def as_event(self, hook: Hook[P]) -> Event[P]:
        """Parse the payload into the hook's model. Raises `pydantic.ValidationError` when it does not fit."""
        return Event(
            payload=hook.payload.model_validate(self.payload),
            hook=self.hook,
            plugin=self.plugin,
            position=self.position,
            stream=self.stream,
            version=self.version,
            actor=self.actor,
            reason=self.reason,
            occurred_at=self.occurred_at,
        )
