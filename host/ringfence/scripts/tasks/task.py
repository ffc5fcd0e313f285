"""What is to be run again and again, with what it is given, and how what it says is read.

A task is written by an administrator, stored, and sent to satellites: here is its one form for all of them. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from ringfence.bounded import STORABLE, Text
from ringfence.sandbox.plan.environment import may_pass
from ringfence.sandbox.policy import Needs
from ringfence.sandbox.wire import WireModel
from ringfence.scripts.choosing.choice import NotRunnable, choose
from ringfence.scripts.choosing.entry_points import has_entry_point
from ringfence.scripts.reading import Assertion, AssertionSyntaxError, Format
from ringfence.scripts.reading.assertions import MAX_ASSERTION, MAX_ASSERTIONS
from ringfence.scripts.reading.nagios import DIRECTORIES
from ringfence.scripts.request import MAX_ARGUMENTS, ScriptKind, ScriptRequest, check_given, check_set
from ringfence.scripts.tasks import placeholders

MAX_SCRIPT = 256 * 1024
"""The longest script, in characters."""
MAX_INPUT = 64 * 1024
"""The longest standard input that a task may have, in characters."""
MAX_VARIABLES = 100
MAX_SECRETS = 50
MAX_VARIABLE_BYTES = 128 * 1024
"""The longest variable that Linux gives to a program (execve(2), `MAX_ARG_STRLEN`)."""
MAX_ENVIRONMENT_BYTES = 1024 * 1024
"""How long a run's variables may be all together; a stack of 8 MiB has room for 2 (execve(2))."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
SECRET = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
"""What a secret may be called."""
STAND_IN = "***"
"""What a run is given in place of a secret that it may not have."""
_FACT_STANDS_FOR = "1"
"""What an assertion is read with before its facts are known."""

Variable = Annotated[str, StringConstraints(pattern=rf"^{_VARIABLE.pattern}$"), STORABLE]


def _by_variable(given: object) -> object:
    """Secrets as a map from variables to texts; a list is that of each name to itself."""
    if isinstance(given, list | tuple) and all(isinstance(name, str) for name in given):
        return {name: f"{{{name}}}" for name in given}
    if isinstance(given, dict):
        return {
            variable: f"{{{text}}}" if isinstance(text, str) and SECRET.fullmatch(text) else text
            for variable, text in given.items()
        }
    return given


def _set_name(name: str) -> str:
    check_set(name)
    return name


