"""Hooks: typed facts that one plugin emits and others subscribe to."""

from __future__ import annotations

import datetime as dt
import enum
import inspect
import re
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from ringfence.bounded import UnstorableError

P = TypeVar("P", bound=BaseModel)
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
"""What hooks and worker groups are called like."""


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
    shown only to whoever holds the access rule named by `payload_rule`, and without one to nobody. Automations may be
    started by it for whoever holds that rule, and without one for everybody.
    """

    name: str
    payload: type[P]
    stored: bool = True
    stream: str | None = None
    keep_forever: bool = False
    payload_rule: str | None = None

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
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
    traceparent: str | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class AnyEvent:
    """One stored fact, of whichever hook, with its payload as JSON.

    The payload is as the hook's model writes it now, with its defaults and computed fields, also of an event that an
    earlier release has stored; of a hook that no plugin of this instance declares, it is as it was stored.
    """

    payload: dict[str, Any]
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
