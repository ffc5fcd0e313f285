"""Waits: what is recorded when one begins, whether it is over, and when to look at it again. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from ringfence_automations.runs.deciding.plan import (
    CannotEvaluateError,
    Evaluates,
    WaitEvent,
    WaitFor,
    WaitUntil,
)
from ringfence_automations.runs.deciding.records import Record, Status

Wait: TypeAlias = WaitFor | WaitUntil | WaitEvent


@dataclass(frozen=True, slots=True)
class Over:
    """A wait is over, and how."""

    status: Status
    error: str | None = None


def begun(step: Wait, fresh: Record, *, now: float, heard: int) -> Record:
    """The record of a wait that begins now, where the event log's last position is `heard`."""
    if isinstance(step, WaitFor):
        return replace(fresh, status=Status.WAITING, due=now + step.seconds)
    waiting = replace(fresh, status=Status.WAITING, due=after(now, step.timeout))
    return replace(waiting, hook=step.hook, heard_after=heard) if isinstance(step, WaitEvent) else waiting


def look(
    step: Wait, record: Record, *, now: float, holds: Callable[[Evaluates], bool]
) -> Over | float | None:
    """Whether a wait is over, or else when to look again; None: whenever something happens."""
    is_due = record.due is not None and now >= record.due
    if isinstance(step, WaitFor):
        return Over(Status.SUCCEEDED) if is_due else record.due
    if isinstance(step, WaitUntil):
        try:
            if holds(step.condition):
                return Over(Status.SUCCEEDED)
        except CannotEvaluateError as error:
            return Over(Status.FAILED, str(error))
    if is_due:
        what = "its condition did not hold" if isinstance(step, WaitUntil) else "its event did not happen"
        return Over(Status.FAILED, f"{what} within {step.timeout:g} seconds")
    soon = now + step.every if isinstance(step, WaitUntil) else None
    times = [one for one in (soon, record.due) if one is not None]
    return min(times, default=None)


def after(begin: float, seconds: float | None) -> float | None:
    """When so long has passed; None if nobody says how long."""
    return None if seconds is None else begin + seconds
