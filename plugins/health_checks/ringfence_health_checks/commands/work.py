"""What a check runs, as a command line gives it: a script or a command, what that is given, and how it is read."""

from __future__ import annotations

import enum
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from ringfence.cli import (
    Arguments,
    Code,
    IsCommand,
    Kind,
    NeedNetwork,
    NeedsOption,
    PackagesOption,
    ScriptFile,
    ScriptKind,
    UsageMistake,
    Variables,
    duration,
    lasting_kind_of,
    name_of,
    names_as,
    names_here,
    needed,
    output,
    read_file,
    read_script,
    variables,
)

if TYPE_CHECKING:
    from ringfence.scripts import Task

    from ringfence_health_checks.catalogue import Ready

OF_SETTINGS = "CHECK_"
"""How the variables begin that are settings of ready checks."""


class FormatName(enum.StrEnum):
    """How output is read; see `ringfence.scripts.Format`, which takes longer to load."""

    EXIT = "exit"
    NAGIOS = "nagios"
    VERDICT = "verdict"
    JSON = "json"
    PROMETHEUS = "prometheus"


def _ready_checks() -> Sequence[str]:
    from ringfence_health_checks import catalogue

    return catalogue.names()


FormatOption = Annotated[
    FormatName | None,
    typer.Option("--format", help="How its output is read. By default, what suits it.", show_default=False),
]
Assertions = Annotated[
    list[str] | None,
    typer.Option(
        "--assert",
        metavar="CLAIM",
        help="What must be so, as in 'metric.lag < 10 else degraded'; repeat for more.",
    ),
]
Input = Annotated[
    str | None,
    typer.Option(
        "--stdin", metavar="FILE", help="What it reads as its standard input; - passes this command's on."
    ),
]
Secrets = Annotated[
    list[str] | None,
    typer.Option(
        "--secret",
        metavar="NAME|VAR=TEXT",
        autocompletion=names_as("secret", "delete"),
        help="A secret in a variable of its name, or a text with {secret-name} in the variable VAR; repeat for more.",
    ),
]

KeepState = Annotated[
    bool | None,
    typer.Option(
        "--keep-state/--no-keep-state",
        help="Whether its next run finds what it leaves in $RINGFENCE_STATE_DIR.",
        show_default=False,
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        parser=duration, metavar="TIME", help="How long a run may take; at first 30s.", show_default=False
    ),
]
DEFAULT_TIMEOUT_SECONDS = 30.0

From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="NAME",
        autocompletion=names_here(_ready_checks),
        help="A ready check in place of FILE; see: ringfence check catalogue",
        show_default=False,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting of that ready check; repeat for more."),
]


