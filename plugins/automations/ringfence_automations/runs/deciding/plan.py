"""What a run has to do, as the engine reads it: a definition's steps with their expressions ready to be evaluated."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ringfence_automations.definitions.step import OnInterrupted, StopStatus

LONGEST_SECONDS = 24 * 3600.0
"""How long work may take that says nothing of it: a run must end, also where nobody tells of the end of a step."""
_ROUND = re.compile(r"\[\d+\]")


class CannotEvaluateError(ValueError):
    """An expression failed when it was evaluated; the text says where it stands and why."""


class Evaluates(Protocol):
    """An expression or a text with expressions in it, with its place in the definition."""

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """Its value. Raises CannotEvaluateError."""
        ...


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a step is tried, and after which pause; each pause is `factor` times the one before."""

    attempts: int = 1
    delay: float = 0.0
    factor: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What all steps have. `timeout` is in seconds, from the moment that the step has started."""

    id: str
    when: Evaluates | None = None
    timeout: float | None = None
    continue_on_error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Work(Step):
    """Something is done outside of the engine, by the step kind of that name. `body` is for that alone."""

    timeout: float = LONGEST_SECONDS
    kind: str
    body: Any = None
    retry: Retry = Retry()
    on_interrupted: OnInterrupted = OnInterrupted.FAIL


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitFor(Step):
    """Time passes."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitUntil(Step):
    """A condition holds; it is looked at every so many seconds, and whenever something of the run has ended."""

    condition: Evaluates
    every: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitEvent(Step):
    """An event of this hook happens for which the filter holds."""

    hook: str
    filter: Evaluates | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choose(Step):
    """The first option whose condition holds is done, or else `otherwise`."""

    options: tuple[tuple[Evaluates, tuple[Step, ...]], ...]
    otherwise: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel(Step):
    """All branches are done at the same time. When one fails, the others are ended."""

    branches: tuple[tuple[Step, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat(Step):
    """The steps are done for each element of a list, for `at_once` of them at a time."""

    over: Evaluates
    steps: tuple[Step, ...]
    name: str = "item"
    most: int = 100
    at_once: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop(Step):
    """The run ends here; what else is under way in it is ended."""

    status: StopStatus = StopStatus.SUCCEEDED
    message: Evaluates | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps of one revision of an automation.

    The path of a step names its place: `each[3].look` is in the fourth round of a repeat, `both.1.look` in the first
    branch of a parallel, `pick.2.look` in the second option of a choose, and `pick.otherwise.look` in none of them.
    """

    steps: tuple[Step, ...]
    by_place: Mapping[str, Step] = field(init=False)
    hears: bool = field(init=False)
    """Whether any step waits for an event."""
    evaluates: bool = field(init=False)
    """Whether anything is to be evaluated to know what comes next."""
    has_timers: bool = field(init=False)
    """Whether a run may have to be looked at because time has passed."""

    def __post_init__(self) -> None:
        """Index the steps by their places."""
        object.__setattr__(self, "by_place", dict(_places(self.steps, "")))
        hears = any(isinstance(step, WaitEvent) for step in self.by_place.values())
        object.__setattr__(self, "hears", hears)
        object.__setattr__(self, "evaluates", any(map(_evaluates, self.by_place.values())))
        object.__setattr__(self, "has_timers", any(map(_has_timer, self.by_place.values())))

    def step_at(self, path: str) -> Step | None:
        """The step at a path of a run."""
        return self.by_place.get(_ROUND.sub("", path))


def _evaluates(step: Step) -> bool:
    return step.when is not None or (
        isinstance(step, WaitUntil | Choose | Repeat) or (isinstance(step, Stop) and step.message is not None)
    )


def _has_timer(step: Step) -> bool:
    if isinstance(step, Work):
        return step.timeout < LONGEST_SECONDS or step.retry.attempts > 1
    return step.timeout is not None or isinstance(step, WaitFor | WaitUntil | WaitEvent | Parallel | Repeat)


def id_at(path: str) -> str:
    """The id of the step at this path."""
    return path.rpartition(".")[2]


def option_of(step: Choose, chosen: int | None) -> tuple[str, tuple[Step, ...]]:
    """The name and the steps of what a choose has chosen."""
    return ("otherwise", step.otherwise) if chosen is None else (str(chosen + 1), step.options[chosen][1])


def _places(steps: tuple[Step, ...], prefix: str) -> Iterator[tuple[str, Step]]:
    for step in steps:
        place = prefix + step.id
        yield place, step
        for name, inner in _inside(step):
            yield from _places(inner, f"{place}.{name}")


def _inside(step: Step) -> Iterator[tuple[str, tuple[Step, ...]]]:
    match step:
        case Choose():
            for number in (*range(len(step.options)), None):
                name, steps = option_of(step, number)
                yield f"{name}.", steps
        case Parallel():
            for number, branch in enumerate(step.branches, start=1):
                yield f"{number}.", branch
        case Repeat():
            yield "", step.steps
