"""Hooks: typed facts that one plugin emits and others subscribe to, and the in-process bus that carries them.

`Hook` and `Event` are what plugins see. `HookBus` is the last step of a delivery: a blinker signal per hook and
mode. How a stored event gets from the database to the bus is the event log's business (`ringfence.eventlog`).
"""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import blinker
import structlog
from pydantic import BaseModel

LISTENER_SECONDS = 30.0
"""How long one listener may take over one event before it is cancelled and logged."""

P = TypeVar("P", bound=BaseModel)
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_log = structlog.get_logger("ringfence.hooks")


class HookError(RuntimeError):
    """A hook is declared, emitted or subscribed to in a way that cannot work; the message says what to do."""


class Mode(enum.StrEnum):
    """How a hook is delivered."""

    BROADCAST = "broadcast"
    """To every live instance, in order, at least once."""
    WORK_QUEUE = "work-queue"
    """To one instance of the fleet per worker group, in order, with retries."""
    INSTANCE_LOCAL = "instance-local"
    """To this process alone; never stored."""


@dataclass(frozen=True, slots=True)
class Hook(Generic[P]):
    """A kind of fact: its name, and the pydantic model that its payload must be.

    A stored hook (the default) is recorded in the event log when it is emitted, and can be subscribed to in
    broadcast and work-queue mode. A hook with `stored=False` lives in this process alone.

    `stream` names the versioned stream that its events belong to (default: `<plugin>.<hook>`), and `keep_forever`
    exempts that stream from retention.
    """

    name: str
    payload: type[P]
    stored: bool = True
    stream: str | None = None
    keep_forever: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise HookError(f"hook name {self.name!r} must be lower-case words joined by hyphens")

    def check_mode(self, mode: Mode) -> None:
        """Raise `HookError` when this hook cannot be subscribed to in `mode`."""
        if self.stored == (mode is Mode.INSTANCE_LOCAL):
            fitting = "broadcast or work-queue" if self.stored else "instance-local"
            raise HookError(f"hook {self.name} cannot be subscribed to in mode {mode}; use {fitting}")


@dataclass(frozen=True, slots=True)
class Event(Generic[P]):
    """One fact, as it is delivered. `position` and `version` are 0 for an event that was never stored."""

    payload: P
    hook: str
    plugin: str
    position: int
    stream: str
    version: int
    actor: str | None
    reason: str | None
    occurred_at: dt.datetime


Handler = Callable[[Event[P]], Awaitable[None]]


@dataclass(frozen=True, slots=True, eq=False)
class Listener:
    """One subscription: who listens, to what, and the coroutine function that is called."""

    plugin: str
    hook: Hook[Any]
    mode: Mode
    handler: Handler[Any]

    async def __call__(self, event: Event[Any]) -> None:
        await self.handler(event)


class HookBus:
    """The signals of one process. Delivery isolates listeners from one another: none can stop or starve the rest."""

    def __init__(self) -> None:
        self._signals = blinker.Namespace()
        self._listeners: list[Listener] = []

    def connect(self, listener: Listener) -> None:
        """Subscribe `listener`. Raises `HookError` when its hook does not fit its mode."""
        listener.hook.check_mode(listener.mode)
        self._signal(listener.hook.name, listener.mode).connect(listener, weak=False)
        self._listeners.append(listener)

    def disconnect_plugin(self, plugin: str) -> None:
        """Drop every subscription of `plugin`."""
        for listener in [one for one in self._listeners if one.plugin == plugin]:
            self._signal(listener.hook.name, listener.mode).disconnect(listener)
            self._listeners.remove(listener)

    def listeners(self, *, plugin: str | None = None) -> tuple[Listener, ...]:
        """The subscriptions, all or one plugin's, in the order in which they were made."""
        return tuple(one for one in self._listeners if plugin is None or one.plugin == plugin)

    def hooks(self, mode: Mode) -> dict[str, Hook[Any]]:
        """The hooks that somebody in this process listens to in `mode`, by name."""
        return {one.hook.name: one.hook for one in self._listeners if one.mode is mode}

    async def deliver(self, event: Event[Any], mode: Mode) -> None:
        """Call every listener of the event's hook in `mode`, side by side, and return when all have finished."""
        receivers = self._signal(event.hook, mode).receivers_for(blinker.ANY)
        await asyncio.gather(*(self._call(cast("Listener", receiver), event) for receiver in receivers))

    async def _call(self, listener: Listener, event: Event[Any]) -> None:
        try:
            async with asyncio.timeout(LISTENER_SECONDS):
                await listener(event)
        except Exception as error:
            _log.exception(
                "listener failed",
                plugin=listener.plugin,
                hook=event.hook,
                position=event.position,
                error=f"{type(error).__name__}: {error}",
            )

    def _signal(self, hook: str, mode: Mode) -> blinker.Signal:
        return self._signals.signal(f"{mode}:{hook}")
