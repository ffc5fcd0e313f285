"""One row of the event log, and how it becomes the event that a listener sees."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

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
            payload=_parse(self.payload, hook.payload),
            hook=self.hook,
            plugin=self.plugin,
            position=self.position,
            stream=self.stream,
            version=self.version,
            actor=self.actor,
            reason=self.reason,
            occurred_at=self.occurred_at,
        )


def _parse(payload: dict[str, Any], model: type[P]) -> P:
    """Read the payload as the JSON that it is, so that a strict model takes a date that was written as text.

    A model is somebody's code: a validator that raises what pydantic does not expect has refused the payload too, and
    must not end whoever reads the log for everybody.
    """
    try:
        return model.model_validate_json(json.dumps(payload))
    except ValidationError:
        raise
    except Exception as error:
        cause = PydanticCustomError(
            "model_failed", "its model raised {error}", {"error": f"{type(error).__name__}: {error}"}
        )
        problem = InitErrorDetails(type=cause, input=None)
        raise ValidationError.from_exception_data(model.__name__, [problem]) from error
