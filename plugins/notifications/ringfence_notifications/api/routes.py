"""Routes over HTTP."""

# No `from __future__ import annotations` here: FastAPI reads the annotations, and the roles are local names.
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from pydantic import ValidationError
from ringfence import PluginContext
from ringfence.bounded import STORABLE, JsonObject
from ringfence.web import DEFAULT_LISTED, After, Limit, Principal, Problem, not_valid, page, require

from ringfence_notifications.access_rules import AccessRules
from ringfence_notifications.channels.channels import Channels
from ringfence_notifications.incidents.incidents import Incidents
from ringfence_notifications.routing.compiled import RouteError
from ringfence_notifications.routing.route import Route
from ringfence_notifications.routing.routes import KnownRoute, Routes


def build(
    context: PluginContext, routes: Routes, channels: Channels, incidents: Incidents, rules: AccessRules
) -> APIRouter:
    """The routes about routes."""
    router = APIRouter()
    Manager = Annotated[Principal, Depends(require(rules.manage))]
    Reader = Annotated[Principal, Depends(require(rules.read))]
    Name = Annotated[str, Path(max_length=64), STORABLE]

    @router.get("/routes")
    async def list_routes(_: Reader, after: After = None, limit: Limit = DEFAULT_LISTED) -> dict[str, Any]:
        known = sorted((await routes.listed()).values(), key=lambda one: one.route.name)
        rest = [one for one in known if after is None or one.route.name > after]
        listed = page(rest[: limit + 1], limit, lambda one: one.route.name)
        return {"routes": [_to_wire(one) for one in listed.entries], "next": listed.next}

    @router.put("/routes/{name}")
    async def set_route(name: Name, body: JsonObject, manager: Manager) -> dict[str, Any]:
        """Write a route. With `"change": true`, what is not said stays as the route of this name has it."""
        said = {**body, "name": name}
        if said.pop("change", False) is True:
            if (known := (await routes.listed()).get(name)) is None:
                raise _unknown(name)
            said = {**known.route.model_dump(mode="json", by_alias=True), **said}
        try:
            route = Route.model_validate(said)
        except ValidationError as error:
            raise not_valid("The route is not valid", error.errors(include_url=False)) from None
        try:
            compiled = routes.check(route)
        except RouteError as error:
            raise Problem(422, "The route is not valid", detail=str(error)) from None
        if compiled.idle is not None and route.enabled:
            raise Problem(422, "The route is not valid", detail=compiled.idle)
        if missing := set(route.channels or ()) - {one.name for one in await channels.listed()}:
            detail = f"there is no channel {', '.join(sorted(missing))}"
            raise Problem(422, "The route is not valid", detail=detail)
        _check_may_see(context, manager, route)
        async with context.sessions.begin() as session:
            await routes.set(session, route, by=manager.name)
            if not route.enabled:
                await incidents.forget_route(session, name)
        routes.forget_copy()
        return _to_wire(KnownRoute(compiled, is_own=True, comes_without=False))

    @router.delete("/routes/{name}")
    async def remove_route(name: Name, manager: Manager) -> dict[str, Any]:
        """Remove what somebody has written under this name. A route that comes with a plugin is back then."""
        known = (await routes.listed()).get(name)
        async with context.sessions.begin() as session:
            removed = await routes.remove(session, name, by=manager.name)
            if removed and known is not None and not known.comes_without:
                await incidents.forget_route(session, name)
        routes.forget_copy()
        if removed:
            return {"removed": name, "comesWithout": known is not None and known.comes_without}
        if known is None:
            raise _unknown(name)
        detail = f"{name} comes with a plugin, and cannot be removed: switch it off"
        raise Problem(409, "The route is built in", detail=detail)

    return router


def _check_may_see(context: PluginContext, manager: Principal, route: Route) -> None:
    """Refuse a route that would tell what its author may not see."""
    for name in sorted(route.hooks):
        hook = context.hooks.find(name)
        if hook is not None and hook.payload_rule is not None and not manager.holds(hook.payload_rule):
            raise Problem(
                403,
                detail=f"{manager.name} does not hold the access rule {hook.payload_rule}, with which events of {name} "
                "may be seen",
                rule=hook.payload_rule,
            )


def _to_wire(known: KnownRoute) -> dict[str, Any]:
    return {
        **known.route.model_dump(mode="json", by_alias=True),
        "builtIn": not known.is_own,
        "comesWithout": known.comes_without,
        "idle": known.compiled.idle,
    }


def _unknown(name: str) -> Problem:
    return Problem(404, "No such route", detail=f"there is no route {name}")
