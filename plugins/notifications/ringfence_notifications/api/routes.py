"""Routes over HTTP."""

# No `from __future__ import annotations` here: FastAPI reads the annotations, and the roles are local names.
from typing import Annotated, Any

from fastapi import Depends, Path
from pydantic import ValidationError
from ringfence.bounded import STORABLE, JsonObject
from ringfence.web import DEFAULT_LISTED, After, Limit, Principal, Problem, Router, not_valid, page, require

from ringfence_notifications.access_rules import AccessRules
from ringfence_notifications.administration.routes import (
    BuiltInRouteError,
    MayNotSeeError,
    RouteAdministration,
    UnknownRouteError,
)
from ringfence_notifications.routing.compiled import RouteError
from ringfence_notifications.routing.routes import KnownRoute, Routes


def build(routes: Routes, administration: RouteAdministration, rules: AccessRules) -> Router:
    """The routes about routes."""
    router = Router()
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
        is_change = said.pop("change", False) is True
        try:
            return _to_wire(await administration.set(said, is_change=is_change, by=manager))
        except UnknownRouteError as error:
            raise _unknown(error) from None
        except ValidationError as error:
            raise not_valid("The route is not valid", error.errors(include_url=False)) from None
        except RouteError as error:
            raise Problem(422, "The route is not valid", detail=str(error)) from None
        except MayNotSeeError as error:
            raise Problem(403, detail=str(error), rule=error.rule) from None

    @router.delete("/routes/{name}")
    async def remove_route(name: Name, manager: Manager) -> dict[str, Any]:
        """Remove what somebody has written under this name. A route that comes with a plugin is back then."""
        try:
            return {"removed": name, "comesWithout": await administration.remove(name, by=manager.name)}
        except UnknownRouteError as error:
            raise _unknown(error) from None
        except BuiltInRouteError as error:
            raise Problem(409, "The route is built in", detail=str(error)) from None

    return router


def _to_wire(known: KnownRoute) -> dict[str, Any]:
    return {
        **known.route.model_dump(mode="json", by_alias=True),
        "builtIn": not known.is_own,
        "comesWithout": known.comes_without,
        "idle": known.compiled.idle,
    }


def _unknown(error: UnknownRouteError) -> Problem:
    return Problem(404, "No such route", detail=str(error))
