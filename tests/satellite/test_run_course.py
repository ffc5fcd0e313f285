"""What becomes of a run, by what is known of it and of its satellite: each case is a line."""

from __future__ import annotations

import uuid

import pytest
from ringfence_satellite.server.runs import states
from ringfence_satellite.server.runs.states import (
    Adopt,
    Course,
    End,
    HandOver,
    Move,
    State,
    TellToStop,
    There,
    answered,
    cut_off,
    next_move,
    unanswered,
)
from ringfence_satellite.service import RunOutcome

OLD, NEW = uuid.uuid4(), uuid.uuid4()
QUEUED = Course(State.QUEUED)
DELIVERED = Course(State.DELIVERED, OLD, "p")
RUNNING = Course(State.RUNNING, OLD, "p")
SAME = There(NEW, "p", holds=False)
NEEDY = Course(State.QUEUED, needs=frozenset({"task"}))
LOST, REFUSED = RunOutcome.LOST, RunOutcome.REFUSED


def but(run: Course, **fields: object) -> Course:
    values = {name: getattr(run, name) for name in Course.__dataclass_fields__}
    return Course(**{**values, **fields})


@pytest.mark.parametrize(
    ("run", "there", "move"),
    [
        (QUEUED, SAME, HandOver()),
        (QUEUED, There(NEW, None, holds=False), HandOver()),
        (NEEDY, There(NEW, None, holds=False), End(REFUSED, states.TOO_OLD)),
        (NEEDY, There(NEW, "p", holds=False, understands=frozenset({"more"})), End(REFUSED, states.TOO_OLD)),
        (NEEDY, There(NEW, "p", holds=False, understands=frozenset({"more", "task"})), HandOver()),
        (but(QUEUED, too_late=True), SAME, End(RunOutcome.EXPIRED, states.TOO_LATE)),
        (but(QUEUED, cancelled=True), SAME, End(RunOutcome.CANCELLED, states.BEFORE_IT_BEGAN)),
        # Behind the connection that it was handed to.
        (DELIVERED, There(OLD, "p", holds=False), None),
        (RUNNING, There(OLD, "p", holds=False), None),
        (but(RUNNING, too_late=True), There(OLD, "p", holds=False), None),
        (but(RUNNING, cancelled=True), There(OLD, "p", holds=False), TellToStop()),
        # The agent has come back, and has it.
        (DELIVERED, There(NEW, "p", holds=True), Adopt()),
        (RUNNING, There(NEW, "p", holds=True), Adopt()),
        (but(RUNNING, cancelled=True), There(NEW, "p", holds=True), Adopt()),
        # It was started anew, and has kept the result.
        (RUNNING, There(NEW, "q", holds=True), Adopt()),
        # It never got it.
        (DELIVERED, SAME, HandOver()),
        (but(DELIVERED, cancelled=True), SAME, End(RunOutcome.CANCELLED, states.BEFORE_IT_BEGAN)),
        (but(DELIVERED, too_late=True), SAME, End(RunOutcome.EXPIRED, states.TOO_LATE)),
        # Nobody can say whether it has begun, or it is gone.
        (DELIVERED, There(NEW, "q", holds=False), End(LOST, states.STARTED_ANEW)),
        (RUNNING, There(NEW, "q", holds=False), End(LOST, states.STARTED_ANEW)),
        (RUNNING, SAME, End(LOST, states.NO_RESULT)),
        # Agents of older releases keep nothing.
        (but(DELIVERED, process=None), There(NEW, None, holds=False), End(LOST, states.CUT_OFF)),
        (but(DELIVERED, process=None), SAME, End(LOST, states.CUT_OFF)),
        (RUNNING, There(NEW, None, holds=False), End(LOST, states.CUT_OFF)),
    ],
)
def test_what_is_done_about_a_run_whose_satellite_is_there(
    run: Course, there: There, move: Move | None
) -> None:
    assert next_move(run, there) == move


@pytest.mark.parametrize("process", [None, "p", "q"])
@pytest.mark.parametrize("state", [State.DELIVERED, State.RUNNING])
@pytest.mark.parametrize("cancelled", [False, True])
def test_what_was_handed_to_another_process_is_never_handed_over_again(
    process: str | None, state: State, *, cancelled: bool
) -> None:
    for at in (None, "p", "q"):
        for holds in (False, True):
            run = Course(state, OLD, process, cancelled=cancelled)
            if isinstance(next_move(run, There(NEW, at, holds)), HandOver):
                assert process == at is not None
                assert (state, holds, cancelled) == (State.DELIVERED, False, False)


def test_the_other_ends() -> None:
    assert states.cancelled(QUEUED) == End(RunOutcome.CANCELLED, states.BEFORE_IT_BEGAN)
    assert states.cancelled(DELIVERED) is None
    assert cut_off(RUNNING) is None
    assert cut_off(but(DELIVERED, process=None)) == End(LOST, states.CUT_OFF)
    assert unanswered(QUEUED, away=False) == End(RunOutcome.EXPIRED, states.TOO_LATE)
    assert unanswered(RUNNING, away=False) == End(LOST, states.NO_ANSWER)
    assert unanswered(RUNNING, away=True) == End(LOST, states.NOT_BACK)
    assert answered(None, None) == End(RunOutcome.FINISHED)
    assert answered("busy", None) == End(RunOutcome.REFUSED, "busy")
    assert answered("no", "something newer") == End(RunOutcome.REFUSED, "no")
    assert answered("ended", "cancelled") == End(RunOutcome.CANCELLED, "ended")
    assert answered("stopped", "stopped") == End(LOST, "stopped")
