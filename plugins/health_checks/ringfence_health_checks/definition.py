"""What a check is: the definition that an administrator writes. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import ConfigDict, Field, StrictBool, StrictFloat, StringConstraints, model_validator
from ringfence import WireModel
from ringfence.bounded import STORABLE, Label
from ringfence.scripts import ScriptKind
from ringfence_satellite.service import (
    MAX_INTERVAL_SECONDS,
    MIN_INTERVAL_SECONDS,
    AssignedSatellite,
    Assignment,
)
from ringfence_secrets.service import NAME as SECRET_NAME

MAX_SCRIPT = 256 * 1024
"""The longest script, in characters."""
MAX_TIMEOUT_SECONDS = 3600.0
DEFAULT_INTERVAL_SECONDS = 60.0
DEFAULT_TIMEOUT_SECONDS = 30.0
STRIPPED = "sandbox"
"""The policy is global: a check that brings one of its own (older releases stored it) is taken without it."""

SecretName = Annotated[str, StringConstraints(pattern=rf"^{SECRET_NAME.pattern}$"), STORABLE]


class _Model(WireModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Placement(_Model):
    """Where a check runs: on the core, on the satellites that are named, and on those with one of the tags."""

    core: StrictBool = False
    satellites: Annotated[tuple[UUID, ...], Field(max_length=1000)] = ()
    tags: Annotated[tuple[Label, ...], Field(max_length=50)] = ()

    @model_validator(mode="after")
    def _is_somewhere(self) -> Self:
        if not (self.core or self.satellites or self.tags):
            raise ValueError('must name at least one place: "core": true, or satellites by id or by tag')
        return self

    def includes(self, satellite: AssignedSatellite) -> bool:
        """Whether the check runs on this satellite."""
        return satellite.id in self.satellites or not satellite.tags.isdisjoint(self.tags)


class Outline(_Model):
    """A check as it is written, apart from its script."""

    name: Label
    system: Label
    kind: ScriptKind
    interval_seconds: Annotated[StrictFloat, Field(ge=MIN_INTERVAL_SECONDS, le=MAX_INTERVAL_SECONDS)] = (
        DEFAULT_INTERVAL_SECONDS
    )
    timeout_seconds: Annotated[StrictFloat, Field(ge=0.001, le=MAX_TIMEOUT_SECONDS)] = DEFAULT_TIMEOUT_SECONDS
    runs_on: Placement
    secrets: Annotated[tuple[SecretName, ...], Field(max_length=50)] = ()
    enabled: StrictBool = True

    @model_validator(mode="before")
    @classmethod
    def _without_policy(cls, given: Any) -> Any:
        return (
            {key: value for key, value in given.items() if key != STRIPPED}
            if isinstance(given, dict)
            else given
        )

    @classmethod
    def stored(cls, wire: Mapping[str, Any]) -> Self:
        """What was stored, maybe by a newer release: what is not known here is left out."""
        known = {field.alias for field in cls.model_fields.values()}
        return cls.model_validate({key: value for key, value in wire.items() if key in known})

    def to_wire(self) -> dict[str, Any]:
        """The same as JSON."""
        return self.model_dump(mode="json", by_alias=True)


class Definition(Outline):
    """A check as it is written."""

    script: Annotated[str, StringConstraints(min_length=1, max_length=MAX_SCRIPT), STORABLE]

    def amended(self, partial: Mapping[str, Any]) -> Definition:
        """This definition with `partial` (in wire names) over it. Raises `pydantic.ValidationError`."""
        return Definition.model_validate({**self.to_wire(), **partial})

    def summary(self) -> dict[str, Any]:
        """The same without the script, which is replaced by its digest: for the event log, which is kept."""
        wire = self.to_wire()
        script = wire.pop("script")
        return {**wire, "scriptSha256": hashlib.sha256(script.encode()).hexdigest()}

    @property
    def timeout_ms(self) -> int:
        """The timeout in whole milliseconds, at least 1."""
        return max(1, round(self.timeout_seconds * 1000))

    def assignment(self, id: UUID) -> Assignment:
        """The check `id` as a satellite is told of it."""
        return Assignment(
            config_id=str(id),
            system_id=self.system,
            kind=self.kind,
            script=self.script,
            interval_seconds=self.interval_seconds,
            timeout_ms=self.timeout_ms,
            needs_secrets=bool(self.secrets),
        )
