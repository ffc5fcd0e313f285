"""What a host says to a satellite."""

from __future__ import annotations

import contextlib
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, StrictBool, StrictInt, StringConstraints
from ringfence.bounded import (
    Json,
    LongText,
    ShortText,
    Text,
)
from ringfence.bounded import JsonObject as BoundedObject
from ringfence.scripts import DEFAULT_TIMEOUT_MS, ScriptKind, ScriptRequest
from ringfence.scripts.choosing.choice import NotRunnable, choose
from ringfence.scripts.request import MAX_ARGUMENTS

from ringfence_satellite.protocol.assignments import Assigned, Difference, Item
from ringfence_satellite.protocol.bounds import (
    MAX_FRAME_BYTES,
    MAX_PACKAGE_PIECE,
    MAX_SMALL_FRAME_BYTES,
    MAX_TIMEOUT_MS,
    MAX_UNDERSTOOD,
    MAX_VARIABLES,
)
from ringfence_satellite.protocol.digest import digest
from ringfence_satellite.protocol.frame import (
    Frame,
    by_type,
    parse,
)
from ringfence_satellite.protocol.values import (
    Environment,
    Facts,
    HeldPolicy,
    PackageSets,
    PlacedTask,
    Revision,
    RunId,
    SetName,
    Traceparent,
    is_plain,
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

    `tells_packages`: the host tells which sets of packages are wanted here, `script_packages` now, or, if it does not
    know yet, by `refresh_script_packages`; without it there are none.

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
    facts: Facts | None = None
    limits_follow_schedules: StrictBool = False
    tells_packages: StrictBool = False
    script_packages: PackageSets | None = None


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
    traceparent: Traceparent = None


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


class FactsChanged(Frame):
    """What the satellite's scripts may be told of it has changed: this is all of it."""

    TYPE: ClassVar[str] = "facts_changed"
    MAX_BYTES: ClassVar[int] = MAX_FRAME_BYTES

    facts: Facts


class RefreshScriptPackages(Frame):
    """The sets of packages that are wanted on the satellite are these from now on. Look whether all of them are there.

    `lockfile_hash` says the same in one word: a satellite of the first release expects it.
    """

    TYPE: ClassVar[str] = "refresh_script_packages"
    MAX_BYTES: ClassVar[int] = 2 * MAX_SMALL_FRAME_BYTES

    lockfile_hash: ShortText
    sets: PackageSets | None = None

    @classmethod
    def of(cls, sets: Mapping[str, str]) -> RefreshScriptPackages:
        """The frame that tells of these."""
        return cls(lockfile_hash=digest(dict(sets)), sets=dict(sets))


class ScriptPackagePiece(Frame):
    """The answer to a request for a piece: bytes in base64, of so many in `total`; or why there are none."""

    TYPE: ClassVar[str] = "script_package_piece"
    MAX_BYTES: ClassVar[int] = 2 * MAX_SMALL_FRAME_BYTES

    request_id: RunId
    content: Annotated[
        str, StringConstraints(max_length=4 * (-(-MAX_PACKAGE_PIECE // 3)), pattern=r"^[A-Za-z0-9+/=]*$")
    ] = Field(default="", repr=False)
    total: Annotated[StrictInt, Field(ge=0, lt=2**53)] = 0
    error: LongText | None = None

    @classmethod
    def of(cls, request_id: str, content: bytes, total: int) -> ScriptPackagePiece:
        """The frame that has these bytes.

        Nothing of it is validated, which would take longer than all else that is done for a piece.
        """
        return cls.model_construct(request_id=request_id, content=b64encode(content).decode(), total=total)

    def taken(self) -> bytes:
        """The bytes. Raises `ValueError` for what is no base64."""
        return b64decode(self.content, validate=True)


TASK = "task"
"""An agent that understands this takes scripts of every kind, commands, and all that they can be given."""

NARROWED = "narrowed"
"""An agent that understands this gives a run no more of its policy than the run needs."""

PACKAGES = "packages"
"""An agent that understands this has the sets of packages that it is told of, and gives a run those of its set."""

CONTEXT = "context"
"""An agent that understands this gives a task the context and the variables that come with it, and can be `quiet`."""

_NEEDS = re.compile(r'\{"type":"run_script","needs":\[([^]]*)\]')

NEEDS_WITHIN = 2000
"""In how many characters at its beginning what an encoded frame needs is said."""


class RunScript(Frame):
    """Run one script now, under the policy that the satellite holds, and answer with `run_accepted` and `run_result`.

    One that comes again, with the same `run_id`, is run once. `config_id`: the run is one of that assignment, whose
    secrets the satellite asks for before it starts.

    `needs`: what an agent has to understand (`Authenticate.understands`) to do what is meant. One that does not would
    drop the fields that it does not know, and run something else; so it is not sent this frame. It comes first, where
    it is found without reading the whole text. A `command` takes the place of `script`, and a `task` that of all else.
    `narrowed_to`: what the run needs of the policy, if it says so; of a `task`, that is within it.
    `packages`: the set that it imports from, if it is not the default one; of a `task`, that is within it, too.
    `variables`: further ones of a `task`, for which the host vouches; their names begin with `RINGFENCE_`.
    `quiet`: what a `task` writes is told with its result, and not while it runs.
    """

    TYPE: ClassVar[str] = "run_script"
    MAX_BYTES: ClassVar[int] = MAX_FRAME_BYTES

    needs: Annotated[tuple[ShortText, ...], Field(max_length=MAX_UNDERSTOOD)] | None = None
    run_id: RunId
    kind: ScriptKind
    script: Text | None = None
    context: Json = None
    timeout_ms: Annotated[StrictInt, Field(ge=1, le=MAX_TIMEOUT_MS)] = DEFAULT_TIMEOUT_MS
    secret_env: Environment | None = Field(default=None, repr=False)
    config_id: ShortText | None = None
    name: ShortText | None = None
    args: Annotated[tuple[Text, ...], Field(max_length=MAX_ARGUMENTS)] | None = None
    env: Environment | None = None
    stdin: Text | None = Field(default=None, repr=False)
    command: Annotated[tuple[Text, ...], Field(min_length=1, max_length=MAX_ARGUMENTS)] | None = None
    task: BoundedObject | None = None
    narrowed_to: BoundedObject | None = None
    packages: SetName | None = None
    variables: Annotated[Environment, Field(max_length=MAX_VARIABLES)] | None = None
    quiet: StrictBool | None = None
    traceparent: Traceparent = None

    @classmethod
    def carrying_out(
        cls,
        task: PlacedTask,
        *,
        run_id: str,
        timeout_ms: int,
        config_id: str | None,
        variables: Mapping[str, str] | None = None,
        context: Mapping[str, Any] | None = None,
        quiet: bool = False,
    ) -> RunScript:
        """The frame that asks for one run of a task; `config_id` is that of the assignment whose secrets it needs."""
        parts = task.parts()
        return cls(
            run_id=run_id,
            kind=task.kind,
            script=parts.get("script"),
            task=parts["task"],
            timeout_ms=timeout_ms,
            config_id=config_id,
            variables=None if variables is None else dict(variables),
            context=None if context is None else dict(context),
            quiet=True if quiet else None,
        )

    @classmethod
    def asking_for(cls, run_id: str, request: ScriptRequest) -> RunScript:
        """The frame that asks for a run.

        What an older agent can do is asked for in its words: a script of which it is certain what runs it.

        Raises:
            ValueError: for what is no text, or too much of it.
        """
        kind = request.kind
        if kind is ScriptKind.AUTO and request.command is None:
            with contextlib.suppress(NotRunnable):
                choice = choose(request)
                kind = kind if choice.words or choice.notes else choice.kind
        given = request.input
        return cls(
            run_id=run_id,
            kind=kind,
            script=None if request.command is not None else request.source.decode(),
            context=request.context,
            timeout_ms=request.timeout_ms,
            name=request.name or None,
            args=request.args or None,
            env=dict(request.env or {}) or None,
            stdin=None if given is None else given.decode(),
            command=request.command,
            narrowed_to=None if request.needs is None else request.needs.to_wire(),
            packages=request.packages,
        )

    def encode(self) -> str:
        """The frame as JSON text, with what it needs. By what name a script's file goes is no reason to need more."""
        more = (self.command, self.args, self.env, self.stdin, self.narrowed_to, self.packages)
        beside = (self.context, self.variables, self.quiet)
        has_context = self.task is not None and any(each is not None for each in beside)
        if (
            self.script is not None
            and not has_context
            and all(each is None for each in more)
            and is_plain(self.kind, self.script)
        ):
            return super().encode()
        needs = [TASK]
        if self.narrowed_to is not None or "needs" in (self.task or {}):
            needs.append(NARROWED)
        if self.packages is not None or "packages" in (self.task or {}):
            needs.append(PACKAGES)
        if has_context:
            needs.append(CONTEXT)
        return Frame.encode(self.model_copy(update={"needs": tuple(needs)}))


def set_of(encoded: str) -> str | None:
    """The set of packages that an encoded `RunScript` names, if it does."""
    if PACKAGES not in needs_of(encoded[:NEEDS_WITHIN]):
        return None
    frame = json.loads(encoded)
    name = frame.get("packages") or (frame.get("task") or {}).get("packages")
    return name if isinstance(name, str) else None


def needs_of(encoded: str) -> frozenset[str]:
    """What an encoded `RunScript` needs, by its beginning."""
    found = _NEEDS.match(encoded)
    return frozenset(json.loads(f"[{found[1]}]")) if found else frozenset()


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
    | FactsChanged
    | RefreshScriptPackages
    | ScriptPackagePiece
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
    FactsChanged,
    RefreshScriptPackages,
    ScriptPackagePiece,
    RunScript,
    CancelRun,
    RunSecrets,
    ResultAck,
    Shutdown,
)


def parse_from_host(text: str) -> HostFrame | None:
    """Read what a host sent. None for a type that this satellite does not know. Raises `ProtocolError`."""
    return parse(text, _FROM_HOST, MAX_FRAME_BYTES)
