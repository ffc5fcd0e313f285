"""What a job is: its kind and payload as a plugin declares them, and what its handler is handed."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar
from uuid import UUID

from pydantic import BaseModel

from ringfence.backoff import pause

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

MAX_ATTEMPTS = 5
MAX_LOSSES = 3
DEADLINE_SECONDS = 300.0
AT_ONCE_HERE = 10
"""How many of one kind an instance does at once, unless the kind says otherwise."""
LONGEST_NAME = 80
LONGEST_KEY = 500

P = TypeVar("P", bound=BaseModel)
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


class JobError(RuntimeError):
    """A job is declared, enqueued or handled in a way that cannot work; the message says what to do."""


class JobFailed(Exception):
    """A handler raises this when another attempt would be of no use: the job has failed, with this message."""


class Nothing(BaseModel):
    """The payload of a job that needs none."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a failed job waits before it is tried again: drawn from 0 to a bound that doubles with each failure."""

    first_seconds: float = 1.0
    longest_seconds: float = 300.0

    def __post_init__(self) -> None:
        if not 0 <= self.first_seconds <= self.longest_seconds:
            raise JobError(
                "a backoff begins with 0 seconds or more, and its longest is not shorter than that"
            )

    def after(self, failures: int) -> float:
        """Seconds to wait after the `failures`-th failure (1, 2, …)."""
        return pause(failures, first=self.first_seconds, longest=self.longest_seconds)


@dataclass(frozen=True, slots=True)
class Job(Generic[P]):
    """A kind of work, and the pydantic model of what is handed to whoever does it.

    It is stored, and the command line shows it: a payload is no place for a secret.

    Args:
        name: the plugin's own, lower-case words joined by hyphens.
        payload: what a job of this kind carries.
        max_attempts: how often it may fail before it has failed for good.
        deadline_seconds: how long one attempt may take; None if it takes as long as it takes.
        at_once: how many of the kind run at once in the whole fleet; None if that does not matter.
        at_once_here: how many of the kind one instance does at once.
        retry: how long a failed one waits before it is tried again.
        max_losses: in the middle of how many attempts its instance may be lost before it has failed, since it may be
            what they died of; None if it is tried again whatever happens.
    """

    name: str
    payload: type[P]
    max_attempts: int = MAX_ATTEMPTS
    deadline_seconds: float | None = DEADLINE_SECONDS
    at_once: int | None = None
    at_once_here: int = AT_ONCE_HERE
    retry: Backoff = field(default_factory=Backoff)
    max_losses: int | None = MAX_LOSSES

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or len(self.name) > LONGEST_NAME:
            raise JobError(f"job name {self.name!r} must be lower-case words joined by hyphens")
        if not (isinstance(self.payload, type) and issubclass(self.payload, BaseModel)):
            raise JobError(f"job {self.name} carries {self.payload!r}, which is not a pydantic model")
        for what, number in (
            ("max_attempts", self.max_attempts),
            ("at_once", 1 if self.at_once is None else self.at_once),
            ("at_once_here", self.at_once_here),
            ("max_losses", 1 if self.max_losses is None else self.max_losses),
        ):
            if number < 1:
                raise JobError(f"job {self.name}: {what} must be 1 or more, not {number}")
        if self.deadline_seconds is not None and self.deadline_seconds <= 0:
            raise JobError(f"job {self.name}: deadline_seconds must be more than 0, or None for no deadline")


Report: TypeAlias = Callable[[int | None, int | None, str | None], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class RunningJob(Generic[P]):
    """One attempt at a job, as its handler gets it.

    `attempt` is 1 for the first one. A job whose instance died, or was stopped, in the middle of it begins again with
    the next number: what was done outside of the handler's session may have been done already.
    """

    id: UUID
    payload: P
    attempt: int
    enqueued_at: dt.datetime
    due_at: dt.datetime
    """When it was first due: for one of a timetable, the time that it stands for."""
    deadline: dt.datetime | None
    """When this attempt is cancelled, by this machine's clock."""
    actor: str | None
    key: str | None
    report: Report
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when somebody has cancelled the job, just before the handler itself is cancelled."""

    async def progress(self, done: int | None = None, of: int | None = None, text: str | None = None) -> None:
        """Tell how far this attempt is, for `ringfence jobs`; committed at once, outside of the handler's session."""
        await self.report(done, of, text)


JobHandler: TypeAlias = "Callable[[RunningJob[P], AsyncSession], Awaitable[None]]"
"""What does a job. What it writes in the session is committed together with the job's end: exactly once.

The session takes a connection with its first statement, of two that all jobs of an instance share: so do what takes
long before. It must not end the transaction.
"""
