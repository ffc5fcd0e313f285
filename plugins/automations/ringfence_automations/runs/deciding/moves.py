"""What is to be done about a run: the answer of `course.py`."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from ringfence_automations.runs.deciding.records import Ending, Record


class Outcome(enum.StrEnum):
    """How a run has ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Closing:
    """Why the whole run is told to end, and what it ends as."""

    why: Ending
    status: Outcome
    message: str | None = None


@dataclass(frozen=True, slots=True)
class End:
    """The run is over."""

    status: Outcome
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """What is to be recorded, and done when it is.

    `written`: every record that is new or has changed, in this order. Of these, the work of those in `begin` is to be
    begun, and that in `tell_to_end` is to be ended where it is. `wake`: when to ask again, though nothing happens.
    """

    written: Sequence[Record] = ()
    begin: Sequence[Record] = ()
    tell_to_end: Sequence[Record] = ()
    wake: float | None = None
    closing: Closing | None = None
    end: End | None = None
