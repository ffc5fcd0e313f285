"""What somebody may do with satellites: each change by the rules that they hold, as these are narrowed.

Routes and pages go through this, so that both refuse the same. Each needs the rule that it names, on the tags of the
satellite that it is about.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict, Field, StrictFloat
from ringfence import AccessRule, PluginContext, WireModel
from ringfence.bounded import Label
from ringfence.web import Principal, Problem, require_on

from ringfence_satellite.labels import MAX_LABELS, MAX_VARS, LabelKey, LabelValue, VarName, VarValue
from ringfence_satellite.server import satellites
from ringfence_satellite.server.profile import Profile, ProfileError
from ringfence_satellite.server.registrar import NameTakenError, Registrar
from ringfence_satellite.server.rules import FleetRules
from ringfence_satellite.server.satellites import DEFAULT_OFFLINE_AFTER_SECONDS, Satellite

Tags = Annotated[list[Label], Field(max_length=50)]
OfflineAfterSeconds = Annotated[StrictFloat, Field(ge=1, le=7 * 24 * 3600, allow_inf_nan=False)]


class _Body(WireModel):
    model_config = ConfigDict(extra="forbid")


class NewSatellite(_Body):
    """A satellite to register.

    `offline_after_seconds`: for how long it may be silent before it counts as offline.
    """

    name: Label
    region: Label
    tags: Tags = Field(default_factory=list)
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=MAX_LABELS)] = Field(default_factory=dict)
    vars: Annotated[dict[VarName, VarValue], Field(max_length=MAX_VARS)] = Field(default_factory=dict)
    offline_after_seconds: OfflineAfterSeconds = DEFAULT_OFFLINE_AFTER_SECONDS

    def profile(self) -> Profile:
        """The satellite as it is to be described."""
        bare = Profile(self.name, self.region, (), {}, {})
        return bare.with_tags(self.tags).with_labels(self.labels).with_vars(self.vars)


class ChangedSatellite(_Body):
    """What to change of a satellite; what is not named stays.

    `tags` replaces the tags that it has. `labels` and `vars` change those that they name; null takes one off.
    """

    name: Label | None = None
    region: Label | None = None
    tags: Tags | None = None
    labels: Annotated[dict[LabelKey, LabelValue | None], Field(max_length=2 * MAX_LABELS)] = Field(
        default_factory=dict
    )
    vars: Annotated[dict[VarName, VarValue | None], Field(max_length=2 * MAX_VARS)] = Field(
        default_factory=dict
    )
    offline_after_seconds: OfflineAfterSeconds | None = None

    def over(self, before: Profile) -> Profile:
        """The satellite as it is to be described, where it was described so before."""
        after = dataclasses.replace(
            before, name=self.name or before.name, region=self.region or before.region
        )
        if self.tags is not None:
            after = after.with_tags(self.tags)
        return after.with_labels(self.labels).with_vars(self.vars)


class GuardedFleet:
    """The registrar behind the rules. Each method raises `Problem`, as a route would answer it."""

    def __init__(self, context: PluginContext, fleet: Registrar, rules: FleetRules) -> None:
        self._context = context
        self._fleet = fleet
        self._rules = rules

    async def found(self, id: UUID, principal: Principal, rule: AccessRule) -> Satellite:
        """The satellite, if the principal may use the rule on it."""
        async with self._context.sessions() as session:
            satellite = found(await satellites.one(session, id), id)
        require_on(principal, rule, satellite.profile.carried)
        return satellite

    async def create(
        self, wanted: NewSatellite, manager: Principal, *, to_be_claimed: bool = False
    ) -> tuple[Satellite, str]:
        """Register a satellite; the answer has its token. See `Registrar.create`."""
        rules = self._rules
        profile = _possible(wanted.profile)
        require_on(manager, rules.manage, profile.effective)
        if profile.carried or profile.vars:
            require_on(manager, rules.place, profile.effective)
        try:
            return await self._fleet.create(
                profile,
                offline_after_seconds=wanted.offline_after_seconds,
                to_be_claimed=to_be_claimed,
                by=manager.name,
            )
        except NameTakenError as error:
            raise Problem(409, detail=str(error)) from error

    async def change(
        self,
        id: UUID,
        wanted: ChangedSatellite,
        manager: Principal,
        *,
        check: Callable[[Satellite], None] | None = None,
    ) -> Satellite:
        """Describe a satellite otherwise. What `check` raises of how it is until then leaves it so."""
        rules = self._rules

        def amended(satellite: Satellite) -> Profile:
            before = satellite.profile
            require_on(manager, rules.manage, before.carried)
            if check is not None:
                check(satellite)
            after = _possible(lambda: wanted.over(before))
            if _place(after) != _place(before):
                # Taken from where it was, and put to where it will be: both must be within reach. A tag `env=dev`
                # beside one that selectors find in its place, such as `env=prod`, does not keep it there.
                require_on(manager, rules.place, before.carried)
                require_on(manager, rules.place, after.effective)
                require_on(manager, rules.manage, after.effective)
            return after

        try:
            changed = await self._fleet.change(
                id, amended, offline_after_seconds=wanted.offline_after_seconds, by=manager.name
            )
        except NameTakenError as error:
            raise Problem(409, detail=str(error)) from error
        return found(changed, id)

    async def delete(self, id: UUID, manager: Principal) -> None:
        """Remove a satellite."""
        await self.found(id, manager, self._rules.manage)
        if not await self._fleet.delete(id, by=manager.name):
            raise unknown(id)

    async def rotate_token(self, id: UUID, placer: Principal) -> tuple[Satellite, str]:
        """Give a satellite another token, which is in the answer."""
        await self.found(id, placer, self._rules.place)
        rotated = await self._fleet.rotate_token(id, by=placer.name)
        if rotated is None:
            raise unknown(id)
        return rotated

    async def claim(self, id: UUID, placer: Principal) -> tuple[Satellite, str]:
        """Give a satellite that was declared its first token, which is in the answer."""
        satellite = await self.found(id, placer, self._rules.place)
        claimed = await self._fleet.rotate_token(id, claim=True, by=placer.name)
        if claimed is None:
            detail = f"{satellite.name} has a token already: give it another one with rotate-token"
            raise Problem(409, "The satellite is claimed", detail=detail)
        return claimed


def found(satellite: Satellite | None, id: UUID) -> Satellite:
    """The satellite that is there. Raises `Problem`."""
    if satellite is None:
        raise unknown(id)
    return satellite


def unknown(id: UUID) -> Problem:
    """There is none with this id."""
    return Problem(404, "No such satellite", detail=f"there is no satellite {id}", satellite=str(id))


def _place(profile: Profile) -> tuple[object, ...]:
    """What decides which work and which secrets a satellite has, and what scripts that have secrets are told there."""
    return profile.carried, profile.all_labels, profile.vars


def _possible(profile: Callable[[], Profile]) -> Profile:
    try:
        return profile()
    except ProfileError as error:
        raise Problem(422, "The satellite cannot be described so", detail=str(error)) from error
