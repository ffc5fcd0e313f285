"""What frames carry that is more than a text or a number: outcomes of runs, assignments, policies that are held."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StringConstraints,
    ValidationError,
    model_validator,
)
from ringfence.bounded import (
    STORABLE,
    Int32,
    LongText,
    Printed,
    ShortText,
    Text,
)
from ringfence.bounded import JsonObject as BoundedObject
from ringfence.scripts import DEFAULT_TIMEOUT_MS, Cron, Format, ScriptKind, ScriptRequest, Task
from ringfence.scripts.choosing.choice import NotRunnable, choose
from ringfence.scripts.schedule.cron import UTC
from ringfence.scripts.schedule.when_due import Schedule
from ringfence.tracing.traceparent import well_formed

from ringfence_satellite.protocol.assignments import Item
from ringfence_satellite.protocol.bounds import (
    MAX_FACTS,
    MAX_INTERVAL_SECONDS,
    MAX_SETS,
    MAX_TIMEOUT_MS,
    MIN_INTERVAL_SECONDS,
)
from ringfence_satellite.protocol.frame import (
    ProtocolError,
    Wire,
    first_problem,
)

Revision = Annotated[StrictInt, Field(ge=0, lt=2**63)]
RunId = Annotated[str, StringConstraints(min_length=1, max_length=64), STORABLE]
Environment = dict[ShortText, Text]
SetName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
PackageSets = Annotated[dict[SetName, Sha256], Field(max_length=MAX_SETS)]
"""Sets of packages by name, and the hash of the lock of each."""
Traceparent = Annotated[str | None, BeforeValidator(well_formed)]
"""The span that has caused a frame; what is none is taken for nothing, and costs the trace alone."""
Facts = Annotated[dict[ShortText, Text], Field(max_length=MAX_FACTS)]
"""What scripts may be told of where they run, by name: `satellite.name`, `vars.disk_warn`."""
JsonObject = dict[str, Any]
"""JSON as it is handed on; what comes from the other side is a `BoundedObject` first."""


class RunOutcome(Wire):
    """A run's result as it crosses the wire: the fields of `ringfence.scripts.RunResult`.

    The other side may be newer: fields that are not named here are kept as they came, and the sandbox
    report is not looked into, so that a report on a policy which this side could not even parse still gets
    through.
    """

    model_config = ConfigDict(extra="allow")

    exit_code: Int32
    stdout: Printed = ""
    stderr: Printed = ""
    timed_out: StrictBool = False
    output_truncated: StrictBool = False
    duration_ms: StrictFloat = 0.0
    value: Any = None
    sandbox: JsonObject

    def to_wire(self) -> JsonObject:
        """The result as JSON, in wire names."""
        return self.model_dump(mode="json", by_alias=True)


class WireDowngrade(Wire):
    """A layer that the policy asks for and the satellite cannot enforce."""

    layer: ShortText
    reason: LongText


class PlacedTask(Task):
    """A task as a satellite is given it: what is known of its place is filled in.

    `facts` are those of the task. The satellite knows those of its place.
    """

    script: Text | None = None
    """Also one that is longer than a stored task's: a frame bounds it."""
    facts: Facts = Field(default_factory=dict)

    @classmethod
    def of(cls, task: Task, facts: Mapping[str, str], place: Mapping[str, str]) -> PlacedTask:
        """The task in a place of which these facts hold. Raises `UnknownPlaceholderError`."""
        placed = task.placed({**place, **facts})
        return cls.model_construct(
            placed.model_fields_set | {"facts"},
            **{**dict(placed), "facts": dict(facts), "format": task.read_as},
        )

    @property
    def is_plain(self) -> bool:
        """Whether an agent that knows nothing of tasks runs the same, and reads it in the same way."""
        more = (
            self.args
            or self.env
            or self.stdin is not None
            or self.assertions
            or not self.has_plain_secrets
            or self.keep_state
            or self.needs is not None
            or self.packages is not None
        )
        if more or self.script is None or self.read_as is not Format.EXIT:
            return False
        return is_plain(self.kind, self.script)

    def parts(self) -> dict[str, Any]:
        """The task as fields of an assignment. The script of a plain one stands where older agents look for it."""
        whole = self.model_dump(mode="json", by_alias=True)
        # Needs that name nothing are the least that there is, and no needs are all that the policy gives.
        wire = {
            name: value
            for name, value in whole.items()
            if value not in (None, "", [], {}, False) or (name == "needs" and value is not None)
        }
        if not self.is_plain:
            return {"task": wire}
        return {"kind": ScriptKind(wire.pop("kind")), "script": wire.pop("script"), "task": wire}

    @classmethod
    def read(cls, kind: ScriptKind | None, script: str | None, task: Mapping[str, Any] | None) -> PlacedTask:
        """What a host has said in these fields. Raises `ProtocolError` if this satellite cannot carry it out."""
        beside = {"kind": kind, "script": script} if script is not None else {}
        try:
            return cls.model_validate({**(task or {}), **beside}, by_alias=True, by_name=False)
        except ValidationError as error:
            raise ProtocolError(f"this satellite cannot carry it out: {first_problem(error)}") from error


