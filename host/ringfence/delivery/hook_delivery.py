"""From `emit_hook` to the listeners: by the event log what is stored, and the rest straight to the bus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import structlog
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence.delivery.lanes import Lanes
from ringfence.eventlog import Appended, EventRecord, Log, Source, check_payload, write
from ringfence.hooks import Event, Hook, HookBus, HookError, Listener, Mode, P, unstored_event
from ringfence.storage.configs import ConfigWrite
from ringfence.tasks import OwnedTasks

_log = structlog.get_logger("ringfence.hooks")


class HookDelivery:
    """Emits hooks on behalf of plugins, and hands on to this instance's listeners what the tailer reads."""

    def __init__(
        self,
        bus: HookBus,
        instance: UUID,
        log: Log,
        *,
        tasks: OwnedTasks | None = None,
        wake: Callable[[str], None] = lambda _: None,
        unstored: Callable[[Event[Any]], None] = lambda _: None,
    ) -> None:
        """`tasks` are what the listeners run in, each owned by its plugin.

        `wake` is called with the hook of each event that has been read, for whoever else may want to work on it;
        `unstored` with each event that is not stored, once it was delivered.
        """
        self._log = log
        self._bus = bus
        self._wake = wake
        self._unstored = unstored
        self._instance = instance
        self.lanes = Lanes(bus.call, tasks or OwnedTasks(), self._note_missed)
        self.missed: dict[str, int] = {}
        """By plugin, the first position that one of its broadcast listeners failed at; such a plugin
        has a gap.
        """

    async def emit(
        self,
        plugin: str,
        hook: Hook[P],
        payload: P,
        *,
        session: AsyncSession | None,
        standalone: bool = False,
        stream: str | None = None,
        expected_version: int | None = None,
        actor: str | None = None,
        reason: str | None = None,
    ) -> Event[P]:
        """Record (or, for a hook that is not stored, deliver) one fact. See `PluginContext.emit_hook`."""
        if not hook.stored:
            check_payload(hook, payload)
            if session is not None or standalone:
                raise HookError(
                    f"hook {hook.name} is instance-local and never stored: emit it without a session"
                )
            return await self._emit_local(plugin, hook, payload, actor=actor, reason=reason)
        _check_transaction(hook, session, standalone)
        stream = stream or hook.stream or f"{plugin}.{hook.name}"
        written, source = write(hook, payload), self._source(plugin, hook, actor, reason)
        appended = await self._log.append(session, stream, written, source, expected_version=expected_version)
        return _event(payload, stream, source, appended)

    async def emit_with_config(
        self,
        plugin: str,
        hook: Hook[P],
        payload: P,
        config: ConfigWrite,
        *,
        expected_version: int,
        actor: str | None = None,
        reason: str | None = None,
    ) -> Event[P] | None:
        """Record one fact and the config that follows from it. See `PluginContext.emit_with_config`."""
        if not hook.stored:
            raise HookError(f"hook {hook.name} is not stored: emit it with emit_hook")
        stream = hook.stream or f"{plugin}.{hook.name}"
        written, source = write(hook, payload), self._source(plugin, hook, actor, reason)
        appended = await self._log.append_with_config(
            stream, written, source, expected_version=expected_version, config=config
        )
        return None if appended is None else _event(payload, stream, source, appended)

    async def emit_all(
        self,
        plugin: str,
        hook: Hook[P],
        facts: Sequence[tuple[str, P]],
        *,
        session: AsyncSession | None,
        standalone: bool = False,
        actor: str | None = None,
        reason: str | None = None,
    ) -> None:
        """Record many facts of one hook. See `PluginContext.emit_hooks`."""
        if not hook.stored:
            raise HookError(f"hook {hook.name} is not stored: emit it one by one with emit_hook")
        _check_transaction(hook, session, standalone)
        written = [(stream, write(hook, payload)) for stream, payload in facts]
        if written:
            await self._log.append_all(session, written, self._source(plugin, hook, actor, reason))

    def _source(self, plugin: str, hook: Hook[P], actor: str | None, reason: str | None) -> Source:
        return Source(hook.name, plugin, self._instance, actor, reason, hook.keep_forever)

    async def deliver(self, record: EventRecord) -> None:
        """Hand a stored event to the broadcast listeners of this instance.

        What nobody here listens to is passed over.

        Returns when every plugin that is not behind has had it (see `ringfence.delivery.lanes`).
        """
        self._wake(record.hook)
        events: dict[Listener, Event[Any]] = {}
        # A listener gets the payload as its own hook has it: somebody else may have another model under that name.
        parsed: dict[Hook[Any], Event[Any] | None] = {}
        for listener in self._bus.receivers(record.hook, Mode.BROADCAST):
            if listener.hook not in parsed:
                parsed[listener.hook] = _parse(record, listener.hook)
            if (event := parsed[listener.hook]) is None:
                self._note_missed(listener.plugin, record.position)
            else:
                events[listener] = event
        if events:
            await self.lanes.deliver(record.position, events)

    def _note_missed(self, plugin: str, position: int) -> None:
        self.missed.setdefault(plugin, position)

    async def _emit_local(
        self,
        plugin: str,
        hook: Hook[P],
        payload: P,
        *,
        actor: str | None,
        reason: str | None,
    ) -> Event[P]:
        event = unstored_event(hook, payload, plugin=plugin, actor=actor, reason=reason)
        await self._bus.call(dict.fromkeys(self._bus.receivers(hook.name, Mode.INSTANCE_LOCAL), event))
        self._unstored(event)
        return event


def _event(payload: P, stream: str, source: Source, appended: Appended) -> Event[P]:
    """The event that was recorded."""
    return Event(
        payload=payload,
        hook=source.hook,
        plugin=source.plugin,
        position=appended.position,
        stream=stream,
        version=appended.version,
        actor=source.actor,
        reason=source.reason,
        occurred_at=appended.occurred_at,
    )


def _parse(record: EventRecord, hook: Hook[P]) -> Event[P] | None:
    """The event, or None where its payload does not fit."""
    try:
        return record.as_event(hook)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False, include_context=False)
        _log.error(
            "event does not fit its hook",
            hook=hook.name,
            payload=hook.payload.__qualname__,
            position=record.position,
            problems=problems,
        )
        return None


def _check_transaction(hook: Hook[P], session: AsyncSession | None, standalone: bool) -> None:
    if standalone and session is not None:
        raise HookError(
            f"hook {hook.name} is emitted in a session and standalone: leave out standalone=True, unless the "
            "event may stay when the session's transaction is rolled back; then leave out the session"
        )
    if not standalone and (session is None or not session.in_transaction()):
        raise HookError(
            f"hook {hook.name} is stored, so it must be emitted inside the transaction that it tells of: "
            "`async with context.sessions.begin() as session: await context.emit_hook(…, session=session)`; "
            "if there is no other change that it tells of, pass standalone=True"
        )
