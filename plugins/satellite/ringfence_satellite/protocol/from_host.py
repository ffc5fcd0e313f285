"""What a host says to a satellite."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, StrictBool, StrictInt
from ringfence.bounded import (
    Json,
    LongText,
    ShortText,
    Text,
)
from ringfence.bounded import JsonObject as BoundedObject
from ringfence.scripts import DEFAULT_TIMEOUT_MS, ScriptKind

from ringfence_satellite.protocol.assignments import Assigned, Difference, Item
from ringfence_satellite.protocol.bounds import (
    MAX_FRAME_BYTES,
    MAX_TIMEOUT_MS,
)
from ringfence_satellite.protocol.frame import (
    Frame,
    by_type,
    parse,
)
from ringfence_satellite.protocol.values import (
    Environment,
    HeldPolicy,
    Revision,
    RunId,
)


class Authenticated(Frame):
    """The token was right.

    Without `sandbox_policy` the host cannot say what the policy is: stay fail-closed. `acknowledges_results`: each
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
    acknowledges_results: StrictBool = False
    keeps_runs: StrictBool = False
    limits_follow_schedules: StrictBool = False


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
    timeout_ms: Annotated[StrictInt, Field(ge=1, le=MAX_TIMEOUT_MS)] = DEFAULT_TIMEOUT_MS
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
    accepted: StrictBool = True


class Shutdown(Frame):
    """The instance stops, or wants this connection gone; the satellite is to connect again."""

    TYPE: ClassVar[str] = "shutdown"

    reason: LongText


HostFrame = (
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
_FROM_HOST: dict[str, type[HostFrame]] = by_type(
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


def parse_from_host(text: str) -> HostFrame | None:
    """Read what a host sent. None for a type that this satellite does not know. Raises `ProtocolError`."""
    return parse(text, _FROM_HOST, MAX_FRAME_BYTES)