_OF_THE_FIRST_RELEASE = frozenset({ScriptKind.SHELL, ScriptKind.PYTHON, ScriptKind.ESM})


def is_plain(kind: ScriptKind, script: str) -> bool:
    """Whether an agent of the first release runs this script by what an agent of this one does.

    Threat: an agent of an older release passes over what it does not know, and finds a system healthy at which it has
    not looked. Mechanism: what is not plain is sent so that such an agent cannot take it at all.
    """
    if kind not in _OF_THE_FIRST_RELEASE:
        return False
    try:
        choice = choose(ScriptRequest(kind, script))
    except NotRunnable:
        return False
    return choice.kind is kind and not choice.notes


class Assignment(Wire):
    """A task that a satellite does again and again, until it is told otherwise.

    `config_id` names the assignment, and is what the satellite reports on; `system_id` is what it is about.
    `needs_secrets`: each run has to ask for its secrets first (`request_run_secrets`). `kind` and `script` are those of
    a plain task, or all that a host of an older release says. `problem` says why there is nothing to run. It comes by
    an interval, or by `cron` in a `timezone`; one by cron has no interval, so that an older satellite does not take it.
    """

    kind: ScriptKind | None = None
    script: Text | None = None
    task: BoundedObject | None = None
    problem: LongText | None = None
    config_id: ShortText
    system_id: ShortText
    interval_seconds: (
        Annotated[StrictFloat, Field(ge=MIN_INTERVAL_SECONDS, le=MAX_INTERVAL_SECONDS)] | None
    ) = None
    cron: ShortText | None = None
    timezone: ShortText | None = None
    timeout_ms: Annotated[StrictInt, Field(ge=1, le=MAX_TIMEOUT_MS)] = DEFAULT_TIMEOUT_MS
    needs_secrets: StrictBool = False

    @model_validator(mode="after")
    def _has_one_schedule(self) -> Self:
        if (self.interval_seconds is None) == (self.cron is None):
            raise ValueError("must have either an interval or times by cron")
        _ = self.schedule
        return self

    @property
    def schedule(self) -> Schedule:
        """When it is done. Raises `ValueError` for times by cron that are none here."""
        if self.interval_seconds is not None:
            return self.interval_seconds
        return Cron(self.cron or "", self.timezone or UTC)

    @classmethod
    def read(cls, wire: Mapping[str, Any]) -> Assignment:
        """An assignment that a host has sent. Raises `ProtocolError` for one that this satellite cannot carry out."""
        try:
            read = cls.model_validate(wire, by_alias=True, by_name=False)
        except ValidationError as error:
            raise ProtocolError(f"this satellite cannot carry it out: {first_problem(error)}") from error
        read.work()
        return read

    def work(self) -> PlacedTask:
        """What is to be run. Raises `ProtocolError` if this satellite cannot."""
        if self.problem is not None:
            raise ProtocolError(self.problem)
        return PlacedTask.read(self.kind, self.script, self.task)

    def to_wire(self) -> JsonObject:
        """The assignment as JSON, in wire names."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    @cached_property
    def item(self) -> Item:
        """The assignment as it is sent, and compared with what was sent before: worked out once, for all satellites."""
        return Item.of(self.to_wire())


class HeldPolicy(Wire):
    """A policy by its revision and its digest (see `held_policy`).

    Together they say which one it is, where a revision alone does not, since a database that was set back gives the
    same numbers again.
    """

    revision: Revision
    digest: ShortText
