"""Silences over HTTP."""

# No `from __future__ import annotations` here: FastAPI reads the annotations, and the roles are local names.
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from ringfence import AccessRule, PluginContext
from ringfence.web import (
    DEFAULT_LISTED,
    After,
    Limit,
    Principal,
    Problem,
    cursor,
    not_a_cursor,
    page,
    parts_of,
    require,
)
from ringfence_satellite.service import Satellites

from ringfence_health_checks.definitions.definition import CORE
from ringfence_health_checks.silences.silences import Silences, SilenceWanted

BIGGEST = 2**63 - 1


def build(context: PluginContext, silences: Silences, *, manage: AccessRule, read: AccessRule) -> APIRouter:
    """The routes."""
    router = APIRouter()
    Manager = Annotated[Principal, Depends(require(manage))]
    Reader = Annotated[Principal, Depends(require(read))]

    @router.get("/silences")
    async def list_silences(
        _: Reader,
        ended: Annotated[bool, Query(description="those that have ended, too")] = False,
        after: After = None,
        limit: Limit = DEFAULT_LISTED,
    ) -> dict[str, Any]:
        before = BIGGEST if after is None else _number(after)
        found = await silences.listed(before=before, ended=ended, limit=limit + 1)
        listed = page(found, limit, lambda one: cursor(str(one.number)))
        return {"silences": [one.to_wire() for one in listed.entries], "next": listed.next}

    @router.post("/silences", status_code=201)
    async def add(body: SilenceWanted, manager: Manager) -> dict[str, Any]:
        if body.satellite is not None and not await _is_place(context, body.satellite):
            detail = f"there is no satellite {body.satellite}: name core, or a satellite's id"
            raise Problem(404, "No such satellite", detail=detail)
        made = await silences.add(body, by=manager.name)
        if made is None:
            raise Problem(404, "No such check", detail=f"there is no check {body.check}")
        return made.to_wire()

    @router.delete("/silences/{id}")
    async def end(id: UUID, manager: Manager) -> dict[str, Any]:
        ended = await silences.end(id, by=manager.name)
        if ended is not None:
            return ended.to_wire()
        if await silences.exists(id):
            raise Problem(409, "The silence has ended", detail=f"the silence {id} has ended already")
        raise Problem(404, "No such silence", detail=f"there is no silence {id}")

    return router


async def _is_place(context: PluginContext, place: str) -> bool:
    if place == CORE:
        return True
    try:
        id = UUID(place)
    except ValueError:
        return False
    return str(id) == place and bool(await context.services.get(Satellites).names([id]))


def _number(after: str) -> int:
    (number,) = parts_of(after, 1)
    try:
        return min(int(number), BIGGEST)
    except ValueError as error:
        raise not_a_cursor() from error
