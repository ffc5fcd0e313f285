"""Checks and silences as documents declare them: with names where the API takes ids."""

from __future__ import annotations

import copy
import datetime as dt
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import ConfigDict, Field, StrictFloat, StringConstraints, ValidationError, model_validator
from ringfence import WireModel
from ringfence.bounded import STORABLE, Label
from ringfence.declaring import ObjectKind, Stored, Work, WrongDocumentError, findings
from ringfence.documents.reading import Document, Finding, NotReadableError
from ringfence.sandbox import PolicySnapshot, current_policy
from ringfence.sandbox.policy import receive
from ringfence_script_packages.service import ScriptSets

from ringfence_health_checks.definitions import checks
from ringfence_health_checks.definitions.checks import Check, Checks, UnreadableCheckError
from ringfence_health_checks.definitions.definition import CORE, READ_AS, Definition
from ringfence_health_checks.definitions.package_sets import INLINE, PackageSets
from ringfence_health_checks.running.changes import Changes
from ringfence_health_checks.silences import silences
from ringfence_health_checks.silences.silences import (
    MAX_SECONDS,
    Silence,
    Silences,
    SilenceWanted,
    Time,
)
from ringfence_health_checks.states.expected_places import Expectations

SATELLITE, CHECK, SILENCE = "Satellite", checks.KIND, silences.KIND
POLICY = ("SandboxPolicy", "sandbox-policy")
MOST_LISTED = 100_000
BIGGEST = 2**63 - 1
_SPARE = ("script", "command", "stdin", "needs", "packages")
"""What a check may be without: a document that does not say it takes it away."""
_BY_NUMBER = re.compile(r"silence-([1-9][0-9]{0,17})")


class CheckKind(ObjectKind[Definition]):
    """Checks. `runsOn.satellites` are names."""

    kind: ClassVar[str] = CHECK
    what: ClassVar[str] = "A script that looks at a system again and again"
    spec = Definition
    order: ClassVar[int] = 60
    durations: ClassVar = (("intervalSeconds",), ("timeoutSeconds",), ("flapping", "windowSeconds"))

    def schema(self) -> dict[str, Any]:
        """See `ObjectKind`."""
        schema = copy.deepcopy(super().schema())
        del schema["properties"]["name"]
        schema["required"] = [one for one in schema["required"] if one != "name"]
        schema["$defs"]["Placement"]["properties"]["satellites"]["items"] = {"type": "string"}
        return schema

    def check(self, name: str, spec: Document) -> dict[str, Any]:
        """See `ObjectKind`. Answers the definition as JSON, with names where it has ids."""
        if not isinstance(spec.value, dict):
            raise NotReadableError([Finding(*spec.place(()), "spec", "this must be a map")])
        if "name" in spec.value:
            place = spec.place(("name",), at_key=True)
            raise NotReadableError([Finding(*place, "spec.name", "the name is in metadata")])
        wire = {**spec.value, "name": name}
        runs_on = wire.get("runsOn")
        satellites = runs_on.get("satellites") if isinstance(runs_on, dict) else None
        named = isinstance(satellites, list) and all(isinstance(one, str) for one in satellites)
        tried = wire
        if named:
            made_up = [str(uuid.uuid5(uuid.NAMESPACE_OID, one)) for one in satellites or ()]
            tried = {**wire, "runsOn": {**(runs_on or {}), "satellites": made_up}}
        try:
            Definition.model_validate(tried)
        except ValidationError as error:
            raise NotReadableError(findings(error, spec, Definition)) from None
        return wire

    async def named(self, work: Work, id: str) -> str | None:
        """See `ObjectKind`."""
        try:
            found = await Checks(work.joined(self.context)).one(UUID(id))
        except UnreadableCheckError:
            return None
        return None if found is None else found.definition.name

    async def names(self, work: Work) -> Sequence[str]:
        """See `ObjectKind`."""
        return [one.definition.name for one in await Checks(work.joined(self.context)).all()]

    async def read(self, work: Work, name: str) -> Stored | None:
        """See `ObjectKind`."""
        try:
            found = await Checks(work.joined(self.context)).named(name)
        except UnreadableCheckError as error:
            raise WrongDocumentError(str(error)) from error
        return None if found is None else await _stored_check(work, found)

    async def write(
        self, work: Work, name: str, labels: Mapping[str, str], spec: Any, before: Stored | None
    ) -> Sequence[str]:
        """See `ObjectKind`."""
        definition = Definition.model_validate(await _with_ids(work, spec))
        changes = self._changes(work)
        if before is None:
            await changes.create(definition, work.by)
        else:
            wire = definition.to_wire()
            await changes.change(UUID(str(before.id)), {**dict.fromkeys(_SPARE), **wire}, work.by)
        return []

    async def delete(self, work: Work, name: str, before: Stored) -> None:
        """See `ObjectKind`."""
        await self._changes(work).delete(UUID(str(before.id)), work.by)

    def _changes(self, work: Work) -> Changes:
        context = work.joined(self.context)
        sets = PackageSets(context, lambda: self.context.services.get(ScriptSets).joined(work))

        async def ceiling() -> PolicySnapshot:
            """The policy as this very request leaves it."""
            policy = await work.stored(*POLICY)
            if policy is None:
                return await current_policy()
            return PolicySnapshot(receive(dict(policy.spec)).policy)

        return Changes(Checks(context), sets, Expectations(context), ceiling)


