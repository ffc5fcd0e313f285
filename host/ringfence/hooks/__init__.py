"""Hooks: typed facts, who listens to them, and how they get there."""

from ringfence.hooks.bus import (
    LISTENER_SECONDS,
    MAX_RETRIES,
    Event,
    GroupKey,
    Handler,
    Hook,
    HookBus,
    HookError,
    Listener,
    Mode,
    P,
    WorkGroup,
    WorkHandler,
    unstored_event,
)

__all__ = [
    "LISTENER_SECONDS",
    "MAX_RETRIES",
    "Event",
    "GroupKey",
    "Handler",
    "Hook",
    "HookBus",
    "HookError",
    "Listener",
    "Mode",
    "P",
    "WorkGroup",
    "WorkHandler",
    "unstored_event",
]
