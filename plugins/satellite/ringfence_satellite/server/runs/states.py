"""What becomes of a run: decided here from what is known of it and of its satellite. Pure.

    queued → delivered → running → ended: finished, cancelled, lost, refused or expired

A run is *queued* until its satellite is there, *delivered* when it was handed to a connection, and *running* once the
agent says that it has it (in its own queue, or at work). An agent knows a run by its id, so that one which is handed to
the same process again is still run once. What was handed to a process that is gone is never handed out again: nobody
can say whether it has begun.

An agent of an older release does not say which process it is. It gives up what it runs when its connection ends.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from uuid import UUID

from ringfence_satellite.service import RunOutcome


class State(enum.StrEnum):
    """How far a run has come."""

    QUEUED = "queued"
    DELIVERED = "delivered"
    RUNNING = "running"
    ENDED = "ended"


class Cause(enum.StrEnum):
    """What an agent says of why a run has no result."""

    CANCELLED = "cancelled"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Course:
    """A run that has not ended: where it was handed to, and whether somebody has asked for its end.

    `too_late`: its time to be delivered is over. `needs`: what an agent has to understand to run it as it is meant.
    """

    state: State
    connection: UUID | None = None
    process: str | None = None
    cancelled: bool = False
    too_late: bool = False
    needs: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class There:
    """The satellite's newest connection, and the agent's process behind it.

    Also whether that has said that it has the run: it is at it, or keeps its result. And what it `understands` that
    agents of the first release do not.
    """

    connection: UUID
    process: str | None
    holds: bool
    understands: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class HandOver:
    """Hand the script over to the connection that is there."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """The run goes on behind the connection that is there."""


@dataclass(frozen=True, slots=True)
class TellToStop:
    """Have the agent end it where it runs."""


@dataclass(frozen=True, slots=True)
class End:
    """It is over."""

    outcome: RunOutcome
    reason: str | None = None


Move = HandOver | Adopt | TellToStop | End

BEFORE_IT_BEGAN = "the run was cancelled before it began"
TOO_LATE = "the satellite did not connect in time to be given the run"
TOO_OLD = (
    "the satellite's agent is of an older release, which cannot run this as it is meant (its kind, or what it is "
    "given): upgrade the agent on it"
)
CUT_OFF = "the satellite's connection was lost during the run, and its agent keeps nothing beyond that"
STARTED_ANEW = "the satellite's agent was restarted; nobody knows whether the script had begun there"
NO_RESULT = "the satellite's agent no longer has the run's result"
NO_ANSWER = "the satellite did not answer in time"
NOT_BACK = "the satellite did not come back with the run's result"


def next_move(run: Course, there: There) -> Move | None:
    """What to do about a run whose satellite is there; None when it takes its course."""
    if run.state is State.QUEUED:
        return _hand_over(run, there)
    if run.connection == there.connection:
        return TellToStop() if run.cancelled else None
    if there.holds:
        return Adopt()
    if run.process is None or there.process is None:
        return End(RunOutcome.LOST, CUT_OFF)
    if run.process != there.process:
        return End(RunOutcome.LOST, STARTED_ANEW)
    if run.state is State.RUNNING:
        return End(RunOutcome.LOST, NO_RESULT)
    # The frame was lost with the connection that it was written to.
    return _hand_over(run, there)


def cancelled(run: Course) -> End | None:
    """What to do at once about a run that somebody does not want any more; None when its satellite has to be told."""
    return End(RunOutcome.CANCELLED, BEFORE_IT_BEGAN) if run.state is State.QUEUED else None


def cut_off(run: Course) -> End | None:
    """What to do about a run whose connection has ended; None when it goes on without."""
    return End(RunOutcome.LOST, CUT_OFF) if run.process is None else None


def unanswered(run: Course, *, away: bool) -> End:
    """How a run ends whose time is over: to be delivered, or to be answered. `away`: its satellite never came back."""
    if run.state is State.QUEUED:
        return End(RunOutcome.EXPIRED, TOO_LATE)
    return End(RunOutcome.LOST, NOT_BACK if away else NO_ANSWER)


def answered(error: str | None, cause: str | None) -> End:
    """How a run ends by its satellite's answer: a result, or an error and what has caused it."""
    if error is None:
        return End(RunOutcome.FINISHED)
    outcomes = {Cause.CANCELLED: RunOutcome.CANCELLED, Cause.STOPPED: RunOutcome.LOST}
    return End(outcomes.get(cause, RunOutcome.REFUSED), error)  # type: ignore[call-overload]


def _hand_over(run: Course, there: There) -> HandOver | End:
    if run.cancelled:
        return End(RunOutcome.CANCELLED, BEFORE_IT_BEGAN)
    if not run.needs <= there.understands:
        return End(RunOutcome.REFUSED, TOO_OLD)
    return End(RunOutcome.EXPIRED, TOO_LATE) if run.too_late else HandOver()
