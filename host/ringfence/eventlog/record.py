"""One row of the event log: how an event becomes one, and how that becomes the event that a listener sees."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError, PydanticSerializationError

from ringfence.bounded import storable_document
from ringfence.hooks import AnyEvent, Event, Hook, HookError, P
from ringfence.redaction import problems

COLUMNS = (
    "position, stream, version, hook, plugin, payload, actor, reason, occurred_at, instance, traceparent"
)
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
    traceparent: str | None = None
    """Of the span in which it was emitted, if there was one (`ringfence.tracing`)."""

    def as_event(self, hook: Hook[P]) -> Event[P]:
        """Parse the payload into the hook's model. Raises `pydantic.ValidationError` when it does not fit."""
        return Event(
            payload=_read(json.dumps(self.payload), hook.payload),
            hook=self.hook,
            plugin=self.plugin,
            position=self.position,
            stream=self.stream,
            version=self.version,
            actor=self.actor,
            reason=self.reason,
            occurred_at=self.occurred_at,
            traceparent=self.traceparent,
        )

    def as_any_event(self, hook: Hook[Any] | None) -> AnyEvent:
        """The event with a payload as `hook` writes it now, or as it is stored where nobody knows the hook.

        Raises `pydantic.ValidationError` when the payload does not fit.
        """
        payload = self.payload
        if hook is not None:
            read = _read(json.dumps(payload), hook.payload)
            payload = json.loads(read.model_dump_json(by_alias=True))
        return AnyEvent(
            payload=payload,
            hook=self.hook,
            plugin=self.plugin,
            position=self.position,
            stream=self.stream,
            version=self.version,
            actor=self.actor,
            reason=self.reason,
            occurred_at=self.occurred_at,
        )


class Written(NamedTuple):
    """A payload, and the JSON document that it is stored as."""

    payload: BaseModel
    document: str


def check_payload(hook: Hook[P], payload: P) -> None:
    """Raises `HookError` when the payload is of another model than the hook's."""
    if not isinstance(payload, hook.payload):
        raise HookError(
            f"hook {hook.name} carries {hook.payload.__name__}, not {type(payload).__name__}: "
            f"emit_hook({hook.name}, {hook.payload.__name__}(...))"
        )


def write(hook: Hook[P], payload: P) -> Written:
    """Raises `HookError` when the payload does not fit the hook's model, or could be stored but not be read again."""
    check_payload(hook, payload)
    try:
        document = payload.model_dump_json(by_alias=True)
        _read(document, hook.payload)
    except ValidationError as error:
        raise HookError(
            f"hook {hook.name} cannot carry this {type(payload).__name__}, for its listeners could not read it as "
            f"{hook.payload.__name__} again: {problems(error)}"
        ) from error
    except PydanticSerializationError as error:
        raise HookError(
            f"hook {hook.name} cannot carry this {type(payload).__name__}, which cannot be written as JSON: {error}"
        ) from error
    try:
        return Written(payload, storable_document(document))
    except ValueError as error:
        raise HookError(
            f"hook {hook.name} cannot carry text that holds U+0000: PostgreSQL's jsonb cannot store it"
        ) from error


def _read(document: str, model: type[P]) -> P:
    """Read the payload as the JSON that it is, so that a strict model takes a date that was written as text.

    A model is somebody's code: a validator that raises what pydantic does not expect has refused the payload too, and
    must not end whoever reads the log for everybody.
    """
    try:
        return model.model_validate_json(document)
    except ValidationError:
        raise
    except Exception as error:
        cause = PydanticCustomError(
            "model_failed", "its model raised {error}", {"error": f"{type(error).__name__}: {error}"}
        )
        problem = InitErrorDetails(type=cause, input=None)
        raise ValidationError.from_exception_data(model.__name__, [problem]) from error