async def _with_ids(work: Work, wire: Mapping[str, Any]) -> dict[str, Any]:
    runs_on = wire["runsOn"]
    ids = []
    for number, name in enumerate(runs_on.get("satellites", ())):
        id = await _satellite_id(work, name)
        if id is None:
            raise WrongDocumentError(_no_satellite(work, name), "runsOn", "satellites", number)
        ids.append(id)
    return {**wire, "runsOn": {**runs_on, "satellites": ids}}


async def _stored_check(work: Work, check: Check) -> Stored:
    wire = {
        key: value
        for key, value in check.definition.to_wire().items()
        if key not in ("name", READ_AS) and value not in (None, [], {})
    }
    if check.definition.flapping is None:
        wire["flapping"] = None
    if str(wire.get("packages", "")).startswith(INLINE):
        del wire["packages"]  # It follows from the script.
    runs_on = {key: value for key, value in wire["runsOn"].items() if value}
    if "satellites" in runs_on:
        runs_on["satellites"] = sorted(
            [await _satellite_name(work, str(one)) for one in runs_on["satellites"]]
        )
    return Stored({**wire, "runsOn": runs_on}, id=str(check.id))


async def _satellite_name(work: Work, id: str) -> str:
    """The name of a satellite; the id of one that is gone, or that whoever asks may not see."""
    return await work.name_of(SATELLITE, id) or id


async def _satellite_id(work: Work, name: str) -> str | None:
    """The id of a satellite by its name, or by the id that stands for a name."""
    found = await work.visible(SATELLITE, name)
    if found is not None:
        return found.id
    try:
        return str(UUID(name))
    except ValueError:
        return None


def _no_satellite(work: Work, name: str) -> str:
    return f"there is no satellite {name} that {work.by.name} may see"


