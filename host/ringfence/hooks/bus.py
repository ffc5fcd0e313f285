"""Hooks: typed facts that one plugin emits and others subscribe to, and the in-process bus that carries them.

`Hook` and `Event` are what plugins see. `HookBus` is the last step of a delivery: a blinker signal per hook and
mode. How a stored event gets from the database to the bus is the event log's business (`ringfence.eventlog`).
"""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeAlias, TypeVar, cast

import blinker
import structlog
from pydantic import BaseModel

from ringfence.bounded import UnstorableError
from ringfence.redaction import describe
from ringfence.tasks import contained

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

LISTENER_SECONDS = 30.0
"""How long one listener may take over one event before it is cancelled and logged."""
MAX_RETRIES = 5
"""How often a worker group tries an event again, unless it says otherwise."""

P = TypeVar("P", bound=BaseModel)
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_log = structlog.get_logger("ringfence.hooks")


class HookError(UnstorableError, RuntimeError):
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

    What is stored stays for long, and the command line shows it: a payload is no place for a secret. Over HTTP it is
    shown only to whoever holds the access rule named by `payload_rule`, and without one to nobody.
    """

    name: str
    payload: type[P]
    stored: bool = True
    stream: str | None = None
    keep_forever: bool = False
    payload_rule: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise HookError(f"hook name {self.name!r} must be lower-case words joined by hyphens")
        if not (inspect.isclass(self.payload) and issubclass(self.payload, BaseModel)):
            raise HookError(
                f"hook {self.name} carries {self.payload!r}, which is not a pydantic model: "
                "make one with a field for it; "
                "what may be one of several models is a RootModel[One | Another]"
            )

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


def unstored_event(
    hook: Hook[P], payload: P, *, plugin: str, actor: str | None = None, reason: str | None = None
) -> Event[P]:
    """What happens now, in this process alone."""
    now = dt.datetime.now(dt.UTC)
    return Event(payload, hook.name, plugin, 0, "", 0, actor, reason, now)


Handler: TypeAlias = Callable[[Event[P]], Awaitable[None]]
"""What a broadcast or instance-local subscription is: a coroutine function that is handed the event."""

WorkHandler: TypeAlias = "Callable[[Event[P], AsyncSession], Awaitable[None]]"
"""What a work-queue subscription is: it gets the transaction too, in which the group's cursor will advance.

What it writes there happens exactly once. It must not end that transaction.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Listener:
    """One subscription: who listens, to what, and the coroutine function that is called."""

    plugin: str
    hook: Hook[Any]
    mode: Mode
    handler: Handler[Any]

    def __post_init__(self) -> None:
        _check_takes(self.handler, "event", plugin=self.plugin, hook=self.hook)

    async def __call__(self, event: Event[Any]) -> None:
        await _awaitable(self.handler(event), self.handler)


class GroupKey(NamedTuple):
    """A worker group's name, scoped to its plugin."""

    plugin: str
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class WorkGroup:
    """One work-queue subscription: of the whole fleet, one instance at a time runs `handler` for the group.

    An event is tried once and then `max_retries` times more before it is set aside.
    """

    plugin: str
    name: str
    hook: Hook[Any]
    handler: WorkHandler[Any]
    max_retries: int = MAX_RETRIES

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise HookError(f"worker group {self.name!r} must be lower-case words joined by hyphens")
        if self.max_retries < 0:
            raise HookError(
                f"worker group {self.name}: max_retries must be 0 or more, not {self.max_retries}"
            )
        self.hook.check_mode(Mode.WORK_QUEUE)
        _check_takes(self.handler, "event, session", plugin=self.plugin, hook=self.hook)

    async def __call__(self, event: Event[Any], session: AsyncSession) -> None:
        await _awaitable(self.handler(event, session), self.handler)

    @property
    def key(self) -> GroupKey:
        """What identifies the group in the fleet."""
        return GroupKey(self.plugin, self.name)


def _check_takes(handler: Callable[..., object], arguments: str, *, plugin: str, hook: Hook[Any]) -> None:
    """Raise `HookError` when `handler` cannot be called with `arguments`: at the first event it would be too late."""
    wanted = f"async def {getattr(handler, '__name__', 'handler')}({arguments})"
    if not callable(handler):
        raise HookError(
            f"{plugin} subscribes to {hook.name} with {handler!r}, which is not a function: {wanted}"
        )
    try:
        signature = inspect.signature(handler)
    except ValueError:
        return  # some built-in callables do not tell
    try:
        signature.bind(*arguments.split(", "))
    except TypeError as error:
        raise HookError(
            f"{plugin} subscribes to {hook.name} with {_name(handler)}{signature}, which would be called with "
            f"({arguments}): {wanted}; a handler gets a session in work-queue mode, and only there"
        ) from error


def _awaitable(result: Awaitable[None], handler: Callable[..., object]) -> Awaitable[None]:
    """What a handler answers when it is called, if that is something to await."""
    if not inspect.isawaitable(result):
        raise HookError(
            f"{_name(handler)} returned {type(result).__name__}, which cannot be awaited: write it as `async def`"
        )
    return result


def _name(handler: object) -> str:
    return str(getattr(handler, "__qualname__", repr(handler)))


class HookBus:
    """The signals of one process. Delivery isolates listeners from one another: none can stop or starve the rest."""

    def __init__(self) -> None:
        self._signals = blinker.Namespace()
        self._listeners: list[Listener] = []
        self._groups: dict[GroupKey, WorkGroup] = {}

    def connect(self, listener: Listener) -> None:
        """Subscribe `listener`. Raises `HookError` when its hook does not fit its mode."""
        if listener.mode is Mode.WORK_QUEUE:
            raise HookError(
                f"{listener.plugin} subscribes to {listener.hook.name} in work-queue mode: that takes a group"
            )
        listener.hook.check_mode(listener.mode)
        self._signal(listener.hook.name, listener.mode).connect(listener, weak=False)
        self._listeners.append(listener)

    def add_group(self, group: WorkGroup) -> None:
        """Subscribe a worker group. Raises `HookError` when the plugin has one of that name already."""
        other = self._groups.setdefault(group.key, group)
        if other is not group:
            raise HookError(
                f"{group.plugin} already has the worker group {group.name}, for {other.hook.name}: a group has one "
                "cursor, and so one hook and one handler; choose another name"
            )

    def groups(self) -> dict[GroupKey, WorkGroup]:
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
