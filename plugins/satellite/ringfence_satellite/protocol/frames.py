"""The satellite protocol: what each side may say, as frozen types, read from JSON and written as JSON.

No I/O and no state: a frame is parsed, or refused with a reason, from its text alone. So that old and new can
talk, an unknown *type* parses to None and unknown *fields* are dropped; what is known must fit its bounds.

Threat: a satellite is a machine that may be taken over, and anybody may open a socket. So every text, list
and number from the other side is bounded here (by the types of `ringfence.bounded`), before anything else looks at it.
A field that does not fit ends the connection. What a script has printed or returned is not the satellite's doing: of
that what cannot be stored is replaced, and what cannot be taken at all ends that one run. What this does not cover is
whether what a satellite says about itself is true: nobody but the satellite can know.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import from_json
from ringfence.bounded import (
    STORABLE,
    Int32,
    Json,
    LongText,
    Printed,
    PrintedJson,
    ShortText,
    Text,
    cleaned,
    cleaned_json,
)
from ringfence.bounded import JsonObject as BoundedObject
from ringfence.sandbox.wire import WireModel
from ringfence.scripts import DEFAULT_TIMEOUT_MS, ScriptKind

from ringfence_satellite.protocol.assignments import Assigned, Difference, Item

PATH = "/api/ws/satellite"
AUTHENTICATE_SECONDS = 10.0
"""How long the core waits for `authenticate` before it hangs up."""
HEARTBEAT_SECONDS = 15.0
"""How often a satellite says that it is there, unless it is set otherwise."""
MAX_FRAME_BYTES = 8 * 1024 * 1024
"""The largest frame of either side, in bytes of UTF-8: a run's script and context, or its output."""
MAX_SMALL_FRAME_BYTES = 64 * 1024
"""The largest frame that carries no script and no output, and the largest before authentication."""
MAX_FRAMES_PER_SECOND = 20.0
FRAMES_PER_RUN = 4.0
MAX_FRAME_BURST = 200.0
"""A satellite may say this much at once (the results of as many runs as may be under way, and more), and no
more.
"""
REQUEST_ASSIGNMENTS_SECONDS = 10.0
"""How long a satellite waits before it asks for all assignments again."""
MAX_HELD_RUNS = 256
"""How many runs an agent may name when it signs in: as many as it can be at, and more results than it can keep."""
MAX_OUTPUT_PIECE = 8 * 1024
"""The longest piece of a run's output that is told while it runs, in characters: a small frame, whatever they are."""
MAX_OUTPUT_CHARACTERS = 256 * 1024
"""How much of a run's output is told while it runs; its result has all of it."""
MAX_TIMEOUT_MS = 24 * 60 * 60 * 1000
MIN_INTERVAL_SECONDS = 0.1
MAX_INTERVAL_SECONDS = 31 * 24 * 3600.0
MAX_DOWNGRADES = 64
MAX_LAYERS = 64
MAX_REASON = 300
"""The longest reason for which a frame is refused, in characters."""


def frames_per_second(runs_per_second: float) -> float:
    """How much a satellite may say whose schedules make so many runs, each of which may ask for secrets and reports.

    Twice that, for what has waited while there was no connection.
    """
    return MAX_FRAMES_PER_SECOND + FRAMES_PER_RUN * runs_per_second


class CloseCode(enum.IntEnum):
    """Why a WebSocket was closed. 1000 to 1015 are RFC 6455's own, the others ours."""

    NORMAL = 1000
    GOING_AWAY = 1001
    TOO_LARGE = 1009
    FAULT = 1011
    """The host has failed at this connection in a way that nobody foresaw."""
    TRY_LATER = 1013
    BACK_SOON = 4000
    """The satellite leaves this connection, and means to come back: it is not going offline."""
    UNREADABLE = 4400
    """A frame that is no JSON object with a `type`, or whose known fields do not fit."""
    AUTH_FAILED = 4401
    REVOKED = 4403
    """The satellite was deleted, or its token rotated."""
    SILENT = 4408
    """No heartbeat for longer than the satellite's offline threshold."""
    REPLACED = 4409
    """The same satellite has connected again; the newer connection wins."""
    TOO_SLOW = 4413
    """The satellite does not read what it is sent."""
    TOO_FAST = 4429
    """More frames than the rate limit allows."""


class ProtocolError(ValueError):
    """A frame that cannot be taken. `code` is what to close with; the message is the reason for the peer."""

    def __init__(self, message: str, code: CloseCode = CloseCode.UNREADABLE) -> None:
        super().__init__(message)
        self.code = code


