"""Appending: one row, in the caller's own transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence.eventlog.record import EventRecord

_APPEND = text("""
    SELECT r_position, r_version, r_occurred_at, r_current_version
      FROM ringfence_append_event(:stream, :hook, :plugin, CAST(:payload AS jsonb), :actor, :reason,
                                  CAST(:expected AS bigint), CAST(:instance AS uuid), :keep_forever)
""")
_APPEND_ALL = text("""
    SELECT count(appended.r_position)
      FROM (SELECT stream, payload FROM unnest(CAST(:streams AS text[]), CAST(:payloads AS jsonb[]))
              WITH ORDINALITY AS fact (stream, payload, place) ORDER BY place) AS fact,
           LATERAL ringfence_append_event(fact.stream, :hook, :plugin, fact.payload, :actor, :reason,
                                          NULL, CAST(:instance AS uuid), :keep_forever) AS appended
""")


class WrongExpectedVersionError(RuntimeError):
    """Somebody else has appended to the stream since it was read. `current` is the version that it is at."""

    def __init__(self, stream: str, *, expected: int, current: int) -> None:
        super().__init__(
            f"stream {stream} is at version {current}, not at the expected {expected}: read it again"
        )
        self.stream = stream
        self.expected = expected
        self.current = current


async def append(
    session: AsyncSession,
    *,
    stream: str,
    hook: str,
    plugin: str,
    payload: BaseModel,
    instance: UUID,
    actor: str | None = None,
    reason: str | None = None,
    expected_version: int | None = None,
    keep_forever: bool = False,
) -> EventRecord:
    """Append one event. It is there for others once the caller's transaction commits, and never if it does
    not.

    Holds the log's append lock until then, so append late in a transaction and keep it short.
    `keep_forever` exempts the event, and with it its whole stream, from retention. Raises
    `WrongExpectedVersionError` when `expected_version` is given and the stream is elsewhere.
    """
    values: dict[str, Any] = {
        "stream": stream,
        "hook": hook,
        "plugin": plugin,
        "payload": payload.model_dump_json(by_alias=True),
        "actor": actor,
        "reason": reason,
        "expected": expected_version,
        "instance": str(instance),
        "keep_forever": keep_forever,
    }
    row = (await session.execute(_APPEND, values)).one()
    if row.r_position is None:
        assert expected_version is not None
        raise WrongExpectedVersionError(stream, expected=expected_version, current=row.r_current_version)
    return EventRecord(
        position=row.r_position,
        stream=stream,
        version=row.r_version,
        hook=hook,
        plugin=plugin,
        payload=payload.model_dump(mode="json", by_alias=True),
        actor=actor,
        reason=reason,
        occurred_at=row.r_occurred_at,
        instance=instance,
    )


async def append_all(
    session: AsyncSession,
    facts: Sequence[tuple[str, BaseModel]],
    *,
    hook: str,
    plugin: str,
    instance: UUID,
    actor: str | None = None,
    reason: str | None = None,
    keep_forever: bool = False,
) -> None:
    """Append many events of one hook, each a stream and a payload, in their order: one exchange with the
    database.

    Otherwise as `append` without an expected version.
    """
    values: dict[str, Any] = {
        "streams": [stream for stream, _ in facts],
        "payloads": [payload.model_dump_json(by_alias=True) for _, payload in facts],
        "hook": hook,
        "plugin": plugin,
        "actor": actor,
        "reason": reason,
        "instance": str(instance),
        "keep_forever": keep_forever,
    }
    await session.execute(_APPEND_ALL, values)
