"""Hooks: typed facts, who listens to them, and how they get there."""

from ringfence.hooks.bus import LISTENER_SECONDS, HookBus
from ringfence.hooks.directory import DeclaredHook, HookDirectory
from ringfence.hooks.facts import AnyEvent, Event, Hook, HookError, Mode, P, unstored_event
from ringfence.hooks.subscriptions import (
    MAX_RETRIES,
    AnyGroup,
    AnyWorkHandler,
    EventsGroup,
    GroupKey,
    Handler,
    Listener,
    WorkGroup,
    WorkHandler,
)

__all__ = [
    "LISTENER_SECONDS",
    "MAX_RETRIES",
    "AnyEvent",
    "AnyGroup",
    "AnyWorkHandler",
    "DeclaredHook",
    "Event",
    "EventsGroup",
    "GroupKey",
    "Handler",
    "Hook",
    "HookBus",
    "HookDirectory",
    "HookError",
    "Listener",
    "Mode",
    "P",
    "WorkGroup",
    "WorkHandler",
    "unstored_event",
]
