"""Silences over HTTP."""

# No `from __future__ import annotations` here: FastAPI reads the annotations, and the roles are local names.
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Query
from ringfence import AccessRule
from ringfence.web import (
    DEFAULT_LISTED,
    After,
    Limit,
    Principal,
    Router,
    cursor,
    not_a_cursor,
    page,
    parts_of,
    require,
)

from ringfence_health_checks.silences.asked import AskedSilences
from ringfence_health_checks.silences.silences import SilenceWanted

BIGGEST = 2**63 - 1


def build(silences: AskedSilences, *, manage: AccessRule, read: AccessRule) -> Router:
    """The routes."""
    router = Router()
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
        found = await silences.stored.listed(before=before, ended=ended, limit=limit + 1)
        listed = page(found, limit, lambda one: cursor(str(one.number)))
        return {"silences": [one.to_wire() for one in listed.entries], "next": listed.next}

    @router.post("/silences", status_code=201)
    async def add(body: SilenceWanted, manager: Manager) -> dict[str, Any]:
        return (await silences.add(body, manager)).to_wire()

    @router.delete("/silences/{id}")
    async def end(id: UUID, manager: Manager) -> dict[str, Any]:
        return (await silences.end(id, manager)).to_wire()

    return router


def _number(after: str) -> int:
    (number,) = parts_of(after, 1)
    try:
        return min(int(number), BIGGEST)
    except ValueError as error:
        raise not_a_cursor() from error