class Task(WireModel):
    """A script or a command, what it is given, and how it is read.

    Attributes:
        kind: what runs it; see `choosing`.
        script: its source; or `command`, the absolute path of a program, and its arguments.
        file_name: what its file is called, by which `auto` may go, too.
        args: arguments; `env`: variables; `stdin`: its standard input. They may hold placeholders (see `placeholders`).
        secrets: variables, each with a text that names secrets.
        format: how its output is read; None for what suits it (see `read_as`).
        assertions: what must be so besides (see `reading.assertions`).
        keep_state: whether it has a directory, in each place, whose files its next run there finds again.
        needs: what it needs of what the policy gives, and gets no more than; None if it does not say.
        packages: the set of packages that it imports from; None for the default one.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    kind: ScriptKind = ScriptKind.AUTO
    script: Annotated[str, StringConstraints(min_length=1, max_length=MAX_SCRIPT), STORABLE] | None = None
    command: Annotated[tuple[Text, ...], Field(min_length=1, max_length=MAX_ARGUMENTS)] | None = None
    file_name: Annotated[str, StringConstraints(max_length=200), STORABLE] = ""
    args: Annotated[tuple[Text, ...], Field(max_length=MAX_ARGUMENTS)] = ()
    env: Annotated[dict[Variable, Text], Field(max_length=MAX_VARIABLES)] = Field(default_factory=dict)
    stdin: Annotated[str, StringConstraints(max_length=MAX_INPUT), STORABLE] | None = None
    secrets: Annotated[dict[Variable, Text], BeforeValidator(_by_variable), Field(max_length=MAX_SECRETS)] = (
        Field(default_factory=dict)
    )
    format: Format | None = None
    assertions: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=MAX_ASSERTION), STORABLE], ...],
        Field(max_length=MAX_ASSERTIONS),
    ] = ()
    keep_state: StrictBool = False
    needs: Needs | None = None
    packages: Annotated[str, AfterValidator(_set_name)] | None = None

    @field_validator("env", "secrets")
    @classmethod
    def _may_be_set(cls, given: dict[str, str]) -> dict[str, str]:
        for name in given:
            if not may_pass(name):
                raise ValueError(f"the variable {name} cannot be set: it would change how programs are run")
        return given

    @field_validator("command")
    @classmethod
    def _is_no_secret(cls, given: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if given and placeholders.secrets_in(given[:1]):
            raise ValueError(
                "the path of a program cannot hold a secret: it is told wherever it cannot be run"
            )
        return given

    @field_validator("secrets")
    @classmethod
    def _name_secrets(cls, given: dict[str, str]) -> dict[str, str]:
        for variable, text in given.items():
            if not placeholders.secrets_in([text]):
                raise ValueError(f"{variable} must name a secret, as in {{db-password}}")
        return given

    @field_serializer("secrets")
    def _as_list(self, secrets: dict[str, str]) -> list[str] | dict[str, str]:
        """The names alone where each is its variable's, which older releases read too."""
        return list(secrets) if self.has_plain_secrets else secrets

    @model_validator(mode="after")
    def _can_be_run(self, info: ValidationInfo) -> Self:
        self._check_given()
        for text in self.assertions:
            facts = dict.fromkeys(placeholders.facts_in([text]), _FACT_STANDS_FOR)
            try:
                Assertion.read(placeholders.as_meant(placeholders.with_facts(text, facts)))
            except AssertionSyntaxError as error:
                raise ValueError(f"an assertion cannot be read: {error}") from error
        if self.format is Format.JSON and not self.assertions:
            raise ValueError("the format json needs assertions: they say what is healthy in the document")
        return self

    def _check_given(self) -> None:
        check_given(
            self.kind,
            script=self.script,
            command=self.command,
            name=self.file_name,
            args=self.args,
            stdin=self.stdin,
        )

    @property
    def has_plain_secrets(self) -> bool:
        """Whether each secret is given in a variable of its own name, and nowhere else."""
        return all(text == f"{{{name}}}" for name, text in self.secrets.items())

    @property
    def secret_names(self) -> frozenset[str]:
        """The secrets that a run is given."""
        return placeholders.secrets_in([*self.secrets.values(), *self._given()])

    @property
    def fact_names(self) -> frozenset[str]:
        """The facts that must be known where it runs."""
        return placeholders.facts_in([*self.secrets.values(), *self._given(), *self.assertions])

    @property
    def read_as(self) -> Format:
        """How its output is read: as it says, or as suits it."""
        return self.format or _format_of(self)

    def placed(self, facts: Mapping[str, str]) -> Self:
        """The task with what is known of the place filled in. Raises `placeholders.UnknownPlaceholderError`."""
        if not self.fact_names:
            return self

        def fill(text: str) -> str:
            return placeholders.with_facts(text, facts)

        return self.model_copy(
            update={
                "command": None if self.command is None else tuple(map(fill, self.command)),
                "args": tuple(map(fill, self.args)),
                "env": {name: fill(text) for name, text in self.env.items()},
                "stdin": None if self.stdin is None else fill(self.stdin),
                "secrets": {name: fill(text) for name, text in self.secrets.items()},
                "assertions": tuple(map(fill, self.assertions)),
            }
        )

    def standing_in(self, names: Collection[str]) -> Self:
        """The task with `STAND_IN` in place of each of these secrets."""

        def fill(text: str) -> str:
            return placeholders.with_stand_ins(text, names, STAND_IN)

        secrets = {variable: fill(text) for variable, text in self.secrets.items()}
        filled = {variable: text for variable, text in secrets.items() if not placeholders.secrets_in([text])}
        return self.model_copy(
            update={
                "command": None if self.command is None else tuple(map(fill, self.command)),
                "args": tuple(map(fill, self.args)),
                "env": {**{name: fill(text) for name, text in self.env.items()}, **filled},
                "stdin": None if self.stdin is None else fill(self.stdin),
                "secrets": {variable: text for variable, text in secrets.items() if variable not in filled},
            }
        )

    def claims(self) -> tuple[Assertion, ...]:
        """The assertions of a task that was `placed`. Raises `AssertionSyntaxError`."""
        return tuple(Assertion.read(placeholders.as_meant(text)) for text in self.assertions)

    def request(
        self,
        secrets: Mapping[str, str],
        facts: Mapping[str, str],
        *,
        timeout_ms: int,
        variables: Mapping[str, str] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> ScriptRequest:
        """What is to be run of a task that was `placed`, with its secrets by their names.

        `variables` are given beside those of the facts, under their own names `RINGFENCE_…`; `context` is given beside
        that of the facts.

        Raises:
            placeholders.UnknownPlaceholderError: if a secret is not among them.
            ValueError: if what was filled in cannot be passed.
        """

        def fill(text: str) -> str:
            return placeholders.with_secrets(text, secrets)

        env = {name: fill(text) for name, text in self.env.items()}
        secret_env = {name: fill(text) for name, text in self.secrets.items()}
        told = {**(variables or {}), **{_variable(name): value for name, value in facts.items()}}
        _check_environment({**told, **env, **secret_env})
        return ScriptRequest(
            kind=self.kind,
            script=self.script,
            command=None if self.command is None else tuple(map(fill, self.command)),
            name=self.file_name,
            args=tuple(map(fill, self.args)),
            env=env,
            stdin=None if self.stdin is None else fill(self.stdin),
            secret_env=secret_env,
            masked=tuple(secrets.values()),
            context={**(_nested(facts) or {}), **context} if context is not None else _nested(facts),
            facts=told,
            timeout_ms=timeout_ms,
            needs=self.needs,
            packages=self.packages,
        )

    def _given(self) -> Iterator[str]:
        """All texts in which there may be placeholders, apart from `secrets` and `assertions`."""
        yield from self.command or ()
        yield from self.args
        yield from self.env.values()
        if self.stdin is not None:
            yield self.stdin


def amended(current: Mapping[str, Any], partial: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a task with others over them (in wire names): a script takes the place of a command, and so back."""
    if partial.get("script") is not None:
        gone = {"command"}
    elif partial.get("command") is not None:
        gone = {"script", "kind", "fileName"}
    else:
        gone = set()
    return {**{key: value for key, value in current.items() if key not in gone}, **partial}


def _format_of(task: Task) -> Format:
    """The format that suits a task of which nobody has said one."""
    if task.command is not None:
        is_plugin = task.command[0].startswith(tuple(f"{directory}/" for directory in DIRECTORIES))
        return Format.NAGIOS if is_plugin else Format.EXIT
    request = ScriptRequest(task.kind, task.script, name=task.file_name)
    try:
        choice = choose(request)
    except NotRunnable:
        return Format.EXIT
    return Format.VERDICT if has_entry_point(choice) else Format.EXIT


def _check_environment(given: Mapping[str, str]) -> None:
    """Raises `ValueError` for variables that no program can be given, and quotes none of them.

    Threat: a script that lacks one of its variables, or cannot start a program with them, says something of the system.
    """
    sizes = [len(f"{name}={value}".encode()) + 1 for name, value in given.items()]
    if any("\0" in value for value in given.values()):
        raise ValueError("a variable holds a zero byte")
    if max(sizes, default=0) > MAX_VARIABLE_BYTES or sum(sizes) > MAX_ENVIRONMENT_BYTES:
        raise ValueError("the variables are too large for a program")


def _variable(fact: str) -> str:
    """The variable in which a script gets a fact: `RINGFENCE_SATELLITE_NAME`."""
    return "RINGFENCE_" + re.sub(r"[^A-Za-z0-9]", "_", fact).upper()


def _nested(facts: Mapping[str, str]) -> dict[str, Any] | None:
    """The facts as objects, `satellite.name` as `name` in `satellite`; None if there are none."""
    nested: dict[str, dict[str, str]] = {}
    for fact, value in facts.items():
        group, _, name = fact.partition(".")
        nested.setdefault(group, {})[name] = value
    return dict(nested) or None
