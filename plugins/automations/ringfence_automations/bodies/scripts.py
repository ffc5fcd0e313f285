"""What `run_shell` and `run_script` say: a script, what it is given, what it needs, and where it runs."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, StrictBool, StringConstraints, model_validator
from ringfence import WireModel
from ringfence.bounded import STORABLE, Finite, Text
from ringfence.sandbox.policy import Needs
from ringfence.scripts import ScriptKind, Task
from ringfence.scripts.request import MAX_ARGUMENTS
from ringfence.scripts.tasks.task import MAX_SCRIPT, MAX_SECRETS, MAX_VARIABLES, Variable
from ringfence_satellite.service import SelectorText

from ringfence_automations.bodies.marked import Templated, TemplatedWithSecrets

MOST_AT_ONCE = 100
MOST_PLACES = 1000
"""On how many satellites one step may run."""
DELIVER_WITHIN_SECONDS = 300.0


class OneSatellite(WireModel):
    """On one satellite, by its name or its id."""

    model_config = ConfigDict(extra="forbid")

    satellite: Templated
    deliver_within: Annotated[Finite, Field(gt=0, le=86_400)] = DELIVER_WITHIN_SECONDS
    """For how many seconds a satellite that is offline is waited for."""


class EachSelected(WireModel):
    """On each satellite that a selector chooses when the step begins, so many at once.

    `may_fail`: on how many it may fail, or cannot run at all, with the step being well all the same. What has not begun
    is left out once there are more.
    """

    model_config = ConfigDict(extra="forbid")

    selector: SelectorText
    at_once: Annotated[int, Field(ge=1, le=MOST_AT_ONCE, strict=True)] = 10
    may_fail: Annotated[int, Field(ge=0, le=MOST_PLACES, strict=True)] = 0
    may_be_none: StrictBool = False
    """Whether it is well if no satellite is selected."""
    deliver_within: Annotated[Finite, Field(gt=0, le=86_400)] = DELIVER_WITHIN_SECONDS


def _place(given: object) -> object:
    """`on: gateway` is `on: {satellite: gateway}`."""
    return {"satellite": given} if isinstance(given, str) else given


On = Annotated[
    OneSatellite | EachSelected,
    BeforeValidator(_place, json_schema_input_type=OneSatellite | EachSelected | str),
]
ScriptText = Annotated[str, StringConstraints(min_length=1, max_length=MAX_SCRIPT), STORABLE]


class _Scripted(WireModel):
    """What all scripts may be given. A script is no template: what it works on comes as variables and as context."""

    model_config = ConfigDict(extra="forbid")

    on: On | None = None
    args: Annotated[tuple[Templated, ...], Field(max_length=MAX_ARGUMENTS)] = ()
    env: Annotated[dict[Variable, Templated], Field(max_length=MAX_VARIABLES)] = Field(default_factory=dict)
    stdin: Templated | None = None
    secrets: Annotated[dict[Variable, TemplatedWithSecrets], Field(max_length=MAX_SECRETS)] = Field(
        default_factory=dict
    )
    needs: Needs | None = None
    packages: str | None = None

    @property
    def script_kind(self) -> ScriptKind:
        """What runs it."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _can_be_run(self) -> Self:
        for variable, text in self.secrets.items():
            if not text.names:
                raise ValueError(f"{variable} must name a secret, as in {{{{ secrets.name }}}}")
        if twice := self.env.keys() & self.secrets.keys():
            raise ValueError(f"{', '.join(sorted(twice))} cannot be both in env and in secrets")
        # Of the task as it is written: what is wrong with a script is told before it runs.
        self.task({}, self.args, self.env, self.stdin)
        return self

    def task(
        self, secrets: dict[str, str], args: tuple[str, ...], env: dict[str, str], stdin: str | None
    ) -> Task:
        """The task that runs it, given these. Raises `pydantic.ValidationError`."""
        return Task(
            kind=self.script_kind,
            args=args,
            env=env,
            stdin=stdin,
            secrets=secrets,
            needs=self.needs,
            packages=self.packages,
            **self._what(),
        )

    def _what(self) -> dict[str, Any]:
        raise NotImplementedError


class RunShellBody(_Scripted):
    """A shell script. Its first line may name another shell."""

    script: ScriptText

    @property
    def script_kind(self) -> ScriptKind:
        """See `_Scripted`."""
        return ScriptKind.SHELL

    def _what(self) -> dict[str, Any]:
        return {"script": self.script}


class RunScriptBody(_Scripted):
    """A script of any kind, or a program by its path and its first arguments."""

    kind: Literal["auto", "shell", "bash", "python", "esm", "program"] = "auto"
    script: ScriptText | None = None
    command: Annotated[tuple[Text, ...], Field(min_length=1, max_length=MAX_ARGUMENTS)] | None = None
    name: Annotated[str, StringConstraints(max_length=200), STORABLE] = ""

    @property
    def script_kind(self) -> ScriptKind:
        """See `_Scripted`."""
        return ScriptKind(self.kind)

    def _what(self) -> dict[str, Any]:
        return {"script": self.script, "command": self.command, "file_name": self.name}
