"""What a satellite says to a host."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StrictBool,
    StrictFloat,
    StrictInt,
    StringConstraints,
    ValidationError,
    model_validator,
)
from ringfence.bounded import JsonObject as BoundedObject
from ringfence.bounded import (
    LongText,
    Printed,
    PrintedJson,
    ShortText,
    cleaned_json,
)

from ringfence_satellite.protocol.bounds import (
    MAX_DOWNGRADES,
    MAX_FRAME_BYTES,
    MAX_HELD_RUNS,
    MAX_LAYERS,
    MAX_OUTPUT_PIECE,
    MAX_PACKAGE_BYTES,
    MAX_PACKAGE_PIECE,
    MAX_UNDERSTOOD,
)
from ringfence_satellite.protocol.frame import (
    Frame,
    ProtocolError,
    by_type,
    first_problem,
    parse,
)
from ringfence_satellite.protocol.values import (
    HeldPolicy,
    JsonObject,
    Revision,
    RunId,
    RunOutcome,
    SetName,
    Sha256,
    Traceparent,
    WireDowngrade,
)


class Authenticate(Frame):
    """Who the satellite is. Must come first, and within `AUTHENTICATE_SECONDS`.

    `sandbox_policy_held`: the policy that governs it, or would if it were not fail-closed; `none` if it has none yet.
    A satellite that leaves this out does not follow `sandbox_policy_replaces`.
    `assignments_held`: the digest of what it is assigned; one that leaves this out is always told all of it.

    `process` is this one process of the agent: another one knows nothing of what the first was at. `runs` are those
    that it is at, or keeps the result of. Without a process it keeps no runs beyond a connection.

    `platform`: what of this machine decides which packages fit it (`ringfence.scripts.packages.platform`).

    `understands`: what it can be asked for that agents of the first release cannot; see `RunScript.needs`.
    """

    TYPE: ClassVar[str] = "authenticate"

    client_id: ShortText
    token: ShortText = Field(repr=False)
    version: ShortText | None = None
    capabilities: BoundedObject | None = None
    sandbox_policy_held: HeldPolicy | Literal["none"] | None = None
    assignments_held: ShortText | None = None
    process: RunId | None = None
    runs: Annotated[tuple[RunId, ...], Field(max_length=MAX_HELD_RUNS)] = ()
    understands: Annotated[tuple[ShortText, ...], Field(max_length=MAX_UNDERSTOOD)] = ()
    platform: BoundedObject | None = None


class Heartbeat(Frame):
    """The satellite is there. `uptime_seconds` counts from the start of its process."""

    TYPE: ClassVar[str] = "heartbeat"

    version: ShortText | None = None
    uptime_seconds: Annotated[StrictFloat, Field(ge=0)] = 0.0
    capabilities: BoundedObject | None = None


class SandboxPolicyApplied(Frame):
    """The revision that governs the satellite's next run, and what of it the satellite can enforce."""

    TYPE: ClassVar[str] = "sandbox_policy_applied"

    revision: Revision
    enforced: Annotated[dict[ShortText, StrictBool], Field(max_length=MAX_LAYERS)] = Field(
        default_factory=dict
    )
    downgrades: Annotated[tuple[WireDowngrade, ...], Field(max_length=MAX_DOWNGRADES)] = ()
    traceparent: Traceparent = None


class CheckResult(Frame):
    """The outcome of one run of an assignment.

    With a `result_id` the satellite keeps the result until it is acknowledged, and sends it again on its next
    connection if it is not; the host stores what comes twice once.
    """

    TYPE: ClassVar[str] = "result"
    MAX_BYTES: ClassVar[int] = MAX_FRAME_BYTES

    config_id: ShortText
    system_id: ShortText
    status: ShortText
    latency_ms: StrictFloat | None = None
    result: PrintedJson = Field(default_factory=dict)
    executed_at: ShortText
    result_id: RunId | None = None


class RunAccepted(Frame):
    """The satellite has a run: it is at work, or waits for a place there."""

    TYPE: ClassVar[str] = "run_accepted"

    run_id: RunId


class RunOutput(Frame):
    """A run has written something.

    `sequence` counts the pieces of a run, from 0, over its streams. One that was lost is not told again, and from
    `MAX_OUTPUT_CHARACTERS` on nothing more is: the result has all of it.
    """

    TYPE: ClassVar[str] = "run_output"

    run_id: RunId
    stream: Literal["stdout", "stderr"]
    sequence: Annotated[StrictInt, Field(ge=0, lt=2**31)]
    text: Annotated[Printed, StringConstraints(max_length=MAX_OUTPUT_PIECE)]