class SilenceSpec(WireModel):
    """Whose changes are silenced, from when until when, and why.

    `check` and `satellite` are names, the latter may be `core`. `for` is how long it lasts after `from`.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    check: Label | None = None
    label: Label | None = None
    satellite: Label | None = None
    begin: Time | None = Field(default=None, alias="from")
    until: Time | None = None
    for_seconds: Annotated[StrictFloat, Field(gt=0, le=MAX_SECONDS)] | None = None
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500), STORABLE]

    @model_validator(mode="after")
    def _is_whole(self) -> SilenceSpec:
        if self.check is None and self.label is None and self.satellite is None:
            raise ValueError("must say whom it silences: a check, a label or a satellite")
        if (self.until is None) == (self.for_seconds is None):
            raise ValueError("must say either until when, or for how long (forSeconds)")
        if self.for_seconds is not None and self.begin is None:
            raise ValueError("must say from when: a file is applied more than once")
        if self.begin is not None and self.ends_at <= self.begin:
            raise ValueError("must end after it begins")
        return self

    @property
    def ends_at(self) -> dt.datetime:
        """When it ends."""
        if self.until is not None:
            return self.until
        assert self.begin is not None
        return self.begin + dt.timedelta(seconds=self.for_seconds or 0.0)


class SilenceKind(ObjectKind[SilenceSpec]):
    """Silences. One that somebody has made by hand is called by its number: `silence-7`."""

    kind: ClassVar[str] = SILENCE
    what: ClassVar[str] = "Whose changes of state nobody is told of for a while, and why"
    spec = SilenceSpec
    order: ClassVar[int] = 70
    durations: ClassVar = (("forSeconds",),)

    async def names(self, work: Work) -> Sequence[str]:
        """See `ObjectKind`."""
        found = await Silences(work.joined(self.context)).listed(
            before=BIGGEST, ended=False, limit=MOST_LISTED
        )
        return [work.declared_name(SILENCE, str(one.id)) or f"silence-{one.number}" for one in found]

    async def read(self, work: Work, name: str) -> Stored | None:
        """See `ObjectKind`."""
        found = await self._found(work, name)
        if found is None:
            return None
        check = None if found.check_id is None else await work.name_of(CHECK, str(found.check_id))
        place = found.place
        if place is not None and place != CORE:
            place = await _satellite_name(work, place)
        spec = {"check": check, "label": found.label, "satellite": place, "reason": found.reason}
        spec |= {"from": _time(found.starts_at), "until": _time(found.ends_at)}
        return Stored({key: value for key, value in spec.items() if value is not None}, id=str(found.id))

    async def write(
        self, work: Work, name: str, labels: Mapping[str, str], spec: Any, before: Stored | None
    ) -> Sequence[str]:
        """See `ObjectKind`."""
        if spec.ends_at <= dt.datetime.now(dt.UTC):
            return ["it is over"]
        begin = spec.begin
        if before is not None:
            begin = begin or dt.datetime.fromisoformat(before.spec["from"])
            wanted = {"check": spec.check, "label": spec.label, "satellite": spec.satellite}
            wanted |= {"reason": spec.reason, "from": _time(begin), "until": _time(spec.ends_at)}
            if {key: value for key, value in wanted.items() if value is not None} == before.spec:
                return []
        stored = Silences(work.joined(self.context))
        if before is not None:
            await stored.end(UUID(str(before.id)), by=work.by.name)
        made = await stored.add(
            SilenceWanted(
                check=await self._check_id(work, spec.check),
                label=spec.label,
                satellite=await self._place(work, spec.satellite),
                begin=begin,
                until=spec.ends_at,
                reason=spec.reason,
            ),
            by=work.by.name,
        )
        if made is None:
            raise WrongDocumentError(f"there is no check {spec.check}", "check")
        work.note(SILENCE, name, str(made.id))
        return []

    async def delete(self, work: Work, name: str, before: Stored) -> None:
        """See `ObjectKind`."""
        await Silences(work.joined(self.context)).end(UUID(str(before.id)), by=work.by.name)

    async def _found(self, work: Work, name: str) -> Silence | None:
        stored = Silences(work.joined(self.context))
        if (id := work.declared_id(SILENCE, name)) is not None:
            return await stored.one(UUID(id))
        if (numbered := _BY_NUMBER.fullmatch(name)) is None:
            return None
        number = int(numbered[1])
        found = await stored.listed(before=number + 1, ended=True, limit=1)
        return found[0] if found and found[0].number == number else None

    async def _check_id(self, work: Work, name: str | None) -> UUID | None:
        if name is None:
            return None
        found = await work.stored(CHECK, name)
        if found is None or found.id is None:
            raise WrongDocumentError(f"there is no check {name}", "check")
        return UUID(found.id)

    async def _place(self, work: Work, name: str | None) -> str | None:
        if name is None or name == CORE:
            return name
        if (id := await _satellite_id(work, name)) is None:
            raise WrongDocumentError(_no_satellite(work, name), "satellite")
        return id


def _time(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat()
