"""What is recorded of a run's steps. Values alone: `steps_table.py` keeps them, and `course.py` decides by them.

All times are seconds since 1970, by the clock of the database.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class Status(enum.StrEnum):
    """How far an attempt at a step has come."""

    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is to come of it."""
        return self not in (Status.RUNNING, Status.WAITING)


class Ending(enum.StrEnum):
    """Why something that is under way has been told to end."""

    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The newest attempt at the step at one path.

    `started`: when its work began; that is written down before anything is done, so what has not started has done
    nothing. `failures` and `interruptions` are those of the attempts before this one. `state` is what a control step
    has decided.
    `heard_after`: the event log's last position when the wait for an event began.
    """

    path: str
    kind: str
    attempt: int = 1
    status: Status = Status.RUNNING
    begun: float
    started: float | None = None
    ended: float | None = None
    due: float | None = None
    hook: str | None = None
    heard_after: int | None = None
    failures: int = 0
    interruptions: int = 0
    state: Mapping[str, Any] = field(default_factory=dict)
    artifact: Mapping[str, Any] | None = None
    error: str | None = None
    ending: Ending | None = None
    ending_at: float | None = None