class _Wire(WireModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class Frame(_Wire):
    """One message. `TYPE` is its `type` on the wire; `MAX_BYTES` bounds its text."""

    TYPE: ClassVar[str]
    MAX_BYTES: ClassVar[int] = MAX_SMALL_FRAME_BYTES

    def encode(self) -> str:
        """The frame as JSON text. A field that is None is left out, which means the same to the reader."""
        body = self.model_dump_json(by_alias=True, exclude_none=True)
        separator = "," if body != "{}" else ""
        return f'{{"type":"{self.TYPE}"{separator}{body[1:]}'


Revision = Annotated[int, Field(ge=0, lt=2**63, strict=True)]
RunId = Annotated[str, StringConstraints(min_length=1, max_length=64), STORABLE]
Environment = dict[ShortText, Text]
JsonObject = dict[str, Any]
"""JSON as it is handed on; what comes from the other side is a `BoundedObject` first."""


class RunOutcome(_Wire):
    """A run's result as it crosses the wire: the fields of `ringfence.scripts.RunResult`.

    The other side may be newer: fields that are not named here are kept as they came, and the sandbox
    report is not looked into, so that a report on a policy which this side could not even parse still gets
    through.
    """

    model_config = ConfigDict(extra="allow")

    exit_code: Int32
    stdout: Printed = ""
    stderr: Printed = ""
    timed_out: bool = False
    output_truncated: bool = False
    duration_ms: float = 0.0
    value: Any = None
    sandbox: JsonObject

    def to_wire(self) -> JsonObject:
        """The result as JSON, in wire names."""
        return self.model_dump(mode="json", by_alias=True)


class WireDowngrade(_Wire):
    """A layer that the policy asks for and the satellite's host cannot enforce."""

    layer: ShortText
    reason: LongText


class Assignment(_Wire):
    """A script that a satellite runs again and again, until it is told otherwise.

    `config_id` names the assignment, and is what the satellite reports on; `system_id` is what it is about.
    `needs_secrets`: each run has to ask for its secrets first (`request_run_secrets`).
    """

    config_id: ShortText
    system_id: ShortText
    kind: ScriptKind
    script: Text
    context: Json = None
    interval_seconds: Annotated[float, Field(ge=MIN_INTERVAL_SECONDS, le=MAX_INTERVAL_SECONDS)]
    timeout_ms: Annotated[int, Field(ge=1, le=MAX_TIMEOUT_MS)] = DEFAULT_TIMEOUT_MS
    needs_secrets: bool = False

    @classmethod
    def read(cls, wire: Mapping[str, Any]) -> Assignment:
        """An assignment that a core has sent. Raises `ProtocolError` for one that this satellite cannot carry out."""
        try:
            return cls.model_validate(wire, by_alias=True, by_name=False)
        except ValidationError as error:
            raise ProtocolError(f"this satellite cannot carry it out: {_first_problem(error)}") from error

    def to_wire(self) -> JsonObject:
        """The assignment as JSON, in wire names."""
        return self.model_dump(mode="json", by_alias=True)

    @cached_property
    def item(self) -> Item:
        """The assignment as it is sent, and compared with what was sent before: worked out once, for all satellites."""
        return Item.of(self.to_wire())


class HeldPolicy(_Wire):
    """A policy by its revision and its digest (see `lineage`).

    Together they say which one it is, where a revision alone does not, since a database that was set back gives the
    same numbers again.
    """

    revision: Revision
    digest: ShortText


# Core to satellite ----------------------------------------------------------------------


class Authenticated(Frame):
    """The token was right.

    Without `sandbox_policy` the core cannot say what the policy is: stay fail-closed. `acknowledges_results`: each
    `result` with a `resultId` is answered by a `result_ack`. `sandbox_policy_replaces`: the database does not have
    what the satellite said that it holds; `sandbox_policy` takes its place, though its revision may be lower.
    `limits_follow_schedules`: the satellite may say so much more as its assignments make results (see
    `frames_per_second`).
    `keeps_runs`: a run goes on when this connection ends, and its result is taken on any later one, where it is
    answered by a `result_ack`.

    A satellite that has said which assignments it holds gets `assignments_digest` and no `assignments`: it is to have
    those with that digest, and what it has to change for that is sent next.
    """

    TYPE: ClassVar[str] = "authenticated"
    MAX_BYTES: ClassVar[int] = MAX_FRAME_BYTES

    satellite_id: ShortText
    assignments: list[BoundedObject] | None = None
    assignments_digest: ShortText | None = None
    sandbox_policy: Json = None
    sandbox_policy_revision: Revision | None = None
    sandbox_policy_replaces: HeldPolicy | None = None
    script_packages_lockfile_hash: ShortText | None = None
    acknowledges_results: bool = False
    keeps_runs: bool = False
    limits_follow_schedules: bool = False


class AuthFailed(Frame):
    """The satellite is not let in; the socket closes next."""

    TYPE: ClassVar[str] = "auth_failed"

    reason: LongText


class SandboxPolicyPushed(Frame):
    """The policy has changed: this is all of it.

    Left unparsed here, since it may be newer than the reader.
    """

    TYPE: ClassVar[str] = "sandbox_policy"
    MAX_BYTES: ClassVar[int] = MAX_FRAME_BYTES

    policy: Json
    revision: Revision


class ConfigUpdated(Frame):
    """What the satellite is to do has changed: this is all of it."""

    TYPE: ClassVar[str] = "config_updated"
    MAX_BYTES: ClassVar[int] = MAX_FRAME_BYTES

    assignments: list[BoundedObject]
    script_packages_lockfile_hash: ShortText | None = None

    @classmethod
    def of(cls, assigned: Assigned) -> ConfigUpdated:
        """The frame that tells of all of it."""
        return cls(assignments=[dict(item.wire) for item in assigned.items.values()])


class AssignmentsChanged(Frame):
    """What the satellite is to do has changed, and how: see `assignments`. Only for one that has said what it holds."""

    TYPE: ClassVar[str] = "assignments_changed"
    MAX_BYTES: ClassVar[int] = MAX_FRAME_BYTES

    base: ShortText
    upserts: list[BoundedObject] = Field(default_factory=list)
    removals: list[ShortText] = Field(default_factory=list)
    digest: ShortText

    @classmethod
    def of(cls, change: Difference) -> AssignmentsChanged:
        """The frame that tells of this difference."""
        return cls(
            base=change.base,
            upserts=[dict(item.wire) for item in change.upserts],
            removals=list(change.removals),
            digest=change.digest,
        )

    def difference(self) -> Difference:
        """What the frame tells of."""
        upserts = tuple(map(Item.of, self.upserts))
        return Difference(self.base, upserts, tuple(self.removals), self.digest)


class RefreshScriptPackages(Frame):
    """The packages that scripts may import have changed."""

    TYPE: ClassVar[str] = "refresh_script_packages"

    lockfile_hash: ShortText


class RunScript(Frame):
    """Run one script now, under the policy that the satellite holds, and answer with `run_accepted` and `run_result`.

    One that comes again, with the same `run_id`, is run once. `config_id`: the run is one of that assignment, whose
    secrets the satellite asks for before it starts.
    """

    TYPE: ClassVar[str] = "run_script"
    MAX_BYTES: ClassVar[int] = MAX_FRAME_BYTES

    run_id: RunId
    kind: ScriptKind
    script: Text
    context: Json = None
    timeout_ms: Annotated[int, Field(ge=1, le=MAX_TIMEOUT_MS)] = DEFAULT_TIMEOUT_MS
    secret_env: Environment | None = Field(default=None, repr=False)
    config_id: ShortText | None = None


class CancelRun(Frame):
    """End a run where it is, and answer with its `run_result`. One that is not known is passed over."""

    TYPE: ClassVar[str] = "cancel_run"

    run_id: RunId


class RunSecrets(Frame):
    """The answer to `request_run_secrets`: the environment, or why there is none."""

    TYPE: ClassVar[str] = "run_secrets"
    MAX_BYTES: ClassVar[int] = MAX_FRAME_BYTES

    request_id: RunId
    env: Environment | None = Field(default=None, repr=False)
    error: LongText | None = None


class ResultAck(Frame):
    """The result with this id need not be sent again: it is stored, or (not `accepted`) never will be."""

    TYPE: ClassVar[str] = "result_ack"

    result_id: RunId
    accepted: bool = True


class Shutdown(Frame):
    """The instance stops, or wants this connection gone; the satellite is to connect again."""

    TYPE: ClassVar[str] = "shutdown"

    reason: LongText


# Satellite to core ----------------------------------------------------------------------


class Authenticate(Frame):
    """Who the satellite is. Must come first, and within `AUTHENTICATE_SECONDS`.

    `sandbox_policy_held`: the policy that governs it, or would if it were not fail-closed; `none` if it has none yet.
    A satellite that leaves this out does not follow `sandbox_policy_replaces`.
    `assignments_held`: the digest of what it is assigned; one that leaves this out is always told all of it.

    `process` is this one process of the agent: another one knows nothing of what the first was at. `runs` are those
    that it is at, or keeps the result of. Without a process it keeps no runs beyond a connection.
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


class Heartbeat(Frame):
    """The satellite is there. `uptime_seconds` counts from the start of its process."""

    TYPE: ClassVar[str] = "heartbeat"

    version: ShortText | None = None
    uptime_seconds: Annotated[float, Field(ge=0)] = 0.0
    capabilities: BoundedObject | None = None


class SandboxPolicyApplied(Frame):
    """The revision that governs the satellite's next run, and what of it that host can enforce."""

    TYPE: ClassVar[str] = "sandbox_policy_applied"

    revision: Revision
    enforced: Annotated[dict[ShortText, bool], Field(max_length=MAX_LAYERS)] = Field(default_factory=dict)
    downgrades: Annotated[tuple[WireDowngrade, ...], Field(max_length=MAX_DOWNGRADES)] = ()


class CheckResult(Frame):
    """The outcome of one run of an assignment.

    With a `result_id` the satellite keeps the result until it is acknowledged, and sends it again on its next
    connection if it is not; the core stores what comes twice once.
    """

    TYPE: ClassVar[str] = "result"
    MAX_BYTES: ClassVar[int] = MAX_FRAME_BYTES

    config_id: ShortText
    system_id: ShortText
    status: ShortText
    latency_ms: float | None = None
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
    sequence: Annotated[int, Field(ge=0, lt=2**31, strict=True)]
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
            raise ProtocolError(f"run_result: {_first_problem(error)}") from error


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


class StrategyError(Frame):
    """An assignment that the satellite cannot carry out."""

    TYPE: ClassVar[str] = "strategy_error"

    strategy_id: ShortText
    message: LongText


CoreFrame = (
    Authenticated
    | AuthFailed
    | SandboxPolicyPushed
    | ConfigUpdated
    | AssignmentsChanged
    | RefreshScriptPackages
    | RunScript
    | CancelRun
    | RunSecrets
    | ResultAck
    | Shutdown
)
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
    | StrategyError
)