@dataclass(frozen=True)
class Given:
    """The options of a command line that say what is run; None for what is not said."""

    file: ScriptFile = None
    args: Arguments = None
    code: Code = None
    command: IsCommand = None
    kind: ScriptKind = None
    format: FormatOption = None
    assertions: Assertions = None
    env: Variables = None
    stdin: Input = None
    secrets: Secrets = None
    keep_state: KeepState = None
    needs: NeedsOption = None
    need_network: NeedNetwork = None
    packages: PackagesOption = None

    def to_wire(self, *, keeps_kind: bool = False) -> dict[str, Any]:
        """As parts of a check's definition; only what is said is in it. Raises `UsageMistake`.

        With `keeps_kind`, there is a check already: a script that does not say what runs it is of the check's kind.
        """
        work, env = self._work(variables(self.env), keeps_kind=keeps_kind)
        more: dict[str, Any] = {
            "kind": None if self.kind is None else self.kind.value,
            "args": list(self.args or ()) if not self.command else None,
            "env": env,
            "stdin": None if self.stdin is None else _text("standard input", read_file(self.stdin)),
            "secrets": secrets(self.secrets),
            "format": None if self.format is None else self.format.value,
            "assertions": list(self.assertions or ()),
            "keepState": self.keep_state,
            "packages": self.packages,
        }
        found = {**work, **{name: value for name, value in more.items() if value not in (None, [], {})}}
        # What needs nothing gets the plain sandbox, and what does not say gets all that the policy allows.
        return (
            found if (needs := needed(self.needs, self.need_network)) is None else {**found, "needs": needs}
        )

    def _work(self, env: dict[str, str], *, keeps_kind: bool) -> tuple[dict[str, Any], dict[str, str]]:
        """What is run, as parts of a definition, and all variables that it is given beside `env`."""
        if self.command:
            return self._command(), env
        if self.file is not None or self.code is not None:
            return self._script(keeps_kind=keeps_kind), env
        return {}, env

    def _command(self) -> dict[str, Any]:
        if self.file is None or self.code is not None:
            raise UsageMistake("a command needs the path of a program, and no code")
        return {"command": [self.file, *(self.args or ())]}

    def _script(self, *, keeps_kind: bool) -> dict[str, Any]:
        if self.file == "-" == self.stdin:
            raise UsageMistake("the script and its standard input cannot both come from standard input")
        script = read_script(self.file, self.code)
        text = _text("a check's script", script)
        name = name_of(self.file)
        return {
            **self._kind(script, keeps_kind=keeps_kind),
            "script": text,
            **({"fileName": name} if name else {}),
        }

    def _kind(self, script: bytes, *, keeps_kind: bool) -> dict[str, str]:
        if keeps_kind and (self.file is None or self.kind is not None):
            return {}
        try:
            return {"kind": (self.kind or lasting_kind_of(self.file, script)).value}
        except UsageMistake:
            if keeps_kind:
                return {}
            raise


