"""The HTTP API of the fleet."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, Query, Response
from ringfence import PluginContext
from ringfence.bounded import ShortText
from ringfence.web import (
    DEFAULT_LISTED,
    After,
    Limit,
    Principal,
    Router,
    not_valid,
    page,
    require,
)
from ringfence_script_packages.service import ScriptPackages

from ringfence_satellite.selector import Selector, SelectorError
from ringfence_satellite.server import satellites
from ringfence_satellite.server.guarded_fleet import ChangedSatellite, GuardedFleet, NewSatellite
from ringfence_satellite.server.packages.states import SyncStates
from ringfence_satellite.server.rollout import rollout_now
from ringfence_satellite.server.rules import FleetRules
from ringfence_satellite.server.satellites import Satellite


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


def build(context: PluginContext, guarded: GuardedFleet, rules: FleetRules, states: SyncStates) -> Router:
    """The routes. Each needs the rule that it names, on the tags of the satellite that it is about."""
    router = Router()
    Reader = Annotated[Principal, Depends(require(rules.read, narrowed=True))]
    Manager = Annotated[Principal, Depends(require(rules.manage, narrowed=True))]
    Placer = Annotated[Principal, Depends(require(rules.place, narrowed=True))]

    def handed_over(satellite: Satellite, token: str) -> dict[str, Any]:
        """The token, this once, and the address that the host is known by, if it has been told one."""
        return {
            "satellite": satellite.to_wire(),
            "token": token,
            "publicUrl": context.settings.public_url,
        }

    @router.post("/satellites", status_code=201)
    async def create(wanted: NewSatellite, manager: Manager) -> dict[str, Any]:
        satellite, token = await guarded.create(wanted, manager)
        return handed_over(satellite, token)

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
        rollout = await rollout_now(context)
        current = await context.services.get(ScriptPackages).current()
        return {**rollout.to_wire(), "packages": await states.counts(current, reader)}

    @router.get("/satellites/{id}")
    async def show(id: UUID, reader: Reader) -> dict[str, Any]:
        return (await guarded.found(id, reader, rules.read)).to_wire()

    @router.patch("/satellites/{id}")
    async def change(id: UUID, wanted: ChangedSatellite, manager: Manager) -> dict[str, Any]:
        return (await guarded.change(id, wanted, manager)).to_wire()

    @router.delete("/satellites/{id}", status_code=204)
    async def delete(id: UUID, manager: Manager) -> Response:
        await guarded.delete(id, manager)
        return Response(status_code=204)

    @router.post("/satellites/{id}/rotate-token")
    async def rotate_token(id: UUID, placer: Placer) -> dict[str, Any]:
        satellite, token = await guarded.rotate_token(id, placer)
        return handed_over(satellite, token)

    @router.post("/satellites/{id}/claim")
    async def claim(id: UUID, placer: Placer) -> dict[str, Any]:
        """Give a satellite that was declared in a file its first token; once."""
        satellite, token = await guarded.claim(id, placer)
        return handed_over(satellite, token)

    return router
