"""What a caller asks for: one script or command, its kind, what it is given, and its time."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ringfence.sandbox.policy import Needs

DEFAULT_TIMEOUT_MS = 60_000

MAX_SCRIPT_BYTES = 64 * 1024 * 1024
"""How large a script can be, which may be a program."""

MAX_STDIN_BYTES = 1024 * 1024
"""How much can be given as standard input."""

MAX_ARGUMENTS, MAX_ARGUMENT_BYTES = 1000, 128 * 1024
"""How many arguments can be given, and how long they may be all together, with the zero byte that ends each."""

MAX_NAME_BYTES = 200
"""How long a script's name may be. File systems take 255; the ending of an ES module may be added."""

_SET = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_FACT = re.compile(r"RINGFENCE_[A-Z][A-Z0-9_]*")


class ScriptKind(enum.StrEnum):
    """What runs a script.

    `AUTO` goes by its first line, its name and its bytes (see `choosing`). A `PROGRAM` is run by what its first line
    names, or by itself.
    """

    AUTO = "auto"
    SHELL = "shell"
    BASH = "bash"
    PYTHON = "python"
    ESM = "esm"
    PROGRAM = "program"


@dataclass(frozen=True, slots=True)
class ScriptRequest:
    """One script to run, or one command.

    Attributes:
        kind: what runs it; a plain string is accepted and checked.
        script: the source. Bytes are passed as they are; text as UTF-8. None for a command.
        context: any JSON value, given to Python and ESM scripts as their `context`.
        timeout_ms: wall-clock time from the script's start, in milliseconds, at least 1.
        env: variables beyond the curated base; those on the denylist are dropped, and named in the report.
        listen: told which stream the script writes to, and what, as it is read; never of a run that is given secrets,
            which are blotted out of the whole output alone. It must not wait, nor raise.
        secret_env: the same as `env`, but their values are blotted out of whatever the run gives back (see `masking`).
        masked: further texts that are blotted out like those of `secret_env`, which stand elsewhere in what is given.
        command: in place of a script, the absolute path of a program inside the sandbox, and its arguments.
        name: what the script's file is called inside; by default `script` with the suffix of its kind.
        args: its arguments (of a command: further ones), passed exactly.
        stdin: its standard input; `/dev/null` if it is None.
        facts: variables of the supervisor's own, whose names begin with `RINGFENCE_`. They are passed as they are: what
            comes from a caller belongs into `env`.
        state: what an earlier run has kept (`RunResult.kept_state`), or nothing yet: the run then has a directory of
            that, `RINGFENCE_STATE_DIR`. None for a run that keeps nothing.
        packages: the name of the set of packages that it imports from; None for the default set, if there is one.
        needs: what it needs of what the policy gives: it gets that and no more. None for a run that does not say.

    Raises:
        ValueError: for an unknown kind, a timeout below 1, both or neither of a script and a command, and for what
            cannot be passed: a relative command, a name that is a path, zero bytes, and what is too much.
    """

    kind: ScriptKind
    script: str | bytes | None = None
    context: object = None
    timeout_ms: int = DEFAULT_TIMEOUT_MS
    env: Mapping[str, str] | None = None
    secret_env: Mapping[str, str] | None = field(default=None, repr=False)
    listen: Callable[[str, bytes], None] | None = field(default=None, repr=False, compare=False)
    masked: tuple[str, ...] = field(default=(), repr=False)
    command: tuple[str, ...] | None = None
    name: str = ""
    args: tuple[str, ...] = ()
    stdin: str | bytes | None = field(default=None, repr=False)
    facts: Mapping[str, str] = field(default_factory=dict)
    state: bytes | None = field(default=None, repr=False)
    needs: Needs | None = None

    packages: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", ScriptKind(self.kind))
        object.__setattr__(self, "env", MappingProxyType(dict(self.env or {})))
        object.__setattr__(self, "secret_env", MappingProxyType(dict(self.secret_env or {})))
        object.__setattr__(self, "facts", MappingProxyType(dict(self.facts)))
        object.__setattr__(self, "args", tuple(self.args))
        if self.command is not None:
            object.__setattr__(self, "command", tuple(self.command))
        if self.timeout_ms < 1:
            raise ValueError(f"timeout_ms must be at least 1, not {self.timeout_ms}")
        check_given(
            self.kind,
            script=self.script,
            command=self.command,
            name=self.name,
            args=self.args,
            stdin=self.stdin,
        )
        if self.packages is not None:
            check_set(self.packages)
        for name, value in self.facts.items():
            if not _FACT.fullmatch(name) or "\0" in value:
                raise ValueError(
                    f"{name!r} cannot be a fact: its name is RINGFENCE_…, and it holds no zero byte"
                )

    @property
    def source(self) -> bytes:
        """The script as bytes; nothing for a command."""
        return as_bytes(self.script) or b""

    @property
    def input(self) -> bytes | None:
        """The standard input as bytes, or None."""
        return as_bytes(self.stdin)


