"""The HTTP API of the fleet."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import ConfigDict, Field, StrictFloat
from ringfence import AccessRule, PluginContext, WireModel
from ringfence.bounded import Label, ShortText
from ringfence.sandbox.policy import OnUnavailable
from ringfence.web import (
    DEFAULT_LISTED,
    After,
    Limit,
    Principal,
    Problem,
    not_valid,
    page,
    require,
    require_on,
)
from ringfence_script_packages.service import SandboxPolicyService, ScriptPackages

from ringfence_satellite.labels import MAX_LABELS, MAX_VARS, LabelKey, LabelValue, VarName, VarValue
from ringfence_satellite.selector import Selector, SelectorError
from ringfence_satellite.server import satellites
from ringfence_satellite.server.packages.states import SyncStates
from ringfence_satellite.server.profile import Profile, ProfileError
from ringfence_satellite.server.registrar import NameTakenError, Registrar
from ringfence_satellite.server.rollout import read_rollout
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


def _selector(
    selector: Annotated[str | None, Query(description="such as: region=eu,role in (web, api)")] = None,
) -> Selector | None:
    if selector is None:
        return None
    try:
        return Selector.parse(selector)
    except SelectorError as error:
        raise not_valid(
            "The request is not valid", [{"loc": ("query", "selector"), "msg": str(error)}]
        ) from error


Wanted = Annotated[Selector | None, Depends(_selector)]


def build(context: PluginContext, fleet: Registrar, rules: FleetRules, states: SyncStates) -> APIRouter:
    """The routes. Each needs the rule that it names, on the tags of the satellite that it is about."""
    router = APIRouter()
    Reader = Annotated[Principal, Depends(require(rules.read, narrowed=True))]
    Manager = Annotated[Principal, Depends(require(rules.manage, narrowed=True))]
    Placer = Annotated[Principal, Depends(require(rules.place, narrowed=True))]

    async def found(id: UUID, principal: Principal, rule: AccessRule) -> Satellite:
        """The satellite, if the principal may use the rule on it."""
        async with context.sessions() as session:
            satellite = _found(await satellites.one(session, id), id)
        require_on(principal, rule, satellite.profile.carried)
        return satellite

    @router.post("/satellites", status_code=201)
    async def create(wanted: NewSatellite, manager: Manager) -> dict[str, Any]:
        profile = _possible(wanted.profile)
        require_on(manager, rules.manage, profile.effective)
        if profile.carried or profile.vars:
            require_on(manager, rules.place, profile.effective)
        try:
            satellite, token = await fleet.create(
                profile, offline_after_seconds=wanted.offline_after_seconds, by=manager.name
            )
        except NameTakenError as error:
            raise Problem(409, detail=str(error)) from error
        return {"satellite": satellite.to_wire(), "token": token}

    @router.get("/satellites")
    async def list_satellites(
        reader: Reader,
        name: Annotated[ShortText | None, Query(description="only the one with just this name")] = None,
        region: Annotated[ShortText | None, Query()] = None,
        tag: Annotated[list[ShortText] | None, Query(max_length=50)] = None,
        status: Literal["online", "offline", "never"] | None = None,
        selector: Wanted = None,
        after: After = None,
        limit: Limit = DEFAULT_LISTED,
    ) -> dict[str, Any]:
        async with context.sessions() as session:
            found = await satellites.listed(
                session,
                named=name,
                region=region,
                tags=tag or (),
                status=status,
                after=after,
                limit=limit + 1,
                reach=reader.reach(rules.read.name),
                selector=selector,
            )
        listed = page(found, limit, lambda one: one.name)
        return {"satellites": [one.to_wire() for one in listed.entries], "next": listed.next}

    @router.get("/rollout")
    async def show_rollout(reader: Annotated[Principal, Depends(require(rules.read))]) -> dict[str, Any]:
        state = await context.services.get(SandboxPolicyService).current()
        async with context.sessions() as session:
            rollout = await read_rollout(
                session,
                state.revision,
                refuses=state.received.policy.on_unavailable is OnUnavailable.FAIL,
                changed_at=state.updated_at,
                changed_by=state.updated_by,
            )
        current = await context.services.get(ScriptPackages).current()
        return {**rollout.to_wire(), "packages": await states.counts(current, reader)}

    @router.get("/satellites/{id}")
    async def show(id: UUID, reader: Reader) -> dict[str, Any]:
        return (await found(id, reader, rules.read)).to_wire()

    @router.patch("/satellites/{id}")
    async def change(id: UUID, wanted: ChangedSatellite, manager: Manager) -> dict[str, Any]:
        def amended(before: Profile) -> Profile:
            require_on(manager, rules.manage, before.carried)
            after = _possible(lambda: wanted.over(before))
            if _place(after) != _place(before):
                # Taken from where it was, and put to where it will be: both must be within reach. A tag `env=dev`
                # beside one that selectors find in its place, such as `env=prod`, does not keep it there.
                require_on(manager, rules.place, before.carried)
                require_on(manager, rules.place, after.effective)
                require_on(manager, rules.manage, after.effective)
            return after

        try:
            changed = await fleet.change(
                id, amended, offline_after_seconds=wanted.offline_after_seconds, by=manager.name
            )
        except NameTakenError as error:
            raise Problem(409, detail=str(error)) from error
        return _found(changed, id).to_wire()

    @router.delete("/satellites/{id}", status_code=204)
    async def delete(id: UUID, manager: Manager) -> Response:
        await found(id, manager, rules.manage)
        if not await fleet.delete(id, by=manager.name):
            raise _unknown(id)
        return Response(status_code=204)

    @router.post("/satellites/{id}/rotate-token")
    async def rotate_token(id: UUID, placer: Placer) -> dict[str, Any]:
        await found(id, placer, rules.place)
        rotated = await fleet.rotate_token(id, by=placer.name)
        if rotated is None:
            raise _unknown(id)
        satellite, token = rotated
        return {"satellite": satellite.to_wire(), "token": token}

    return router


def _place(profile: Profile) -> tuple[object, ...]:
    """What decides which work and which secrets a satellite has, and what scripts that have secrets are told there."""
    return profile.carried, profile.all_labels, profile.vars


def _possible(profile: Callable[[], Profile]) -> Profile:
    try:
        return profile()
    except ProfileError as error:
        raise Problem(422, "The satellite cannot be described so", detail=str(error)) from error


def _found(satellite: Satellite | None, id: UUID) -> Satellite:
    if satellite is None:
        raise _unknown(id)
    return satellite


def _unknown(id: UUID) -> Problem:
    return Problem(404, "No such satellite", detail=f"there is no satellite {id}", satellite=str(id))
