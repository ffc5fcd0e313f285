"""What automations offer to other plugins: kinds of steps of their own.

A kind has a name, which is the key under which a definition's step has its body, and a pydantic model of that body.
The texts of the body that may hold `{{ … }}` are marked in the model, and are filled in before the kind sees them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from pydantic import BaseModel
from ringfence.web import Principal
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_automations.bodies.marked import (
    SecretText,
    Templated,
    TemplatedJson,
    TemplatedWithSecrets,
    secret_names,
)

__all__ = [
    "Elsewhere",
    "JsonObject",
    "SecretText",
    "StepCall",
    "StepEnds",
    "StepFailed",
    "StepKind",
    "StepRequest",
    "StepResult",
    "Templated",
    "TemplatedJson",
    "TemplatedWithSecrets",
    "secret_names",
]

JsonObject = dict[str, Any]
_Body = TypeVar("_Body", bound=BaseModel)


class StepFailed(RuntimeError):
    """A step cannot be carried out; the message says why, and holds no secret."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """How a step has ended. `artifact` is what later steps read as `artifacts.<id>`; `message` says it in a line."""

    ok: bool
    artifact: JsonObject = field(default_factory=dict)
    message: str = ""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The step goes on elsewhere, and its end is told later. `where` says where that is, for whoever looks."""

    where: str = ""


async def _no_secrets(names: Collection[str]) -> Mapping[str, str]:
    if names:
        raise StepFailed("no secrets are given here")
    return {}


@dataclass(frozen=True, slots=True)
class StepCall(Generic[_Body]):
    """One attempt at one step of one run.

    Attributes:
        run, path, attempt: which it is. `path` is the step's place, such as `restart` or `each[3].look`.
        automation: its name; `revision`: that of the definition which the run follows.
        body: the step's body, with its templates filled in.
        values: what expressions see: `event`, `trigger`, `inputs`, `artifacts`, `run`, and what is around the step.
        principal: for whom the automation acts, with the rules that it holds now.
        deadline: when the step is over at the latest.
        session: the transaction in which the step's end, or that it goes on elsewhere, is recorded: what is written in
            it is written just when that is. What takes long must come before anything is done with it.
        secrets: gives the values of secrets just in time; the principal's rules are looked at then, and the values are
            masked in all that the run tells from then on. Raises `StepFailed`.
        listen: takes what a script writes while it runs (`stdout` or `stderr`, and the text), for whoever follows.
        is_asked_again: whether an attempt of the same number may have been made before, and its end is not known.
    """

    run: UUID
    path: str
    attempt: int
    automation: str
    revision: int
    body: _Body
    values: Mapping[str, Any]
    principal: Principal
    deadline: dt.datetime
    session: AsyncSession
    secrets: Callable[[Collection[str]], Awaitable[Mapping[str, str]]] = field(
        default=_no_secrets, repr=False, compare=False
    )
    listen: Callable[[str, str], None] = field(default=lambda *_: None, repr=False, compare=False)
    is_asked_again: bool = False

    @property
    def key(self) -> str:
        """What names this attempt wherever the step is carried out: the same whoever asks, and for no other."""
        return f"{self.run}/{self.path}/{self.attempt}"

    @property
    def seconds_left(self) -> float:
        """The time until the deadline; never less than a second."""
        return max(1.0, (self.deadline - dt.datetime.now(dt.UTC)).total_seconds())


@dataclass(frozen=True, slots=True)
class StepRequest:
    """One attempt at one step, as the engine asks for it: the body is still as the definition has it.

    `acts_for` gives whom the automation acts for, with the rules that they hold now; what it raises fails the step.
    `session` must not have been used before; see `StepCall`.
    """

    run: UUID
    path: str
    attempt: int
    automation: str
    revision: int
    kind: str
    body: JsonObject
    values: Mapping[str, Any]
    acts_for: Callable[[], Awaitable[Principal]] = field(repr=False, compare=False)
    deadline: dt.datetime
    session: AsyncSession = field(repr=False, compare=False)
    is_asked_again: bool = False


class StepKind(Protocol[_Body]):
    """The extension point: a kind of steps.

    A definition that names it is checked against `model` when it is written. Wherever the kind is not installed, such
    a definition is refused, and a run of it fails at the step.
    """

    name: str
    model: type[_Body]

    def is_repeatable(self, body: _Body) -> bool:
        """Whether an attempt may be asked for again of which nobody knows whether it was made (`StepCall.key`)."""

    async def perform(self, call: StepCall[Any]) -> StepResult | Elsewhere:
        """Carry out the step once. It may be cancelled at any time: by the run's end, its deadline, or the instance's.

        What it raises fails the step: `StepFailed` with its message, anything else as an error of the plugin.
        """

    async def cancel(self, call: StepCall[Any]) -> None:
        """End what goes on elsewhere for this attempt. Called once or more often, also where nothing goes on."""


class StepEnds(Protocol):
    """The service: takes in how steps have ended that went on elsewhere."""

    async def ended(
        self, session: AsyncSession, run: UUID, path: str, attempt: int, result: StepResult
    ) -> None:
        """An attempt has ended so, if the transaction is committed. Told again, or too late, it changes nothing."""