def as_bytes(given: str | bytes | None) -> bytes | None:
    """Text as UTF-8; bytes as they are."""
    return given.encode() if isinstance(given, str) else given


def check_given(
    kind: ScriptKind,
    *,
    script: str | bytes | None,
    command: tuple[str, ...] | None,
    name: str,
    args: tuple[str, ...],
    stdin: str | bytes | None,
) -> None:
    """Whether a run can be given this at all. Raises ValueError that says what is wrong, and quotes no argument."""
    if (script is None) == (command is None):
        raise ValueError(
            "either a script or a command is to be run" + ("" if script is None else ", not both")
        )
    if script is not None and len(script) > MAX_SCRIPT_BYTES:
        raise ValueError(f"a script may have {MAX_SCRIPT_BYTES} bytes, not more")
    if command is not None:
        if kind not in (ScriptKind.PROGRAM, ScriptKind.AUTO):
            raise ValueError(f"a command is a program: its kind cannot be {kind}")
        if not command or not command[0].startswith("/"):
            raise ValueError("a command is the absolute path of a program, and its arguments")
    check_name(name)
    check_arguments((*(command or ()), *args))
    for what, text in (("the script", script), ("stdin", stdin)):
        try:
            as_bytes(text)
        except UnicodeEncodeError:
            raise ValueError(f"{what} holds half of a surrogate pair, which is no character") from None
    if stdin is not None and len(as_bytes(stdin) or b"") > MAX_STDIN_BYTES:
        raise ValueError(f"stdin may have {MAX_STDIN_BYTES} bytes, not more")


def check_set(name: str) -> None:
    """Whether a set of packages can be called so. Raises ValueError."""
    if _SET.fullmatch(name) is None:
        raise ValueError(
            "a set's name has small letters, digits, '-', '_' and '.', begins with a letter or a digit, and has at "
            "most 100 characters"
        )


def check_name(name: str) -> None:
    """Whether a script's file can be called so. Raises ValueError."""
    if name in (".", "..") or any(each == "/" or not each.isprintable() for each in name):
        raise ValueError(f"{name!r} cannot be a script's name: it is a file's name, without a path")
    if len(name.encode(errors="replace")) > MAX_NAME_BYTES:
        raise ValueError(f"a script's name may have {MAX_NAME_BYTES} bytes, not more")


def check_arguments(args: Iterable[str]) -> None:
    """Whether a program can be given these arguments. Raises ValueError."""
    total = count = 0
    for count, argument in enumerate(args, 1):
        if "\0" in argument:
            raise ValueError(f"argument {count} holds a zero byte, which no program can be given")
        try:
            total += len(argument.encode()) + 1
        except UnicodeEncodeError:
            raise ValueError(f"argument {count} is not UTF-8") from None
    if count > MAX_ARGUMENTS:
        raise ValueError(f"there may be {MAX_ARGUMENTS} arguments, not {count}")
    if total > MAX_ARGUMENT_BYTES:
        raise ValueError(f"the arguments may have {MAX_ARGUMENT_BYTES} bytes together, not {total}")
