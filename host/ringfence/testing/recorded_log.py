"""The event log as a list, all of which has been read."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ringfence.eventlog import Appended, Source, Written, WrongExpectedVersionError
from ringfence.hooks import Event
from ringfence.storage.configs import ConfigWrite

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


class RecordedLog:
    """The event log as a list, with versions and expectations kept as in the database."""

    def __init__(self, events: list[Event[Any]]) -> None:
        self._events = events
        self._open: list[tuple[object, Event[Any]]] = []

    async def append(
        self,
        session: AsyncSession | None,
        stream: str,
        written: Written,
        source: Source,
        *,
        expected_version: int | None = None,
    ) -> Appended:
        """Append to the list."""
        version = max((event.version for event in self._events if event.stream == stream), default=0)
        if expected_version is not None and expected_version != version:
            raise WrongExpectedVersionError(stream, expected=expected_version, current=version)
        position = 1 + max((event.position for event in self._events), default=0)
        appended = Appended(position, version + 1, dt.datetime.now(dt.UTC))
        event = Event(
            payload=written.payload,
            hook=source.hook,
            plugin=source.plugin,
            position=position,
            stream=stream,
            version=appended.version,
            actor=source.actor,
            reason=source.reason,
            occurred_at=appended.occurred_at,
        )
        self._events.append(event)
        if session is not None:
            self._open.append((session, event))
        return appended

    async def append_all(
        self, session: AsyncSession | None, facts: Sequence[tuple[str, Written]], source: Source
    ) -> None:
        """Append one by one."""
        for stream, written in facts:
            await self.append(session, stream, written, source)

    async def append_with_config(
        self, stream: str, written: Written, source: Source, *, expected_version: int, config: ConfigWrite
    ) -> Appended | None:
        """Append to the list. The config goes nowhere, as nothing that is written here does."""
        try:
            return await self.append(None, stream, written, source, expected_version=expected_version)
        except WrongExpectedVersionError:
            return None

    def end(self, session: object, kept: bool) -> None:
        """A transaction has ended: what was emitted in one that was rolled back was never emitted."""
        mine = [id(event) for emitter, event in self._open if emitter is session]
        self._open = [one for one in self._open if one[0] is not session]
        if not kept:
            self._events[:] = [event for event in self._events if id(event) not in mine]


class EndOfLog:
    """Stands for the tailer: everything has been delivered already."""

    live = True
    cursor = 0
    head = None
    silent_seconds = 0.0
    error = None
    set_back = None

    async def wait_for(self, position: int) -> None:
        """Nothing to wait for."""
