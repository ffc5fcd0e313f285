"""Incidents and messages over HTTP."""

# No `from __future__ import annotations` here: FastAPI reads the annotations, and the roles are local names.
import datetime as dt
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Path, Query
from ringfence import PluginContext
from ringfence.bounded import STORABLE
from ringfence.web import (
    DEFAULT_LISTED,
    After,
    Limit,
    Principal,
    Problem,
    Router,
    cursor,
    number_of,
    page,
    require,
)

from ringfence_notifications.access_rules import AccessRules
from ringfence_notifications.delivery.messages import Messages, Status, place_of
from ringfence_notifications.incidents import suppressed
from ringfence_notifications.incidents.incidents import Incidents

BIGGEST = 2**63 - 1


def build(context: PluginContext, incidents: Incidents, messages: Messages, rules: AccessRules) -> Router:
    """The routes."""
    router = Router()
    Manager = Annotated[Principal, Depends(require(rules.manage))]
    Reader = Annotated[Principal, Depends(require(rules.read))]
    Acknowledger = Annotated[Principal, Depends(require(rules.ack))]
    Number = Annotated[int, Path(ge=1, le=BIGGEST)]

    @router.get("/incidents")
    async def list_incidents(
        _: Reader,
        lasting: Annotated[bool, Query(description="only those that last")] = False,
        after: After = None,
        limit: Limit = DEFAULT_LISTED,
    ) -> dict[str, Any]:
        before = None if after is None else number_of(after)
        found = await incidents.listed(lasting=lasting, after=before, limit=limit + 1)
        listed = page(found, limit, lambda one: str(one["id"]))
        return {"incidents": list(listed.entries), "next": listed.next}

    @router.get("/incidents/{number}")
    async def one_incident(number: Number, _: Reader) -> dict[str, Any]:
        if (found := await incidents.one(number)) is None:
            raise _unknown(number)
        return found

    @router.post("/incidents/{number}/ack")
    async def acknowledge(number: Number, acknowledger: Acknowledger) -> dict[str, Any]:
        """End the reminders of an incident that lasts."""
        if (found := await incidents.acknowledge(number, by=acknowledger.name)) is None:
            raise _unknown(number)
        if not found["lasts"]:
            raise Problem(
                409, "The incident is over", detail=f"the incident {number} is over: nobody is reminded of it"
            )
        return found

    @router.get("/messages")
    async def list_messages(
        _: Reader,
        status: Status | None = None,
        channel: Annotated[str | None, Query(max_length=64), STORABLE] = None,
        after: After = None,
        limit: Limit = DEFAULT_LISTED,
    ) -> dict[str, Any]:
        found = await messages.listed(
            status=None if status is None else status.value,
            channel=channel,
            after=None if after is None else place_of(after),
            limit=limit + 1,
        )
        listed = page(found, limit, lambda one: cursor(one["createdAt"].isoformat(), one["id"]))
        return {"messages": list(listed.entries), "next": listed.next}

    @router.post("/messages/{id}/retry")
    async def retry_one(id: UUID, _: Manager) -> dict[str, Any]:
        if not (again := await messages.retry(id)):
            detail = f"there is no message {id} that has failed, and whose channel is still there"
            raise Problem(404, "No such failed message", detail=detail)
        return {"retried": [str(one) for one in again]}

    @router.post("/messages/retry")
    async def retry_all(_: Manager) -> dict[str, Any]:
        """Have all failed messages sent again whose channels are still there."""
        return {"retried": [str(one) for one in await messages.retry(None)]}

    @router.get("/suppressed")
    async def list_suppressed(_: Reader, days: Annotated[int, Query(ge=1, le=365)] = 7) -> dict[str, Any]:
        """How many events of the last days are in no message, and why."""
        since = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=days - 1)
        async with context.sessions() as session:
            return {"suppressed": await suppressed.listed(session, since)}

    return router


def _unknown(number: int) -> Problem:
    return Problem(404, "No such incident", detail=f"there is no incident {number}")
