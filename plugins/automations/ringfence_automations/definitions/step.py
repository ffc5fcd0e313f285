"""A step of an automation, as it is written: what all steps have, and those that lead to other steps."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, PrivateAttr, StrictBool, StrictFloat, StrictInt, model_validator
from ringfence.bounded import JsonObject
from ringfence.spans import seconds_of

from ringfence_automations.definitions.hook_names import NamedHook
from ringfence_automations.definitions.parts import (
    ExpressionText,
    Identifier,
    Part,
    StepId,
    TemplateText,
)
from ringfence_automations.definitions.spans import Pause, Span

MAX_STEPS = 100
"""How many steps one list has."""
MAX_ATTEMPTS = 100
MAX_REPEATED = 1000
DEFAULT_REPEATED = 100
TIMEOUT = "timeout"


class OnInterrupted(enum.StrEnum):
    """What becomes of a step that had started and is not known to have ended."""

    FAIL = "fail"
    RETRY = "retry"
    SKIP = "skip"


class StopStatus(enum.StrEnum):
    """How a run ends that is stopped by a step of its own."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Retry(Part):
    """How often a step is tried, and after which pause; each pause is `factor` times the one before."""

    attempts: Annotated[StrictInt, Field(ge=1, le=MAX_ATTEMPTS)] = 3
    delay: Pause = 10.0
    factor: Annotated[StrictFloat, Field(ge=1, le=10)] = 1.0


class WaitedEvent(Part):
    """An event that a step waits for."""

    hook: NamedHook
    filter: ExpressionText | None = None


class Wait(Part):
    """Time passes, a condition holds, or an event happens."""

    for_: Annotated[Span | None, Field(alias="for")] = None
    until: ExpressionText | None = None
    every: Span = 10.0
    event: WaitedEvent | None = None
    timeout: Span | None = None

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        named = {"for": self.for_, "until": self.until, "event": self.event}
        given = [name for name, value in named.items() if value is not None]
        if len(given) != 1:
            found = f"has {' and '.join(given)}" if given else "has none of them"
            raise ValueError(f"must have exactly one of for, until and event; it {found}")
        if "every" in self.model_fields_set and self.until is None:
            raise ValueError("can have every only with until")
        if self.every < 1:
            # Each look is a job and a transaction, and there may be thousands of such waits.
            raise ValueError("must have every of at least 1s")
        return self


class Option(Part):
    """What is done when a condition holds."""

    when: ExpressionText
    steps: Steps


class Choose(Part):
    """The first option whose condition holds is done, or else `otherwise`.

    As JSON it is a list of options, or an object with `options` and `otherwise`.
    """

    options: Annotated[tuple[Option, ...], Field(min_length=1, max_length=20)]
    otherwise: LaterSteps = ()

    @model_validator(mode="before")
    @classmethod
    def _as_a_list(cls, given: Any) -> Any:
        if not isinstance(given, list | tuple):
            return given
        otherwise = [one for one in given if isinstance(one, dict) and set(one) == {"otherwise"}]
        if len(otherwise) > 1 or (otherwise and given[-1] is not otherwise[0]):
            raise ValueError("can have one otherwise, as its last entry")
        options = [one for one in given if not (isinstance(one, dict) and set(one) == {"otherwise"})]
        return {"options": options, **(otherwise[0] if otherwise else {})}


class Parallel(Part):
    """All branches are done at the same time. When one fails, the others are ended."""

    branches: Annotated[tuple[Steps, ...], Field(min_length=1, max_length=20)]


class Repeat(Part):
    """The steps are done for each element of a list, which they know by the name `as`, and its number as `index`."""

    over: ExpressionText
    as_: Annotated[Identifier, Field(alias="as")] = "item"
    max: Annotated[StrictInt, Field(ge=1, le=MAX_REPEATED)] = DEFAULT_REPEATED
    at_once: Annotated[StrictInt, Field(ge=1, le=MAX_REPEATED)] = 1
    steps: Steps


class Stop(Part):
    """The run ends here; what else is under way in it is ended."""

    status: StopStatus = StopStatus.SUCCEEDED
    message: TemplateText | None = None


