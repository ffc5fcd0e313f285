"""The jobs by which runs go on, and what each is handed."""

from __future__ import annotations

from uuid import UUID

from pydantic import StrictBool, StrictInt
from ringfence import Backoff, Job, Nothing, WireModel

_AGAIN = Backoff(first_seconds=1.0, longest_seconds=60.0)
_MANY = 1000
"""A run must end: a job about it is given up for good only where it fails for most of a day."""


class RunRef(WireModel):
    """A run."""

    run: UUID


class EndedRun(RunRef):
    """A run that has ended. `since_start`: nobody has told yet that it has begun, either."""

    since_start: StrictBool = False


class StepRef(WireModel):
    """An attempt at a step of a run."""

    run: UUID
    path: str
    attempt: StrictInt


class KeyRef(WireModel):
    """The runs of an automation that have a key in common."""

    automation: str
    key: str


ADVANCE = Job("advance-run", RunRef, max_attempts=_MANY, retry=_AGAIN, max_losses=None)
PERFORM_STEP = Job(
    "perform-step",
    StepRef,
    max_attempts=_MANY,
    retry=_AGAIN,
    # Scripts run in sandboxes, and a step that had started is not begun again: it brings no instance down.
    max_losses=None,
    deadline_seconds=None,
    at_once_here=32,
)
END_STEP = Job("end-step", StepRef, max_attempts=_MANY, retry=_AGAIN, max_losses=None)
ADMIT = Job("admit-runs", KeyRef, max_attempts=_MANY, retry=_AGAIN, max_losses=None)
TELL_STARTED = Job("tell-run-started", RunRef, max_attempts=_MANY, retry=_AGAIN, max_losses=None)
TELL_FINISHED = Job("tell-run-finished", EndedRun, max_attempts=_MANY, retry=_AGAIN, max_losses=None)
LOOK_AFTER = Job("look-after-runs", Nothing)
FORGET = Job("forget-runs", Nothing, deadline_seconds=3600.0)

ALL_JOBS = (ADVANCE, PERFORM_STEP, END_STEP, ADMIT, TELL_STARTED, TELL_FINISHED, LOOK_AFTER, FORGET)
