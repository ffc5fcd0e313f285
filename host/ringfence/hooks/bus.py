"""The in-process bus that carries events to those who listen: a blinker signal per hook and mode.

It is the last step of a delivery. How a stored event gets from the database to the bus is the event log's business
(`ringfence.eventlog`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, cast

import blinker
import structlog

from ringfence import tracing
from ringfence.hooks.facts import Event, HookError, Mode
from ringfence.hooks.subscriptions import AnyGroup, GroupKey, Listener
from ringfence.redaction import describe
from ringfence.tasks import contained

LISTENER_SECONDS = 30.0
"""How long one listener may take over one event before it is cancelled and logged."""

_log = structlog.get_logger("ringfence.hooks")


def _span(listener: Listener, event: Event[Any]) -> AbstractContextManager[None]:
    return tracing.span(
        f"hear {event.hook}",
        event.traceparent,
        kind=tracing.Kind.CONSUMER,
        plugin=listener.plugin,
        position=event.position,
    )


class HookBus:
    """The signals of one process. Delivery isolates listeners from one another: none can stop or starve the rest."""

    def __init__(self) -> None:
        self._signals = blinker.Namespace()
        self._listeners: list[Listener] = []
        self._groups: dict[GroupKey, AnyGroup] = {}

    def connect(self, listener: Listener) -> None:
        """Subscribe `listener`. Raises `HookError` when its hook does not fit its mode."""
        if listener.mode is Mode.WORK_QUEUE:
            raise HookError(
                f"{listener.plugin} subscribes to {listener.hook.name} in work-queue mode: that takes a group"
            )
        listener.hook.check_mode(listener.mode)
        self._signal(listener.hook.name, listener.mode).connect(listener, weak=False)
        self._listeners.append(listener)

    def add_group(self, group: AnyGroup) -> None:
        """Subscribe a worker group. Raises `HookError` when the plugin has one of that name already."""
        other = self._groups.setdefault(group.key, group)
        if other is not group:
            raise HookError(
                f"{group.plugin} already has the worker group {group.name}, for {other.what}: a group has one "
                "cursor, and so one hook and one handler; choose another name"
            )

    def groups(self) -> dict[GroupKey, AnyGroup]:
        """The worker groups that this process can serve."""
        return dict(self._groups)

    def disconnect_plugin(self, plugin: str) -> None:
        """Drop every subscription of `plugin`."""
        for key in [key for key in self._groups if key.plugin == plugin]:
            del self._groups[key]
        for listener in [one for one in self._listeners if one.plugin == plugin]:
            self._signal(listener.hook.name, listener.mode).disconnect(listener)
            self._listeners.remove(listener)

    def listeners(
        self, *, plugin: str | None = None, hook: str | None = None, mode: Mode | None = None
    ) -> tuple[Listener, ...]:
        """The subscriptions other than worker groups that fit, in the order in which they were made."""
        return tuple(
            one
            for one in self._listeners
            if plugin in {None, one.plugin} and hook in {None, one.hook.name} and mode in {None, one.mode}
        )

    def receivers(self, hook: str, mode: Mode) -> tuple[Listener, ...]:
        """Who is to be told of an event of `hook` in `mode`."""
        return tuple(cast("Listener", one) for one in self._signal(hook, mode).receivers_for(blinker.ANY))

    async def call(self, events: Mapping[Listener, Event[Any]]) -> tuple[Listener, ...]:
        """Call listeners side by side, each with its event, and return when all have finished: those that failed."""
        calls = [self._call(listener, event) for listener, event in events.items()]
        # A single one needs no task of its own, which costs more than most listeners do.
        done = [await calls[0]] if len(calls) == 1 else await asyncio.gather(*calls)
        return tuple(listener for listener, succeeded in zip(events, done, strict=True) if not succeeded)

    async def _call(self, listener: Listener, event: Event[Any]) -> bool:
        try:
            with contained("the listener"):
                async with asyncio.timeout(LISTENER_SECONDS):
                    with _span(listener, event):
                        await listener(event)
            return True
        except Exception as error:
            _log.exception(
                "listener failed",
                plugin=listener.plugin,
                hook=event.hook,
                position=event.position,
                error=describe(error),
            )
            return False

    def _signal(self, hook: str, mode: Mode) -> blinker.Signal:
        return self._signals.signal(f"{mode}:{hook}")
