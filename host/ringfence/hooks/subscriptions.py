"""Subscriptions: who listens to what, and the coroutine function that is called."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import structlog

from ringfence.acting import Acting, acting
from ringfence.hooks.facts import NAME, AnyEvent, Event, Hook, HookError, Mode, P
from ringfence.redaction import describe

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

MAX_RETRIES = 5
"""How often a worker group tries an event again, unless it says otherwise."""

_log = structlog.get_logger("ringfence.hooks")


Handler: TypeAlias = Callable[[Event[P]], Awaitable[None]]
"""What a broadcast or instance-local subscription is: a coroutine function that is handed the event."""

WorkHandler: TypeAlias = "Callable[[Event[P], AsyncSession], Awaitable[None]]"
"""What a work-queue subscription is: it gets the transaction too, in which the group's cursor will advance.

What it writes there happens exactly once. It must not end that transaction.
"""

AnyWorkHandler: TypeAlias = "Callable[[AnyEvent, AsyncSession], Awaitable[None]]"
"""What a work-queue subscription to the events of many hooks is."""


@dataclass(frozen=True, slots=True, eq=False)
class Listener:
    """One subscription: who listens, to what, and the coroutine function that is called."""

    plugin: str
    hook: Hook[Any]
    mode: Mode
    handler: Handler[Any]

    def __post_init__(self) -> None:
        _check_takes(self.handler, "event", plugin=self.plugin, what=self.hook.name)

    async def __call__(self, event: Event[Any]) -> None:
        with acting(_doing(self.plugin, self.what, self.handler)):
            await _awaitable(self.handler(event), self.handler)

    @property
    def what(self) -> str:
        """Whose events it gets, as people are told."""
        return self.hook.name


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
        _check_group(self.name, self.max_retries)
        self.hook.check_mode(Mode.WORK_QUEUE)
        _check_takes(self.handler, "event, session", plugin=self.plugin, what=self.what)

    async def __call__(self, event: Event[Any], session: AsyncSession) -> None:
        with acting(_doing(self.plugin, self.what, self.handler)):
            await _awaitable(self.handler(event, session), self.handler)

    @property
    def key(self) -> GroupKey:
        """What identifies the group in the fleet."""
        return GroupKey(self.plugin, self.name)

    @property
    def what(self) -> str:
        """Whose events it gets, as people are told."""
        return self.hook.name


@dataclass(frozen=True, slots=True, eq=False)
class EventsGroup:
    """One work-queue subscription to the events of all stored hooks whose names are `wanted`, in the log's order."""

    plugin: str
    name: str
    wanted: Callable[[str], bool]
    handler: AnyWorkHandler
    max_retries: int = MAX_RETRIES

    def __post_init__(self) -> None:
        _check_group(self.name, self.max_retries)
        _check_takes(self.wanted, "hook", plugin=self.plugin, what=self.what, wanted="def wanted(hook)")
        _check_takes(self.handler, "event, session", plugin=self.plugin, what=self.what)

    async def __call__(self, event: AnyEvent, session: AsyncSession) -> None:
        with acting(_doing(self.plugin, self.what, self.handler)):
            await _awaitable(self.handler(event, session), self.handler)

    def wants(self, hook: str) -> bool:
        """Whether events of this hook are for it. One that cannot say gets them, so that none is lost."""
        try:
            return bool(self.wanted(hook))
        except Exception as error:
            _log.exception(
                "a worker group cannot say which events it wants, and gets all",
                plugin=self.plugin,
                worker_group=self.name,
                hook=hook,
                error=describe(error),
            )
            return True

    @property
    def key(self) -> GroupKey:
        """What identifies the group in the fleet."""
        return GroupKey(self.plugin, self.name)

    @property
    def what(self) -> str:
        """Whose events it gets, as people are told."""
        return "all hooks"


AnyGroup: TypeAlias = "WorkGroup | EventsGroup"


def _check_group(name: str, max_retries: int) -> None:
    if not NAME.fullmatch(name):
        raise HookError(f"worker group {name!r} must be lower-case words joined by hyphens")
    if max_retries < 0:
        raise HookError(f"worker group {name}: max_retries must be 0 or more, not {max_retries}")


def _check_takes(
    handler: Callable[..., object], arguments: str, *, plugin: str, what: str, wanted: str | None = None
) -> None:
    """Raise `HookError` when `handler` cannot be called with `arguments`: at the first event it would be too late."""
    wanted = wanted or f"async def {getattr(handler, '__name__', 'handler')}({arguments})"
    if not callable(handler):
        raise HookError(f"{plugin} subscribes to {what} with {handler!r}, which is not a function: {wanted}")
    try:
        signature = inspect.signature(handler)
    except ValueError:
        return  # some built-in callables do not tell
    try:
        signature.bind(*arguments.split(", "))
    except TypeError as error:
        raise HookError(
            f"{plugin} subscribes to {what} with {_name(handler)}{signature}, which would be called with "
            f"({arguments}): {wanted}; a handler gets a session in work-queue mode, and only there"
        ) from error


def _awaitable(result: Awaitable[None], handler: Callable[..., object]) -> Awaitable[None]:
    """What a handler answers when it is called, if that is something to await."""
    if not inspect.isawaitable(result):
        raise HookError(
            f"{_name(handler)} returned {type(result).__name__}, which cannot be awaited: write it as `async def`"
        )
    return result


def _doing(plugin: str, hook: str, handler: object) -> Acting:
    return {"plugin": plugin, "hook": hook, "handler": _name(handler)}


def _name(handler: object) -> str:
    return str(getattr(handler, "__qualname__", repr(handler)))
