"""What to do with the event that comes next: decided purely, from what is written about earlier attempts at it.

Threat: an event at which the handler takes its whole process down (a crash of the interpreter, `os._exit`, no memory
left). The transaction of the attempt goes with the process, and what it had counted too, so the event would be tried
for ever, and would take down one instance after another. Mechanism: an attempt by an instance that has not handled
anything in the group yet is *counted beforehand*, in a transaction of its own, under the instance's name. Whoever finds
a counted attempt without an outcome looks whether that instance is still heard of; if not, the attempt has failed.
Once an instance has got past an event it is trusted and counts afterwards, so a group that works pays nothing.
Not covered: the first death, of an instance that was trusted, is held against no event, since it may have died of
anything; so an event can take down one process more than it has attempts. And of several groups that were at a counted
attempt when their process died, each is held to have failed: nobody knows which of them it was.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Begun(enum.Enum):
    """Whether an attempt was counted beforehand that has no outcome, and what became of who counted it."""

    NOT = enum.auto()
    """There is none."""
    HERE = enum.auto()
    """This instance counted it: a moment ago, or its connection was lost since, which is nobody's fault."""
    LEFT = enum.auto()
    """Another instance did, which has given the group up in good order, or is still heard of."""
    VANISHED = enum.auto()
    """Another instance did, and has not been heard of since."""


@dataclass(frozen=True, slots=True)
class Count:
    """Count attempt `number` first, and look again."""

    number: int


@dataclass(frozen=True, slots=True)
class Try:
    """Hand the event to the handler: attempt `number`."""

    number: int


@dataclass(frozen=True, slots=True)
class Died:
    """Attempt `number` has failed: its process died in the middle of it."""

    number: int


def next_move(attempts: int, begun: Begun, *, trusted: bool) -> Count | Try | Died:
    """What to do, after `attempts` counted attempts, on an instance that is `trusted` with the group or is not."""
    match begun:
        case Begun.VANISHED:
            return Died(attempts)
        case Begun.HERE:
            return Try(attempts)
        case Begun.LEFT:
            return Count(attempts)
        case Begun.NOT:
            return Try(attempts + 1) if trusted else Count(attempts + 1)