@dataclass(frozen=True)
class GivenOrReady(Given):
    """The same for what may be a ready check."""

    ready: From = None
    settings: Settings = None

    def over(self, check: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
        """What of a check is changed, where `body` is what these options say: a ready check keeps what is set of it.

        Settings of the ready check that it is from stay, where they are not said anew. Those of another one go, and so
        does how its output was read. Raises `UsageMistake` for settings that are then missing.
        """
        if self.ready is None:
            return dict(body)
        ready, held = self._named(), check.get("env") or {}
        is_same = check.get("fileName") == ready.file_name
        kept = {
            name: value
            for name, value in held.items()
            if (is_same if name.startswith(OF_SETTINGS) else not self.env)
        }
        env = {**kept, **body.get("env", {})}
        given_secrets = body.get("secrets", check.get("secrets") or ())
        self._variables(ready, (*env, *given_secrets))
        return {"args": [], "format": None, **body, "env": env}

    def _work(self, env: dict[str, str], *, keeps_kind: bool) -> tuple[dict[str, Any], dict[str, str]]:
        if self.ready is not None:
            work, settings = self._ready(env, keeps=keeps_kind)
            return work, {**settings, **env}
        if self.settings:
            raise UsageMistake("--set is for a ready check: name it by --from")
        return super()._work(env, keeps_kind=keeps_kind)

    def _ready(self, env: Mapping[str, str], *, keeps: bool) -> tuple[dict[str, Any], dict[str, str]]:
        """A ready check's script, and its settings as variables; what is missing may be there if it `keeps` some."""
        ready = self._named()
        there = [one.variable for one in ready.settings] if keeps else ()
        settings = self._variables(ready, (*env, *secrets_by_variable(self.secrets), *there))
        return {"kind": Kind.PYTHON.value, "script": ready.source, "fileName": ready.file_name}, settings

    def _named(self) -> Ready:
        from ringfence_health_checks import catalogue

        if self.file is not None or self.code is not None:
            raise UsageMistake("--from names a ready check, so there can be no FILE and no CODE")
        try:
            return catalogue.ready(str(self.ready))
        except KeyError:
            names = ", ".join(catalogue.names())
            raise UsageMistake(
                f"there is no ready check {self.ready!r}", hint=f"There are: {names}."
            ) from None

    def _variables(self, ready: Ready, there: Sequence[str]) -> dict[str, str]:
        """The settings as variables, where those of `there` are set in another way."""
        try:
            return ready.variables(variables(self.settings, option="--set"), there)
        except ValueError as error:
            raise UsageMistake(
                str(error), hint=f"See: ringfence check catalogue show {ready.name}"
            ) from error


@dataclass(frozen=True)
class GivenAnew(GivenOrReady):
    """The same for what is not there yet."""

    @property
    def name(self) -> str:
        """What it is called, if it has a name."""
        return self.ready or name_of(self.file)

    def check_names_work(self, command: str) -> None:
        """Raise `UsageMistake` if they do not say to `ringfence check COMMAND` what is run, but only how."""
        if self.file is None and self.code is None and self.ready is None:
            raise UsageMistake(
                "give a script or a program: FILE, -c CODE, or --from NAME",
                hint=f"See: ringfence check {command} --help",
            )


def secrets(given: Sequence[str] | None) -> list[str] | dict[str, str]:
    """The secrets of options `NAME` and `VAR=TEXT`: the names alone where there are only such."""
    if not any("=" in one for one in given or ()):
        return list(given or ())
    return secrets_by_variable(given)


def secrets_by_variable(given: Sequence[str] | None) -> dict[str, str]:
    """The same as texts by their variables."""
    found = {}
    for one in given or ():
        variable, equals, text = one.partition("=")
        found[variable] = text if equals else f"{{{variable}}}"
    return found


def task_of(wire: Mapping[str, Any]) -> Task:
    """The task that parts of a definition describe. Raises `UsageMistake` for one that cannot be."""
    from pydantic import ValidationError
    from ringfence.redaction import describe
    from ringfence.scripts import Task

    try:
        return Task.model_validate({**wire}, by_alias=True, by_name=False)
    except ValidationError as error:
        raise UsageMistake(f"this cannot be run: {describe(error)}") from error


def what_runs(task: Task) -> str:
    """In words: what runs a task, and how its output is read."""
    return f"{_runner(task)}; its output is read as {task.read_as.value}"


def shown(check: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a check runs and is given, as names and lines; its script is not among them."""
    if command := check.get("command"):
        yield "command", output.line(shlex.join(command))
    else:
        yield "kind", output.line(check["kind"])
    if name := check.get("fileName"):
        yield "file", output.line(name)
    if args := check.get("args"):
        yield "args", output.line(shlex.join(args))
    for name, value in (check.get("env") or {}).items():
        yield "env", output.line(f"{name}={value}")
    if (given := check.get("stdin")) is not None:
        yield "stdin", f"{len(given)} characters"
    if check.get("keepState"):
        yield "state", "kept from one run to the next"
    if (needs := check.get("needs")) is not None:
        yield (
            "needs",
            output.line(json.dumps(needs, ensure_ascii=False)) if needs else "the plain sandbox alone",
        )
    if packages := check.get("packages"):
        yield "packages", output.line(packages)
    if read_as := check.get("readAs"):
        yield "read as", output.line(read_as)
    for claim in check.get("assertions") or ():
        yield "assertion", output.line(claim)


def _runner(task: Task) -> str:
    from ringfence.scripts import ScriptRequest
    from ringfence.scripts.choosing.choice import NotRunnable, choose

    if task.command is not None:
        return f"the command {shlex.join(task.command)}"
    try:
        choice = choose(ScriptRequest(task.kind, task.script, name=task.file_name))
    except NotRunnable as reason:
        return f"nothing runs it ({reason})"
    words = shlex.join(choice.words) or _RUNNERS.get(choice.kind.value, choice.kind.value)
    return f"a script that {words} runs"


_RUNNERS = {"shell": "sh", "bash": "bash", "python": "Python", "esm": "Node.js"}


def _text(what: str, given: bytes) -> str:
    try:
        return given.decode()
    except UnicodeDecodeError as error:
        raise UsageMistake(f"{what} must be UTF-8 text: {error}") from error
