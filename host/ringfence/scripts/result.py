"""What a run gives back: the script's exit, its output, its value, its timing, and the sandbox's report."""

from __future__ import annotations

import enum
from typing import Any

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    StrictBool,
    StrictFloat,
    StrictInt,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_serializer,
)

from ringfence.sandbox import SandboxReport
from ringfence.sandbox.egress.record import EgressRecord
from ringfence.sandbox.wire import WireModel
from ringfence.scripts.request import ScriptKind

REFUSED_EXIT_CODE = -1
"""The exit code of a run that the sandbox refused: nothing was spawned. (A killed script has minus its
signal, so SIGHUP's -1 is told apart by `stopped`, which is `refused` for nothing else.)"""


SCRIPT = "script"
"""The layer, in a report, of what one script asks for or looks at."""

OF_THE_SCRIPT = frozenset({"interpreter", SCRIPT})
"""The layers of a report's notes that are about the script itself: what was mended in it, and what it cannot see."""


class Stopped(enum.StrEnum):
    """Why the supervisor, not the script, ended a run.

    A result may come from a satellite of another release: a reason that this one does not know is read as `OTHER`.
    """

    REFUSED = "refused"
    TIMEOUT = "timeout"
    OUTPUT = "output"
    MEMORY = "memory"
    FILES = "files"
    VALUE = "value"
    UNWATCHED = "unwatched"
    OTHER = "other"

    @classmethod
    def _missing_(cls, value: object) -> Stopped | None:
        return cls.OTHER if isinstance(value, str) else None


class Timing(WireModel):
    """Where the time of a run went, in milliseconds.

    `queued_ms` waiting for a free place, `prepare_ms` making the sandbox (0 when a warm one was waiting),
    `run_ms` from the script's start until its tree was gone. `cpu_ms` is the processor time that the whole tree used
    meanwhile; None where it had no cgroup of its own, which is what accounts for it.
    """

    queued_ms: StrictFloat = 0.0
    prepare_ms: StrictFloat = 0.0
    run_ms: StrictFloat = 0.0
    cpu_ms: StrictFloat | None = None
    warm: StrictBool = False


class PackagesUsed(WireModel):
    """Which packages a run had: the set, and the hash of its lock."""

    set: str
    lock: str


class RunResult(WireModel):
    """One run's outcome. `model_dump(mode="json", by_alias=True)` is its JSON form, the same everywhere.

    Attributes:
        exit_code: the script's status; minus the signal's number if one killed it; -1 for a refusal.
        stdout, stderr: what was written, invalid UTF-8 replaced; together at most `maxOutputBytes` bytes as
            written.
        timed_out: the wall-clock time ran out, and the tree was killed.
        output_truncated: the output cap was reached, and the run was stopped.
        duration_ms: from the request until the result, queueing included.
        value: the JSON value that a Python or ESM script gave back; None also if it gave none. A number that is not
            finite is null in it.
        value_error: why a value that the script gave back could not be taken (too large, not JSON).
        stopped: what ended the run, if it was not the script itself; `value` for one that was too large, `unwatched`
            if the supervisor could not see any more what the run uses (a note in `sandbox` says why).
        state_error: why what the script has left in its state directory is not kept.
        kept_state: what it has left there, for the next run; None if it did not end by itself. It stays where it is.
        egress: what it tried on the network; None if it had no network that is watched, or
            that cannot be read here.
        packages: the set of packages that it could import from, and its lock; None if it had none.
        untold: why what it says of the host is not true: its program tells of what the sandbox did not show it.
        kind: what ran the script; None for a run that was refused, and from a satellite of an older release.
    """

    exit_code: StrictInt
    stdout: str = ""
    stderr: str = ""
    timed_out: StrictBool = False
    output_truncated: StrictBool = False
    duration_ms: StrictFloat = 0.0
    value: Any = None
    value_error: str | None = None
    stopped: Stopped | None = None
    timing: Timing = Timing()
    kind: ScriptKind | None = None
    state_error: str | None = None
    egress: EgressRecord | None = None
    packages: PackagesUsed | None = None
    untold: str | None = None
    kept_state: bytes | None = Field(default=None, exclude=True, repr=False)
    sandbox: SandboxReport

    @field_validator("egress", mode="wrap")
    @classmethod
    def _none_if_unreadable(cls, told: Any, read: ValidatorFunctionWrapHandler) -> EgressRecord | None:
        # From a satellite of another release: what it has tried decides nothing, and must not cost the result.
        try:
            record: EgressRecord | None = read(told)
        except ValidationError:
            return None
        return record

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Most runs have no such network, and no such program: they say nothing of it.
        told: dict[str, Any] = handler(self)
        for name in ("egress", "packages", "untold"):
            if getattr(self, name) is None:
                told.pop(name, None)
        return told

    @property
    def refused(self) -> bool:
        """Whether the sandbox refused the run, so that nothing was spawned."""
        return self.stopped is Stopped.REFUSED
