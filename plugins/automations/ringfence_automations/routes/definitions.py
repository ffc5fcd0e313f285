"""Automations over HTTP: apply, list, show, look back, enable, disable, delete."""

# No `from __future__ import annotations` here: FastAPI reads the annotations, and the roles are local names.
import re
from typing import Annotated, Any

from fastapi import Depends, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, StrictBool
from ringfence.bounded import Reason, ShortText, Text
from ringfence.web import (
    DEFAULT_LISTED,
    After,
    Limit,
    Principal,
    Problem,
    Router,
    number_of,
    page,
    require,
)

from ringfence_automations.access_rules import AccessRules
from ringfence_automations.by_hand.problems import unknown
from ringfence_automations.by_hand.writing import Writing
from ringfence_automations.definitions.applying import Applied
from ringfence_automations.definitions.stored import Automation
from ringfence_automations.definitions.wiring import Definitions
from ringfence_automations.routes.parameters import Name

_ETAG = re.compile(r'(?:W/)?"?(\d{1,18})"?')
IfMatch = Annotated[
    ShortText | None,
    Header(
        description='the revision that the change is meant for, such as "7", or *; "0" if there is to be none'
    ),
]
Why = Annotated[Reason | None, Query(description="why; the history keeps it")]
CancelRuns = Annotated[
    bool,
    Query(
        alias="cancelRuns", description="cancel its runs that have not ended; that needs the rule to run it"
    ),
]
DryRun = Annotated[bool, Query(alias="dryRun", description="only tell what would change")]


class ApplyWanted(BaseModel):
    """Definitions in YAML or JSON: one document each."""

    model_config = ConfigDict(extra="forbid")

    text: Text
    reason: Reason | None = None
    dryRun: StrictBool = False


def build(definitions: Definitions, rules: AccessRules, writing: Writing) -> Router:
    """The routes."""
    router = Router()
    Reader = Annotated[Principal, Depends(require(rules.read))]
    Manager = Annotated[Principal, Depends(require(rules.manage))]
    automations = definitions.automations

    @router.get("/automations")
    async def list_automations(
        _: Reader, after: After = None, limit: Limit = DEFAULT_LISTED
    ) -> dict[str, Any]:
        found = await automations.page(after=after or "", limit=limit + 1)
        listed = page(found, limit, lambda one: one.name)
        return {"automations": [_outline(one) for one in listed.entries], "next": listed.next}

    @router.post("/apply")
    async def apply(body: ApplyWanted, manager: Manager) -> dict[str, Any]:
        """Have all of these definitions hold, or none of them if something is wrong with one."""
        found = await writing.apply(
            body.text, manager, reason=body.reason, only_tell=body.dryRun, expected=None
        )
        sees = manager.holds(rules.read.name)
        return {"automations": [one.to_wire(with_before=sees) for one in found], "dryRun": body.dryRun}

    @router.get("/automations/{name}")
    async def show(name: Name, _: Reader, response: Response) -> dict[str, Any]:
        found = await writing.one(name)
        response.headers["ETag"] = f'"{found.revision}"'
        return found.to_wire()

    @router.put("/automations/{name}")
    async def put(
        name: Name,
        request: Request,
        manager: Manager,
        response: Response,
        if_match: IfMatch = None,
        reason: Why = None,
        dry_run: DryRun = False,
    ) -> dict[str, Any]:
        """Have this definition hold: the body is one document of YAML or JSON."""
        try:
            text = (await request.body()).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise Problem(422, "The definition is not valid", detail="it is no text in UTF-8") from error
        [one] = await writing.apply(
            text, manager, reason=reason, only_tell=dry_run, name=name, expected=_expected(if_match)
        )
        response.headers["ETag"] = f'"{one.written.automation.revision}"'
        return one.to_wire(with_before=manager.holds(rules.read.name))

    @router.delete("/automations/{name}", status_code=204)
    async def delete(
        name: Name,
        manager: Manager,
        if_match: IfMatch = None,
        reason: Why = None,
        cancel_runs: CancelRuns = False,
    ) -> Response:
        """Delete an automation.

        Its runs that are under way, or wait, go on under the revision with which they began, unless they are to be
        cancelled.
        """
        await writing.delete(
            name, manager, reason=reason, expected=_expected(if_match), cancel_runs=cancel_runs
        )
        return Response(status_code=204)

    async def switched(
        name: str,
        enabled: bool,
        manager: Principal,
        if_match: str | None,
        reason: str | None,
        cancel_runs: bool = False,
    ) -> dict[str, Any]:
        written = await writing.switch(
            name, enabled, manager, reason=reason, expected=_expected(if_match), cancel_runs=cancel_runs
        )
        wire = Applied(written, ()).to_wire(with_before=False)
        return wire if manager.holds(rules.read.name) else {**wire, "definition": None}

    @router.post("/automations/{name}/enable")
    async def enable(
        name: Name, manager: Manager, if_match: IfMatch = None, reason: Why = None
    ) -> dict[str, Any]:
        return await switched(name, True, manager, if_match, reason)

    @router.post("/automations/{name}/disable")
    async def disable(
        name: Name,
        manager: Manager,
        if_match: IfMatch = None,
        reason: Why = None,
        cancel_runs: CancelRuns = False,
    ) -> dict[str, Any]:
        """Nothing starts it any more; its runs that are under way, or wait, go on, unless they are to be cancelled."""
        return await switched(name, False, manager, if_match, reason, cancel_runs)

    @router.get("/automations/{name}/revisions")
    async def revisions(
        name: Name, _: Reader, after: After = None, limit: Limit = DEFAULT_LISTED
    ) -> dict[str, Any]:
        """The revisions of an automation, newest first, also of one that is deleted."""
        before = 2**62 if after is None else number_of(after)
        found = await automations.history(name, before=before, limit=limit + 1)
        if not found and after is None:
            raise unknown(name)
        listed = page(found, limit, lambda one: str(one.revision))
        return {"revisions": [one.to_wire() for one in listed.entries], "next": listed.next}

    return router


def _outline(automation: Automation) -> dict[str, Any]:
    """An automation in a list: without its steps."""
    wire = automation.to_wire()
    definition = wire.pop("definition")
    return {
        **wire,
        "description": definition.get("description"),
        "triggers": definition.get("triggers", []),
        "mode": automation.definition.mode.value,
    }


def _expected(if_match: str | None) -> int | None:
    if if_match is None or if_match.strip() == "*":
        return None
    if (found := _ETAG.fullmatch(if_match.strip())) is None:
        raise Problem(400, detail=f'If-Match must be one revision such as "7", or *; got {if_match!r}')
    return int(found[1])
