"""A world for runs without a database: it records what the course decides, and does the work as it is told to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ringfence_automations.runs.deciding import course, told
from ringfence_automations.runs.deciding.moves import Closing, End, Moves, Outcome
from ringfence_automations.runs.deciding.plan import CannotEvaluateError, Plan, Step, WaitEvent
from ringfence_automations.runs.deciding.records import Ending, Record, Status

CANCELLED = Closing(Ending.CANCELLED, Outcome.CANCELLED, "cancelled by ann")


@dataclass(frozen=True)
class Given:
    """An expression: a function of the values."""

    of: Callable[[Mapping[str, Any]], Any]

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        try:
            return self.of(values)
        except KeyError as error:
            raise CannotEvaluateError(f"line 3: {error} is not there") from error


def always(value: Any) -> Given:
    return Given(lambda _: value)


@dataclass
class World:
    """One run. `work` holds the attempts that are carried out, by path."""

    plan: Plan
    records: dict[str, Record] = field(default_factory=dict)
    closing: Closing | None = None
    now: float = 1000.0
    end: End | None = None
    wake: float | None = None
    begun: list[tuple[str, int]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    heard: int = 0
    max_steps: int = course.MAX_STEPS

    @classmethod
    def of(cls, *steps: Step, **others: Any) -> World:
        world = cls(Plan(steps), **others)
        world.advance()
        return world

    def advance(self) -> Moves:
        moves = course.advance(
            self.plan,
            self.records,
            values=self.values,
            now=self.now,
            closing=self.closing,
            heard=self.heard,
            max_steps=self.max_steps,
        )
        assert self.end is None, "who has ended is not asked any more"
        for record in moves.written:
            known = self.records.get(record.path)
            if known is not None and known.attempt == record.attempt:
                assert not known.status.has_ended, "what has ended stays as it is"
            self.records[record.path] = record
        for record in moves.begin:
            assert record == self.records[record.path]
            self.begun.append((record.path, record.attempt))
        self.told += [record.path for record in moves.tell_to_end]
        self.closing, self.end, self.wake = moves.closing, moves.end, moves.wake
        return moves

    @property
    def under_way(self) -> list[str]:
        return sorted(
            path for path, one in self.records.items() if self._is_work(one) and not one.status.has_ended
        )

    @property
    def done(self) -> dict[str, str]:
        return {path: one.status.value for path, one in self.records.items() if one.status.has_ended}

    def start(self, path: str) -> None:
        self.records[path] = replace(self.records[path], started=self.now)

    def finish(self, path: str, *, ok: bool = True, attempt: int | None = None, **artifact: Any) -> None:
        if self.records[path].started is None:
            self.start(path)
        record = self.records[path]
        now = told.ended(
            record,
            attempt=record.attempt if attempt is None else attempt,
            ok=ok,
            artifact=artifact,
            message="" if ok else "it did not work",
            now=self.now,
        )
        if now is not None:
            self.records[path] = now
        if self.end is None:
            self.advance()

    def interrupt(self, path: str) -> None:
        if self.records[path].started is None:
            self.start(path)
        record = self.records[path]
        now = told.interrupted(record, attempt=record.attempt, now=self.now)
        if now is not None:
            self.records[path] = now
        self.advance()

    def happens(self, path: str, payload: dict[str, Any]) -> None:
        self.records[path] = told.heard_event(self.records[path], payload, now=self.now)
        self.advance()

    def cancel(self) -> None:
        if self.closing is None:
            self.closing = CANCELLED
        self.advance()

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.advance()

    def _is_work(self, record: Record) -> bool:
        return record.status is Status.RUNNING and record.kind == "work"

    def is_wait_for_event(self, path: str) -> bool:
        return isinstance(self.plan.step_at(path), WaitEvent)