class Step(Part):
    """One step. Beside what all steps have there is exactly one other field: its kind, with the body that this takes.

    The kinds that lead to other steps are here. All others, of this plugin and of others, are actions: their bodies
    are kept as they were written, and are checked against the model of their kind where a definition is written.
    """

    model_config = ConfigDict(extra="allow")

    id: StepId
    when: ExpressionText | None = None
    timeout: Span | None = None
    retry: Retry | None = None
    continue_on_error: StrictBool = False
    on_interrupted: OnInterrupted = OnInterrupted.FAIL
    wait: Wait | None = None
    choose: Choose | None = None
    parallel: Parallel | None = None
    repeat: Repeat | None = None
    stop: Stop | None = None

    _kind: str = PrivateAttr()

    @model_validator(mode="before")
    @classmethod
    def _with_plain_stop(cls, given: Any) -> Any:
        """Nothing after `stop:` is one without options."""
        return {**given, "stop": {}} if isinstance(given, dict) and given.get("stop", 0) is None else given

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        extra = self.model_extra or {}
        given = [name for name in CONTROL_KINDS if getattr(self, name) is not None] + list(extra)
        if len(given) != 1:
            found = f"it has {' and '.join(given)}" if given else "it has none, such as run_shell or notify"
            raise ValueError(f"must have exactly one kind of step beside {', '.join(HEADER)}; {found}")
        self._kind = given[0]
        if extra and not isinstance(extra[self._kind], dict):
            raise ValueError(f"{self._kind} must be an object")
        if self.kind in CONTROL_KINDS and (
            self.retry is not None or "on_interrupted" in self.model_fields_set
        ):
            raise ValueError(f"{self._kind} does nothing that could be tried again")
        _ = self.timeout_seconds
        return self

    @property
    def kind(self) -> str:
        """What the step does."""
        return self._kind

    @property
    def body(self) -> Wait | Choose | Parallel | Repeat | Stop | JsonObject:
        """What its kind has to know. For an action: as it was written, apart from its timeout."""
        if self._kind in CONTROL_KINDS:
            body: Wait | Choose | Parallel | Repeat | Stop = getattr(self, self._kind)
            return body
        written: JsonObject = (self.model_extra or {})[self._kind]
        return {name: value for name, value in written.items() if name != TIMEOUT}

    @property
    def timeout_seconds(self) -> float | None:
        """How long the step may take: its own `timeout`, or that in its body. Raises `ValueError` if both are there."""
        inner: float | None = None
        if self._kind == "wait" and self.wait is not None:
            inner = self.wait.timeout
        elif (written := (self.model_extra or {}).get(self._kind, {}).get(TIMEOUT)) is not None:
            if not isinstance(written, str):
                raise ValueError(f"{self._kind}.timeout must be a span of time, such as 30s")
            inner = seconds_of(written)
        if inner is not None and self.timeout is not None:
            raise ValueError(f"has a timeout twice: beside {self._kind}, and in it")
        return self.timeout if inner is None else inner

    @property
    def inner(self) -> tuple[tuple[Step, ...], ...]:
        """The lists of steps within it."""
        match self.body:
            case Choose(options=options, otherwise=otherwise):
                return (*(option.steps for option in options), otherwise)
            case Parallel(branches=branches):
                return branches
            case Repeat(steps=steps):
                return (steps,)
            case _:
                return ()


Steps = Annotated[tuple[Step, ...], Field(min_length=1, max_length=MAX_STEPS)]
LaterSteps = Annotated[tuple[Step, ...], Field(max_length=MAX_STEPS)]
HEADER = ("id", "when", "timeout", "retry", "continueOnError", "onInterrupted")
"""What every step may have beside its kind."""
CONTROL_KINDS = ("wait", "choose", "parallel", "repeat", "stop")
for _model in (Option, Choose, Parallel, Repeat, Step):
    _model.model_rebuild()


def all_steps(steps: tuple[Step, ...]) -> Iterator[Step]:
    """These steps and all within them, in the order in which they are written."""
    for step in steps:
        yield step
        for inner in step.inner:
            yield from all_steps(inner)


def numbered(steps: Any) -> Any:
    """Steps as they are written, each with an id: `step-N`, by its place in the whole definition, if it has none."""
    count = 0

    def walk(given: Any) -> Any:
        nonlocal count
        if isinstance(given, list | tuple):
            return [step(one) for one in given]
        return given

    def step(given: Any) -> Any:
        nonlocal count
        if not isinstance(given, dict):
            return given
        count += 1
        made = {"id": f"step-{count}", **given}
        for kind, fields in (("choose", ("otherwise",)), ("repeat", ("steps",)), ("parallel", ())):
            if kind in made:
                made[kind] = body(made[kind], fields)
        return made

    def body(given: Any, fields: tuple[str, ...]) -> Any:
        if isinstance(given, list | tuple):
            return [option(one) for one in given]
        if not isinstance(given, dict):
            return given
        made = dict(given)
        if isinstance(options := made.get("options"), list | tuple):
            made["options"] = [option(one) for one in options]
        if isinstance(branches := made.get("branches"), list | tuple):
            made["branches"] = [walk(one) for one in branches]
        for name in fields:
            if name in made:
                made[name] = walk(made[name])
        return made

    def option(given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {
            name: walk(value) if name in ("steps", "otherwise") else value for name, value in given.items()
        }

    return walk(steps)
