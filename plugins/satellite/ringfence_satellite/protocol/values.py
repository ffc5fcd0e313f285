"""What frames carry that is more than a text or a number: outcomes of runs, assignments, policies that are held."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any

from pydantic import ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StringConstraints, ValidationError
from ringfence.bounded import (
    STORABLE,
    Int32,
    Json,
    LongText,
    Printed,
    ShortText,
    Text,
)
from ringfence.scripts import DEFAULT_TIMEOUT_MS, ScriptKind

from ringfence_satellite.protocol.assignments import Item
from ringfence_satellite.protocol.bounds import (
    MAX_INTERVAL_SECONDS,
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


class Assignment(Wire):
    """A script that a satellite runs again and again, until it is told otherwise.

    `config_id` names the assignment, and is what the satellite reports on; `system_id` is what it is about.
    `needs_secrets`: each run has to ask for its secrets first (`request_run_secrets`).
    """

    config_id: ShortText
    system_id: ShortText
    kind: ScriptKind
    script: Text
    context: Json = None
    interval_seconds: Annotated[StrictFloat, Field(ge=MIN_INTERVAL_SECONDS, le=MAX_INTERVAL_SECONDS)]
    timeout_ms: Annotated[StrictInt, Field(ge=1, le=MAX_TIMEOUT_MS)] = DEFAULT_TIMEOUT_MS
    needs_secrets: StrictBool = False

    @classmethod
    def read(cls, wire: Mapping[str, Any]) -> Assignment:
        """An assignment that a host has sent. Raises `ProtocolError` for one that this satellite cannot carry out."""
        try:
            return cls.model_validate(wire, by_alias=True, by_name=False)
        except ValidationError as error:
            raise ProtocolError(f"this satellite cannot carry it out: {first_problem(error)}") from error

    def to_wire(self) -> JsonObject:
        """The assignment as JSON, in wire names."""
        return self.model_dump(mode="json", by_alias=True)

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
