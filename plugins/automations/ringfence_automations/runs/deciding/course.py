"""What a run does next: decided here from its plan, what is recorded of its steps, and the time. Pure.

The plan is walked from its beginning each time. What has ended is passed over, what is under way is looked at, and what
can begin is begun, until nothing more follows. All of it is then recorded in one transaction by the caller, who has the
run's row locked. So a decision is made once, whichever instance makes it, and it can be made again from the records.

A step, a sequence or the whole run that is told to end is *closed*: nothing in it begins any more, what has not started
is cancelled, and what has started is told to end and waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ringfence_automations.definitions.step import OnInterrupted, StopStatus
from ringfence_automations.runs.deciding import waits
from ringfence_automations.runs.deciding.moves import Closing, End, Moves, Outcome
from ringfence_automations.runs.deciding.outcomes import DONE, UNDER_WAY, Came, Failed, together
from ringfence_automations.runs.deciding.plan import (
    CannotEvaluateError,
    Choose,
    Evaluates,
    Parallel,
    Plan,
    Repeat,
    Step,
    Stop,
    WaitEvent,
    WaitFor,
    WaitUntil,
    Work,
    option_of,
)
from ringfence_automations.runs.deciding.records import Ending, Record, Status
from ringfence_automations.runs.deciding.told import INTERRUPTED, NOT_KNOWN_TO_HAVE_ENDED
from ringfence_automations.runs.deciding.visible import Visible

MAX_STEPS = 5000
"""How many steps a run may begin: each is a row, and all of them are read whenever one has ended."""
MAX_INTERRUPTIONS = 5
"""How often a step is begun again after it was interrupted: it may be what ends the instances that run it."""
TIMEOUT_GRACE_SECONDS = 5.0
"""How long after its time a step may end by itself: it knows its deadline, and then tells what it has done so far."""
TIMEOUT_PATIENCE_SECONDS = 60.0
"""How long a step that took too long may take to end."""
CANCEL_PATIENCE_SECONDS = 2 * 3600.0
"""How long the end of a step is waited for that was told to end: a satellite may be away for an hour, and come back."""


_Inside = Callable[[Record, bool], Came]


def advance(
    plan: Plan,
    records: Mapping[str, Record],
    *,
    values: Mapping[str, Any],
    now: float,
    closing: Closing | None = None,
    heard: int = 0,
    max_steps: int = MAX_STEPS,
) -> Moves:
    """What a run does next.

    `values`: what expressions may use beside artifacts. `heard`: the event log's last position. `closing`: what the
    caller was told with the last moves, or that somebody has cancelled the run.
    """
    walk = _Walk(plan, dict(records), values, now, heard, max_steps)
    if closing is None:
        outcome = walk.sequence(plan.steps, "", closed=False)
        closing = walk.closing
        if closing is None and isinstance(outcome, Failed):
            closing = Closing(Ending.FAILED, Outcome.FAILED, outcome.message)
        if closing is None:
            end = End(Outcome.SUCCEEDED) if outcome is DONE else None
            return walk.moves(end=end, closing=None)
    outcome = walk.sequence(plan.steps, "", closed=True)
    end = None if outcome is UNDER_WAY else End(closing.status, closing.message)
    return walk.moves(end=end, closing=closing)


@dataclass(slots=True)
class _Walk:
    plan: Plan
    records: dict[str, Record]
    values: Mapping[str, Any]
    now: float
    heard: int
    max_steps: int
    visible: Visible = field(init=False)
    closing: Closing | None = None
    written: dict[str, Record] = field(default_factory=dict)
    begin: dict[str, Record] = field(default_factory=dict)
    told: dict[str, Record] = field(default_factory=dict)
    wake: float | None = None

    def __post_init__(self) -> None:
        self.visible = Visible(self.plan, self.records.values(), self.values)

    def moves(self, *, end: End | None, closing: Closing | None) -> Moves:
        return Moves(
            written=tuple(self.written.values()),
            begin=tuple(self.begin.values()),
            tell_to_end=tuple(self.told.values()),
            wake=None if end is not None else self.wake,
            closing=closing,
            end=end,
        )

    def sequence(self, steps: Sequence[Step], prefix: str, *, closed: bool) -> Came:
        """One step after another, until one is under way or has failed."""
        for step in steps:
            outcome = self.step(step, prefix + step.id, closed=closed)
            if outcome is not DONE:
                return outcome
        return DONE

    def step(self, step: Step, path: str, *, closed: bool) -> Came:
        record = self.records.get(path)
        if record is None and (closed or self.closing is not None):
            # What has been told to end begins nothing, and nothing that comes after it has a record.
            return DONE if closed else UNDER_WAY
        if record is None and len(self.records) >= self.max_steps:
            text = f"step {path}: a run may begin {self.max_steps} steps, and this is one more"
            self.closing = Closing(Ending.FAILED, Outcome.FAILED, text)
            return UNDER_WAY
        if record is None:
            record = self._opened(step, path)
        match step:
            case Work():
                return self._work(step, record, closed=closed)
            case WaitFor() | WaitUntil() | WaitEvent():
                return self._wait(step, record, closed=closed)
            case Choose():
                return self._around(step, record, self._chosen(step, path), closed=closed)
            case Parallel():
                return self._around(step, record, self._branches(step, path), closed=closed)
            case Repeat():
                return self._around(step, record, self._rounds(step, path), closed=closed)
            case Stop():
                return self._stop(step, record)
        raise AssertionError(f"there is no way to do a step of the kind {type(step).__name__}")

    # What begins.

    def _opened(self, step: Step, path: str) -> Record:
        """The first record of a step that is reached now. It has ended if the step is not to be done or cannot be."""
        fresh = Record(path=path, kind=kind_of(step), begun=self.now)
        try:
            if step.when is not None and not self._holds(step.when, path):
                return self._ended(fresh, Status.SKIPPED)
            return self._first(step, fresh)
        except CannotEvaluateError as error:
            return self._ended(fresh, Status.FAILED, str(error))

    def _first(self, step: Step, fresh: Record) -> Record:
        match step:
            case Work():
                return self._begun(fresh)
            case WaitFor() | WaitUntil() | WaitEvent():
                return self._write(waits.begun(step, fresh, now=self.now, heard=self.heard))
            case Choose():
                holding = (
                    number
                    for number, (condition, _) in enumerate(step.options)
                    if self._holds(condition, fresh.path)
                )
                return self._write(replace(fresh, started=self.now, state={"chosen": next(holding, None)}))
            case Repeat():
                items = self._evaluate(step.over, fresh.path)
                if not isinstance(items, Sequence) or isinstance(items, str | bytes):
                    return self._ended(fresh, Status.FAILED, "what it is to repeat over is not a list")
                if len(items) > step.most:
                    text = f"its list has {len(items)} elements, and may have {step.most}"
                    return self._ended(fresh, Status.FAILED, text)
                state = {"items": list(items), "begun": 0, "done": 0}
                return self._write(replace(fresh, started=self.now, state=state))
            case Stop():
                message = None if step.message is None else str(self._evaluate(step.message, fresh.path))
                state = {"status": step.status.value, "message": message}
                return self._ended(replace(fresh, state=state), Status.SUCCEEDED)
            case _:
                return self._write(replace(fresh, started=self.now))

    # Work.

    def _work(self, step: Work, record: Record, *, closed: bool) -> Came:
        while True:
            match record.status:
                case Status.RUNNING:
                    record = self._running(step, record, closed=closed)
                    if not record.status.has_ended:
                        return UNDER_WAY
                case Status.SUCCEEDED | Status.SKIPPED:
                    return DONE
                case _ if closed:
                    return DONE
                case Status.FAILED if (
                    record.failures + 1 < step.retry.attempts and record.started is not None
                ):
                    due = (record.ended or self.now) + step.retry.delay * step.retry.factor**record.failures
                    if self.now < due:
                        self._wake_at(due)
                        return UNDER_WAY
                    record = self._begun(record, failures=record.failures + 1)
                case Status.INTERRUPTED if step.on_interrupted is OnInterrupted.SKIP:
                    return DONE
                case Status.INTERRUPTED if step.on_interrupted is OnInterrupted.RETRY:
                    if record.interruptions >= MAX_INTERRUPTIONS:
                        return self._failure(step, record)
                    record = self._begun(record, interruptions=record.interruptions + 1)
                case _:
                    return self._failure(step, record)

    def _running(self, step: Work, record: Record, *, closed: bool) -> Record:
        """An attempt that is under way: told to end if its time is over or nobody wants it any more."""
        if closed and record.started is None:
            return self._ended(record, Status.CANCELLED)
        if record.ending is None:
            if closed:
                return self._tell(record, Ending.CANCELLED)
            if record.started is not None:
                due = record.started + step.timeout + TIMEOUT_GRACE_SECONDS
                if self.now >= due:
                    return self._tell(record, Ending.TIMEOUT, f"it took longer than {step.timeout:g} seconds")
                self._wake_at(due)
            return record
        given_up = (record.ending_at or self.now) + _patience(record.ending)
        if self.now < given_up:
            self._wake_at(given_up)
            return record
        status = Status.FAILED if record.ending is Ending.TIMEOUT else Status.CANCELLED
        text = (
            NOT_KNOWN_TO_HAVE_ENDED if record.error is None else f"{record.error}; {NOT_KNOWN_TO_HAVE_ENDED}"
        )
        return self._ended(record, status, text)

    def _begun(self, record: Record, *, failures: int = 0, interruptions: int = 0) -> Record:
        """A new attempt at the work of a step: its first, or one more."""
        attempt = record.attempt + 1 if record.path in self.records else 1
        fresh = Record(
            path=record.path,
            kind=record.kind,
            attempt=attempt,
            begun=self.now,
            failures=max(record.failures, failures),
            interruptions=max(record.interruptions, interruptions),
        )
        self.begin[record.path] = fresh
        return self._write(fresh)

    def _tell(self, record: Record, why: Ending, error: str | None = None) -> Record:
        told = replace(record, ending=why, ending_at=self.now, error=error)
        self.told[record.path] = told
        self._wake_at(self.now + _patience(why))
        return self._write(told)

    # Waits.

    def _wait(self, step: waits.Wait, record: Record, *, closed: bool) -> Came:
        if record.status is Status.WAITING and closed:
            record = self._ended(record, Status.CANCELLED)
        if record.status is Status.WAITING:
            looked = waits.look(step, record, now=self.now, holds=lambda one: self._holds(one, record.path))
            if not isinstance(looked, waits.Over):
                if looked is not None:
                    self._wake_at(looked)
                return UNDER_WAY
            record = self._ended(record, looked.status, looked.error)
        if closed or record.status in (Status.SUCCEEDED, Status.SKIPPED):
            return DONE
        return self._failure(step, record)

    # Steps that contain others.

    def _around(self, step: Step, record: Record, inside: _Inside, *, closed: bool) -> Came:
        if record.status in (Status.SUCCEEDED, Status.SKIPPED):
            return DONE
        if record.status.has_ended:
            return DONE if closed else self._failure(step, record)
        if closed and record.ending is None:
            record = self._write(replace(record, ending=Ending.CANCELLED, ending_at=self.now))
        if record.ending is None:
            record, outcome = self._open(step, record, inside)
            if record.ending is None:
                return outcome
        if inside(record, True) is UNDER_WAY:
            return UNDER_WAY
        record = self.records[record.path]
        status = Status.CANCELLED if record.ending is Ending.CANCELLED else Status.FAILED
        record = self._ended(record, status, record.error)
        return DONE if closed else self._failure(step, record)

    def _open(self, step: Step, record: Record, inside: _Inside) -> tuple[Record, Came]:
        """Go on with what is inside; if that has failed or took too long, the record says that it is to be closed."""
        path, due = record.path, waits.after(record.begun, step.timeout)
        if due is not None and self.now >= due:
            text = f"it took longer than {step.timeout:g} seconds"
            late = replace(record, ending=Ending.TIMEOUT, ending_at=self.now, error=text)
            return self._write(late), UNDER_WAY
        outcome = inside(record, False)
        record = self.records[path]
        if isinstance(outcome, Failed):
            failed = replace(record, ending=Ending.FAILED, ending_at=self.now, error=outcome.message)
            return self._write(failed), outcome
        if outcome is DONE:
            self._ended(record, Status.SUCCEEDED)
        elif due is not None:
            self._wake_at(due)
        return self.records[path], outcome

    def _chosen(self, step: Choose, path: str) -> _Inside:
        def inside(record: Record, closed: bool) -> Came:
            name, steps = option_of(step, record.state["chosen"])
            return self.sequence(steps, f"{path}.{name}.", closed=closed)

        return inside

    def _branches(self, step: Parallel, path: str) -> _Inside:
        def inside(record: Record, closed: bool) -> Came:
            return together(
                [
                    self.sequence(branch, f"{path}.{number}.", closed=closed)
                    for number, branch in enumerate(step.branches, start=1)
                ]
            )

        return inside

    def _rounds(self, step: Repeat, path: str) -> _Inside:
        def inside(record: Record, closed: bool) -> Came:
            items, begun, done = record.state["items"], record.state["begun"], record.state["done"]
            outcomes: list[Came] = []
            number = under_way = 0
            for number in range(done, len(items)):
                if number >= begun and (closed or self.closing is not None or under_way >= step.at_once):
                    break
                self.visible.choose(path, number, step.name, items[number])
                begun = max(begun, number + 1)
                outcome = self.sequence(step.steps, f"{path}[{number}].", closed=closed)
                outcomes.append(outcome)
                under_way += outcome is UNDER_WAY
                if isinstance(outcome, Failed):
                    break
                if outcome is DONE and number == done:
                    done += 1
            state = {"items": items, "begun": begun, "done": done}
            if state != record.state:
                self._write(replace(record, state=state))
            if not closed and begun < len(items):
                outcomes.append(UNDER_WAY)
            return together(outcomes)

        return inside

    def _stop(self, step: Stop, record: Record) -> Came:
        if record.status is Status.SUCCEEDED:
            if self.closing is None:
                status, message = StopStatus(record.state["status"]), record.state["message"]
                self.closing = Closing(Ending.STOPPED, Outcome(status.value), message)
            return DONE
        return DONE if record.status is Status.SKIPPED else self._failure(step, record)

    # Writing and reading.

    def _failure(self, step: Step, record: Record) -> Came:
        if step.continue_on_error:
            return DONE
        why = record.error
        if why is None:
            why = {Status.INTERRUPTED: INTERRUPTED, Status.CANCELLED: "it was cancelled"}.get(
                record.status, "it failed"
            )
        # A step that contains others has failed for what one of them has told of itself.
        told_already = record.ending is Ending.FAILED
        return Failed(why if told_already else f"step {record.path}: {why}")

    def _ended(self, record: Record, status: Status, error: str | None = None) -> Record:
        self.begin.pop(record.path, None)
        self.told.pop(record.path, None)
        return self._write(replace(record, status=status, ended=self.now, error=error))

    def _write(self, record: Record) -> Record:
        self.records[record.path] = self.written[record.path] = record
        self.visible.add(record)
        return record

    def _wake_at(self, when: float) -> None:
        self.wake = when if self.wake is None else min(self.wake, when)

    def _holds(self, condition: Evaluates, path: str) -> bool:
        return self._evaluate(condition, path) is True

    def _evaluate(self, expression: Evaluates, path: str) -> Any:
        return expression.evaluate(self.visible.values_at(path))


def kind_of(step: Step) -> str:
    """What the record of a step says that it is."""
    match step:
        case Work():
            return step.kind
        case WaitFor() | WaitUntil() | WaitEvent():
            return "wait"
        case _:
            return type(step).__name__.lower()


def _patience(why: Ending) -> float:
    return TIMEOUT_PATIENCE_SECONDS if why is Ending.TIMEOUT else CANCEL_PATIENCE_SECONDS
