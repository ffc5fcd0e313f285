"""What was asked of the sandbox and what truly held: the report that every run carries."""

from __future__ import annotations

import enum
from typing import Any

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    StrictBool,
    StrictInt,
    field_serializer,
    model_serializer,
)

from ringfence.sandbox.policy import Needs, SandboxPolicy
from ringfence.sandbox.policy.provider import PolicySource
from ringfence.sandbox.wire import WireModel


class Layer(enum.StrEnum):
    """One concern of the sandbox, enforced or not as a whole."""

    RESOURCES = "resources"
    FILESYSTEM = "filesystem"
    NETWORK = "network"
    PRIVILEGE = "privilege"
    SYSCALLS = "syscalls"
    ENVIRONMENT = "environment"


class Downgrade(WireModel):
    """A layer that was asked for and cannot be had here. Under `fail` it refuses the run.

    `layer` is a `Layer`, or the name of a part of a newer policy that this program does not know.
    """

    layer: str
    reason: str


class Note(WireModel):
    """Something worth knowing that takes nothing away."""

    layer: str
    note: str


class Enforced(WireModel):
    """Which layers held for this child. True only where a test inside of it would show so."""

    resources: StrictBool = False
    filesystem: StrictBool = False
    network: StrictBool = False
    privilege: StrictBool = False
    syscalls: StrictBool = False


class PolicyOrigin(WireModel):
    """Where the policy of a run came from."""

    source: PolicySource
    revision: StrictInt | None = None
    reason: str | None = None


class SandboxReport(WireModel):
    """What was requested, what was enforced, and by which mechanism.

    `platform` is one line that names the system and what was used of it. `mechanisms` says by what each limit and
    layer that is enforced is held: `{"memoryBytes": "cgroup memory.max", "network": "empty network namespace", …}`.
    Of a run that said what it needs, `requested` is the ceiling, and `needs` what it was to have of that and no more.
    """

    requested: SandboxPolicy
    origin: PolicyOrigin
    needs: Needs | None = None
    enforced: Enforced = Enforced()
    downgrades: tuple[Downgrade, ...] = ()
    notes: tuple[Note, ...] = ()
    mechanisms: dict[str, str] = Field(default_factory=dict)
    platform: str = ""

    @field_serializer("requested")
    def _requested_as_wire(self, policy: SandboxPolicy) -> dict[str, Any]:
        return policy.to_wire()

    @model_serializer(mode="wrap")
    def _without_absent_needs(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        wire: dict[str, Any] = serialize(self)
        return {name: value for name, value in wire.items() if name != "needs" or value is not None}

    def to_wire(self) -> dict[str, Any]:
        """The report as JSON, in wire names."""
        return self.model_dump(mode="json", by_alias=True)
