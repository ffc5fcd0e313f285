"""Browsers' sessions over HTTP: who is signed in, ending that, and links that sign in once."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Annotated, Any

from fastapi import Depends, Request, Response

from ringfence.access import (
    AccessRule,
    Identity,
    ListedSession,
    Principal,
    Sessions,
    UnknownSessionError,
)
from ringfence.access.sessions import LINK_SECONDS
from ringfence.bounded import moment
from ringfence.http.guard import identify, peer_of, require
from ringfence.http.paging import DEFAULT_LISTED, After, Limit, cursor, not_a_cursor, page, parts_of
from ringfence.http.problems import Problem
from ringfence.http.routes import Router

MANAGE_SESSIONS = AccessRule("host", "session", "manage", "See who is signed in with a browser, and end that")


def build(sessions: Sessions) -> Router:
    """The routes, over the installation's sessions."""
    router = Router()

    @router.get("/sessions")
    async def list_sessions(
        _: Annotated[Principal, Depends(require(MANAGE_SESSIONS))],
        after: After = None,
        limit: Limit = DEFAULT_LISTED,
    ) -> dict[str, Any]:
        found = await sessions.listed(after=None if after is None else session_key(after), limit=limit + 1)
        listed = page(found, limit, cursor_of)
        return {"sessions": [_session(one) for one in listed.entries], "next": listed.next}

    @router.delete("/sessions/{id}", status_code=204)
    async def end_session(
        id: uuid.UUID, request: Request, principal: Annotated[Principal, Depends(require(MANAGE_SESSIONS))]
    ) -> Response:
        try:
            await sessions.end(id, by=principal, peer=peer_of(request))
        except UnknownSessionError as error:
            raise Problem(404, detail=str(error)) from error
        return Response(status_code=204)

    @router.post("/sessions/links", status_code=201)
    async def make_link(identity: Annotated[Identity, Depends(identify)]) -> dict[str, Any]:
        link = await sessions.make_link(identity.token)
        return {"path": f"/sign-in/{link}", "expiresInSeconds": LINK_SECONDS}

    return router


def cursor_of(one: ListedSession) -> str:
    """Where in the list a session is."""
    return cursor(one.created_at.isoformat(), str(one.id))


def session_key(after: str) -> tuple[dt.datetime, uuid.UUID]:
    """Read what `cursor_of` has made. Raises `Problem`."""
    at, id = parts_of(after, 2)
    try:
        return moment(dt.datetime.fromisoformat(at)), uuid.UUID(id)
    except ValueError as error:
        raise not_a_cursor() from error


def _session(one: ListedSession) -> dict[str, Any]:
    return {
        "id": str(one.id),
        "name": one.name,
        "token": str(one.token),
        "peer": one.peer,
        "browser": one.browser,
        "beganAt": one.created_at,
        "lastUsedAt": one.used_at,
    }
