"""What the record of a step becomes by what is told of it: its end, the loss of its instance, an event. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ringfence_automations.runs.deciding.records import Ending, Record, Status

NOT_KNOWN_TO_HAVE_ENDED = "it was told to end and is not known to have ended"
INTERRUPTED = "it was interrupted: it had started, and is not known to have ended"


def ended(
    record: Record, *, attempt: int, ok: bool, artifact: Mapping[str, Any], message: str, now: float
) -> Record | None:
    """The record of work whose end has been told; None if that end is too late to change anything.

    It changes nothing if the attempt has been given up, or its end is known.
    """
    if record.attempt != attempt or record.status is not Status.RUNNING:
        return None
    known = replace(record, ended=now, artifact=artifact)
    if ok:
        return replace(known, status=Status.SUCCEEDED, error=None)
    status = Status.CANCELLED if record.ending is Ending.CANCELLED else Status.FAILED
    return replace(known, status=status, error=record.error or message)


def interrupted(record: Record, *, attempt: int, now: float) -> Record | None:
    """The record of work that had started where nothing is known of it any more; None if its end is known."""
    if record.attempt != attempt or record.status is not Status.RUNNING or record.started is None:
        return None
    if record.ending is None:
        return replace(record, status=Status.INTERRUPTED, ended=now, error=INTERRUPTED)
    status = Status.CANCELLED if record.ending is Ending.CANCELLED else Status.FAILED
    error = NOT_KNOWN_TO_HAVE_ENDED if record.error is None else f"{record.error}; {NOT_KNOWN_TO_HAVE_ENDED}"
    return replace(record, status=status, ended=now, error=error)


def heard_event(record: Record, payload: Mapping[str, Any], *, now: float) -> Record:
    """The record of a wait whose event has happened."""
    return replace(record, status=Status.SUCCEEDED, ended=now, artifact={"event": payload})


def cannot_wait(record: Record, error: str, *, now: float) -> Record:
    """The record of a wait whose filter has failed, or that may not be told of such events."""
    return replace(record, status=Status.FAILED, ended=now, error=error)
