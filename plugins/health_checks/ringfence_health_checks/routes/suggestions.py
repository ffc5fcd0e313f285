"""What the policy, and the needs of checks, would have to say for checks to have what they have tried, over HTTP."""

# No `from __future__ import annotations` here: FastAPI reads the annotations, and the roles are local names.
import datetime as dt
from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Query
from ringfence import AccessRule
from ringfence.bounded import Moment
from ringfence.web import Principal, Router, require

from ringfence_health_checks.destinations.entries import (
    Asker,
    Suggestion,
    Unfit,
    allowing,
    suggested,
)
from ringfence_health_checks.destinations.suggesting import Suggestions
from ringfence_health_checks.destinations.table import Wish

DEFAULT_DAYS = 7
MOST_SUGGESTED = 500
"""How many entries, checks and unfit destinations one answer tells of: those that were tried most often."""
MOST_ASKERS = 20


def build(suggestions: Suggestions, *, read: AccessRule) -> Router:
    """The routes."""
    router = Router()
    Reader = Annotated[Principal, Depends(require(read))]

    @router.get("/suggestions")
    async def suggest(
        _: Reader,
        check: Annotated[UUID | None, Query(description="of this check alone")] = None,
        since: Annotated[Moment | None, Query(description="what was tried since then; a week ago")] = None,
    ) -> dict[str, Any]:
        """Entries for the policy's allowlist and for the needs of checks, by what was refused and used."""
        began = since or dt.datetime.now(dt.UTC) - dt.timedelta(days=DEFAULT_DAYS)
        found = await suggestions.since(began, check=check)
        allow, unfit = found.allow, found.unfit
        change = allowing(found.state.received.policy.network, allow[:MOST_SUGGESTED])
        return {
            "since": began,
            "revision": found.state.revision,
            "allow": [_suggestion(one) for one in allow[:MOST_SUGGESTED]],
            "more": max(0, len(allow) - MOST_SUGGESTED),
            "patch": None if change is None else {"network": change},
            "needs": _needs(found.wishes),
            "unfit": [_wire(one) for one in unfit[:MOST_SUGGESTED]],
        }

    return router


def _needs(wishes: Sequence[Wish]) -> list[dict[str, Any]]:
    """What each check would say that it needs."""
    by_check: dict[tuple[str, UUID], list[Wish]] = {}
    for wish in wishes:
        by_check.setdefault((wish.check, wish.check_id), []).append(wish)
    found = []
    for (name, id), of_check in sorted(by_check.items())[:MOST_SUGGESTED]:
        entries, _ = suggested(of_check)
        found.append(
            {
                "check": {"id": str(id), "name": name},
                "needs": {"network": [one.entry for one in entries[:MOST_SUGGESTED]]},
                "entries": [_suggestion(one) for one in entries[:MOST_SUGGESTED]],
            }
        )
    return found


def _suggestion(one: Suggestion) -> dict[str, Any]:
    return {
        "entry": one.entry,
        "tries": one.tries,
        "outcomes": sorted(one.outcomes),
        "guessed": one.guessed,
        **_by(one.askers),
    }


def _wire(one: Unfit) -> dict[str, Any]:
    return {
        "host": one.host,
        "port": one.port,
        "protocol": one.protocol,
        "why": one.why,
        **_by(one.askers),
    }


def _by(askers: Sequence[Asker]) -> dict[str, Any]:
    return {
        "checks": [
            {"id": str(one.check_id), "name": one.check, "tries": one.tries, "lastAt": one.last_at}
            for one in askers[:MOST_ASKERS]
        ],
        "checkCount": len(askers),
    }