F = TypeVar("F", bound=Frame)


def _by_type(*frames: type[F]) -> dict[str, type[F]]:
    return {frame.TYPE: frame for frame in frames}


_FROM_CORE: dict[str, type[CoreFrame]] = _by_type(
    Authenticated,
    AuthFailed,
    SandboxPolicyPushed,
    ConfigUpdated,
    AssignmentsChanged,
    RefreshScriptPackages,
    RunScript,
    CancelRun,
    RunSecrets,
    ResultAck,
    Shutdown,
)
_FROM_SATELLITE: dict[str, type[SatelliteFrame]] = _by_type(
    Authenticate,
    Heartbeat,
    SandboxPolicyApplied,
    CheckResult,
    RunAccepted,
    RunOutput,
    RunFinished,
    RequestRunSecrets,
    RequestAssignments,
    StrategyError,
)


def parse_from_core(text: str) -> CoreFrame | None:
    """Read what a core sent. None for a type that this satellite does not know. Raises `ProtocolError`."""
    return _parse(text, _FROM_CORE, MAX_FRAME_BYTES)


def parse_from_satellite(text: str, *, max_bytes: int = MAX_FRAME_BYTES) -> SatelliteFrame | None:
    """Read what a satellite sent. None for a type that this core does not know. Raises `ProtocolError`."""
    return _parse(text, _FROM_SATELLITE, max_bytes)


def _parse(text: str, frames: dict[str, type[F]], max_bytes: int) -> F | None:
    try:
        raw = text.encode()
    except UnicodeEncodeError as error:
        raise ProtocolError(f"not UTF-8: {error}") from error
    _check_size("frame", size := len(raw), max_bytes)
    try:
        obj = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise ProtocolError(f"not JSON: {error}") from error
    if not isinstance(obj, dict) or not isinstance(obj.get("type"), str):
        raise ProtocolError("a frame must be a JSON object with a text `type`")
    frame = frames.get(obj.pop("type"))
    if frame is None:
        return None
    _check_size(frame.TYPE, size, min(max_bytes, frame.MAX_BYTES))
    try:
        return frame.model_validate(obj, by_alias=True, by_name=False)
    except ValidationError as error:
        raise ProtocolError(f"{frame.TYPE}: {_first_problem(error)}") from error


def _check_size(what: str, size: int, most: int) -> None:
    if size > most:
        raise ProtocolError(f"{what}: {size} bytes, where at most {most} are taken", CloseCode.TOO_LARGE)


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    path = ".".join(str(step) for step in problem["loc"])
    return cleaned(f"{path}: {problem['msg']}" if path else problem["msg"], MAX_REASON)
