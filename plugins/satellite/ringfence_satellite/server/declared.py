"""Satellites as documents declare them. Their tokens are in no document: see `GuardedFleet.claim`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import ConfigDict, Field, ValidationError
from ringfence import PluginContext, WireModel
from ringfence.bounded import Label
from ringfence.declaring import ObjectKind, Stored, Work, WrongDocumentError
from ringfence.refusals import in_words
from ringfence.web import Principal

from ringfence_satellite.labels import MAX_VARS, VarName, VarValue
from ringfence_satellite.server import satellites
from ringfence_satellite.server.guarded_fleet import (
    ChangedSatellite,
    GuardedFleet,
    NewSatellite,
    OfflineAfterSeconds,
    Tags,
)
from ringfence_satellite.server.registrar import KIND, Registrar
from ringfence_satellite.server.rules import FleetRules
from ringfence_satellite.server.satellites import DEFAULT_OFFLINE_AFTER_SECONDS, Satellite

MOST_LISTED = 100_000


class SatelliteSpec(WireModel):
    """A satellite, without its name and its labels."""

    model_config = ConfigDict(extra="forbid")

    region: Label = "default"
    tags: Tags = Field(default_factory=list)
    vars: Annotated[dict[VarName, VarValue], Field(max_length=MAX_VARS)] = Field(default_factory=dict)
    offline_after_seconds: OfflineAfterSeconds = DEFAULT_OFFLINE_AFTER_SECONDS


class SatelliteKind(ObjectKind[SatelliteSpec]):
    """Satellites. `metadata.labels` are the labels that selectors find."""

    kind: ClassVar[str] = KIND
    what: ClassVar[str] = "A satellite; its token is fetched once by `ringfence satellite claim`"
    spec = SatelliteSpec
    order: ClassVar[int] = 30
    durations: ClassVar = (("offlineAfterSeconds",),)
    has_labels: ClassVar[bool] = True

    def __init__(self, context: PluginContext, rules: FleetRules) -> None:
        super().__init__(context, read_rule=rules.read, write_rule=rules.manage)
        self._rules = rules

    def shows(self, by: Principal, stored: Stored) -> bool:
        """See `ObjectKind`."""
        return by.holds_on(self.read_rule.name, stored.state or ())

    async def named(self, work: Work, id: str) -> str | None:
        """See `ObjectKind`."""
        found = await satellites.one(work.session, UUID(id))
        return None if found is None else found.name

    async def names(self, work: Work) -> Sequence[str]:
        """See `ObjectKind`."""
        reach = work.by.reach(self.read_rule.name)
        found = await satellites.listed(work.session, limit=MOST_LISTED, reach=reach)
        return [one.name for one in found]

    async def read(self, work: Work, name: str) -> Stored | None:
        """See `ObjectKind`."""
        found = await satellites.listed(work.session, named=name, limit=1)
        return _stored(found[0]) if found else None

    async def write(
        self, work: Work, name: str, labels: Mapping[str, str], spec: Any, before: Stored | None
    ) -> Sequence[str]:
        """See `ObjectKind`."""
        fleet = self._fleet(work)
        told: dict[str, Any] = {
            "name": name,
            "region": spec.region,
            "tags": spec.tags,
            "offline_after_seconds": float(spec.offline_after_seconds),
        }
        try:
            if before is None or before.id is None:
                new = NewSatellite(**told, labels=dict(labels), vars=spec.vars)
                await fleet.create(new, work.by, to_be_claimed=True)
                return [f"fetch its token: ringfence satellite claim {name}"]
            gone = dict.fromkeys(before.labels.keys() - labels.keys())
            no_vars = dict.fromkeys(before.spec.get("vars", {}).keys() - spec.vars.keys())
            changed = ChangedSatellite(**told, labels={**gone, **labels}, vars={**no_vars, **spec.vars})
        except ValidationError as error:
            [first, *_] = error.errors(include_url=False, include_input=False)
            raise WrongDocumentError(f"{first['loc'][0]}: {in_words(first)}") from None
        await fleet.change(UUID(before.id), changed, work.by)
        return []

    async def delete(self, work: Work, name: str, before: Stored) -> None:
        """See `ObjectKind`."""
        await self._fleet(work).delete(UUID(str(before.id)), work.by)

    def _fleet(self, work: Work) -> GuardedFleet:
        context = work.joined(self.context)
        return GuardedFleet(context, Registrar(context), self._rules)


def _stored(satellite: Satellite) -> Stored:
    spec: dict[str, Any] = {
        "region": satellite.region,
        "tags": satellite.tags,
        "vars": satellite.vars,
        "offlineAfterSeconds": satellite.offline_after_seconds,
    }
    spec = {key: value for key, value in spec.items() if value}
    return Stored(spec, id=str(satellite.id), labels=satellite.labels, state=satellite.profile.carried)