class RunFinished(Frame):
    """The outcome of one `run_script`; or `error`, where it has no result.

    `cause` says why it has none, if the satellite was not at fault: it was `cancelled`, or the agent was `stopped`.
    With a `result_id` it is kept until it is acknowledged, as a `result` is.
    """

    TYPE: ClassVar[str] = "run_result"
    MAX_BYTES: ClassVar[int] = MAX_FRAME_BYTES
    model_config = ConfigDict(extra="allow")

    run_id: RunId
    error: LongText | None = None
    cause: ShortText | None = None
    result_id: RunId | None = None
    traceparent: Traceparent = None

    @classmethod
    def of(cls, run_id: str, outcome: JsonObject) -> RunFinished:
        """A run's JSON, whose fields stand beside `runId`."""
        return cls.model_validate({**outcome, "runId": run_id})

    @model_validator(mode="wrap")
    @classmethod
    def _what_can_be_taken(cls, given: Any, read: ModelWrapValidatorHandler[RunFinished]) -> RunFinished:
        """A result that breaks the bounds is that run's error: a script's value must not cost the connection."""
        frame = read(given)
        try:
            result = cleaned_json(frame.model_extra)
        except ValueError as error:
            return cls.model_construct(
                run_id=frame.run_id, error=f"its result cannot be taken: {error}", result_id=frame.result_id
            )
        object.__setattr__(frame, "__pydantic_extra__", result)  # the model is frozen, and nobody has it yet
        return frame

    def outcome(self) -> RunOutcome:
        """The run's result. Raises `ProtocolError` when there is none that can be read."""
        if self.error is not None:
            raise ProtocolError(self.error)
        try:
            return RunOutcome.model_validate(self.model_extra)
        except ValidationError as error:
            raise ProtocolError(f"run_result: {first_problem(error)}") from error


class RequestRunSecrets(Frame):
    """Ask for the secrets of one run of one assigned check."""

    TYPE: ClassVar[str] = "request_run_secrets"

    request_id: RunId
    config_id: ShortText
    collector_id: ShortText | None = None


class RequestAssignments(Frame):
    """Ask for all assignments, to be told by `config_updated`: a difference did not fit what is `held`."""

    TYPE: ClassVar[str] = "request_assignments"

    held: ShortText


class RequestScriptPackageManifest(Frame):
    """Ask for a piece of a lock, as JSON in UTF-8. It is answered by a `script_package_piece`.

    There may be one request for a piece at a time, so that what waits for a satellite is bounded.
    """

    TYPE: ClassVar[str] = "request_script_package_manifest"

    request_id: RunId
    lock: Sha256
    offset: Annotated[StrictInt, Field(ge=0, le=MAX_PACKAGE_BYTES)] = 0


class RequestScriptPackageBlob(Frame):
    """Ask for a piece of a file of a lock, which is answered by a `script_package_piece`."""

    TYPE: ClassVar[str] = "request_script_package_blob"

    request_id: RunId
    lock: Sha256
    sha256: Sha256
    offset: Annotated[StrictInt, Field(ge=0, le=MAX_PACKAGE_BYTES)] = 0
    length: Annotated[StrictInt, Field(ge=1, le=MAX_PACKAGE_PIECE)] = MAX_PACKAGE_PIECE


class ScriptPackageSyncState(Frame):
    """How far a set is on the satellite: so many bytes of its files of so many, and what went wrong."""

    TYPE: ClassVar[str] = "script_package_sync_state"

    set: SetName
    lock: Sha256
    state: Literal["pending", "syncing", "ready", "error"]
    bytes: Annotated[StrictInt, Field(ge=0, lt=2**53)] = 0
    total: Annotated[StrictInt, Field(ge=0, lt=2**53)] = 0
    error: LongText | None = None


class StrategyError(Frame):
    """An assignment that the satellite cannot carry out."""

    TYPE: ClassVar[str] = "strategy_error"

    strategy_id: ShortText
    message: LongText


SatelliteFrame = (
    Authenticate
    | Heartbeat
    | SandboxPolicyApplied
    | CheckResult
    | RunAccepted
    | RunOutput
    | RunFinished
    | RequestRunSecrets
    | RequestAssignments
    | RequestScriptPackageManifest
    | RequestScriptPackageBlob
    | ScriptPackageSyncState
    | StrategyError
)
_FROM_SATELLITE: dict[str, type[SatelliteFrame]] = by_type(
    Authenticate,
    Heartbeat,
    SandboxPolicyApplied,
    CheckResult,
    RunAccepted,
    RunOutput,
    RunFinished,
    RequestRunSecrets,
    RequestAssignments,
    RequestScriptPackageManifest,
    RequestScriptPackageBlob,
    ScriptPackageSyncState,
    StrategyError,
)


def parse_from_satellite(text: str, *, max_bytes: int = MAX_FRAME_BYTES) -> SatelliteFrame | None:
    """Read what a satellite sent. None for a type that this host does not know. Raises `ProtocolError`."""
    return parse(text, _FROM_SATELLITE, max_bytes)
