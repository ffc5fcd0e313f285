"""The policy over HTTP: read, write, amend, look back, revert."""

# No `from __future__ import annotations` here: FastAPI reads the annotations, and `Admin` is a local name.
import re
from typing import Annotated, Any, Self

from fastapi import Depends, Header, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, Strict, StrictBool, model_validator
from ringfence import AccessRule
from ringfence.bounded import JsonObject, Reason, ShortText
from ringfence.eventlog import Anchor
from ringfence.sandbox.policy import PolicyError, changes, receive
from ringfence.web import After, Principal, Problem, Router, number_of, page, require

from ringfence_script_packages.hooks import SandboxPolicyChanged
from ringfence_script_packages.policy_store import (
    NewerPolicyError,
    PolicyVerification,
    SandboxPolicies,
    StaleRevisionError,
    UnknownRevisionError,
    WrittenPolicy,
    amending,
    replacing,
)
from ringfence_script_packages.previewing import Previews, without_effect
from ringfence_script_packages.service import PolicyState

MAX_LISTED = 1000
"""How many revisions one answer may hold."""
_ETAG = re.compile(r'(?:W/)?"?(\d{1,18})"?')
IfMatch = Annotated[
    ShortText | None, Header(description='the revision that the change is meant for, such as "7", or *')
]
CacheControl = Annotated[
    ShortText | None,
    Header(description="no-cache: no policy that is older than an acknowledged change"),
]
Revision = Annotated[int, Field(ge=0, lt=2**62)]


class PolicyWrite(BaseModel):
    """A change: the settings to write, and why."""

    model_config = ConfigDict(extra="forbid")

    policy: JsonObject
    reason: Reason | None = None


class PolicyRevert(BaseModel):
    """Which revision to go back to (0: the shipped default), and why."""

    model_config = ConfigDict(extra="forbid")

    revision: Annotated[Revision, Strict()]
    reason: Reason | None = None


class ProposedChange(BaseModel):
    """A change to foresee: settings over the current policy, or over the default (`replace`); or an old revision."""

    model_config = ConfigDict(extra="forbid")

    policy: JsonObject | None = None
    replace: StrictBool = False
    revision: Annotated[Revision, Strict()] | None = None

    @model_validator(mode="after")
    def _is_one_change(self) -> Self:
        if (self.policy is None) == (self.revision is None):
            raise ValueError("must have either a policy or a revision")
        return self


def build(policies: SandboxPolicies, previews: Previews, rule: AccessRule) -> Router:
    """The routes. Reading and writing both need `rule`."""
    router = Router()
    Admin = Annotated[Principal, Depends(require(rule))]

    @router.get("/sandbox-policy", response_model=dict[str, Any])
    async def read(_: Admin, cache_control: CacheControl = None) -> Response:
        """The policy, as this instance knows it while it follows the event log, which may be a moment old.

        With `Cache-Control: no-cache`, none that is older than an acknowledged change (RFC 9111, 5.2.1.4).
        """
        known = None if _wants_the_stored(cache_control) else policies.known()
        state = known or await policies.confirmed()
        return JSONResponse(_state(state), headers={"ETag": _etag(state)})

    @router.put("/sandbox-policy")
    async def replace(
        body: PolicyWrite, response: Response, admin: Admin, if_match: IfMatch = None
    ) -> dict[str, Any]:
        with _problems():
            written = await policies.replace(
                body.policy, actor=admin.name, reason=body.reason, expected=_expected(if_match)
            )
        return _written(written, response)

    @router.patch("/sandbox-policy")
    async def amend(
        body: PolicyWrite, response: Response, admin: Admin, if_match: IfMatch = None
    ) -> dict[str, Any]:
        with _problems():
            written = await policies.amend(
                body.policy, actor=admin.name, reason=body.reason, expected=_expected(if_match)
            )
        return _written(written, response)

    @router.post("/sandbox-policy/revert")
    async def revert(
        body: PolicyRevert, response: Response, admin: Admin, if_match: IfMatch = None
    ) -> dict[str, Any]:
        with _problems():
            written = await policies.revert(
                body.revision, actor=admin.name, reason=body.reason, expected=_expected(if_match)
            )
        return _written(written, response)

    @router.post("/sandbox-policy/preview")
    async def preview(
        body: ProposedChange, response: Response, _: Admin, if_match: IfMatch = None
    ) -> dict[str, Any]:
        """What a change would do, if it was made: nothing is written."""
        with _problems():
            if body.revision is not None:
                decide = await policies.reverting(body.revision)
            else:
                decide = (replacing if body.replace else amending)(body.policy or {})
            current, after = await policies.proposed(decide, expected=_expected(if_match))
        response.headers["ETag"] = _etag(current)
        foreseen = await previews.of(current, after)
        return {**foreseen.to_wire(), "notes": without_effect(after)}

    @router.post("/sandbox-policy/rebuild")
    async def rebuild(response: Response, _: Admin) -> dict[str, Any]:
        return _answer(await policies.rebuild(), response)

    @router.get("/sandbox-policy/verify")
    async def verify(
        _: Admin,
        anchor: Annotated[
            ShortText | None, Query(description="REVISION:HASH of a head that was noted before")
        ] = None,
    ) -> dict[str, Any]:
        try:
            noted = None if anchor is None else Anchor.parse(anchor)
        except ValueError as error:
            raise Problem(422, detail=str(error)) from error
        return _verification(await policies.verify(noted))

    @router.get("/sandbox-policy/history")
    async def history(
        _: Admin,
        limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 50,
        before: Annotated[Revision | None, Query(description="only revisions below this one")] = None,
        after: After = None,
    ) -> dict[str, Any]:
        below = 2**62 if before is None else before
        if after is not None:
            below = min(below, number_of(after))
        listed = page(
            await policies.history(before=below, limit=limit + 1), limit, lambda fact: str(fact.revision)
        )
        return {"revisions": [_fact(fact) for fact in listed.entries], "next": listed.next}

    @router.get("/sandbox-policy/history/{revision}")
    async def at(
        revision: Revision,
        _: Admin,
        compare: Annotated[Revision | None, Query(description="the revision to compare with")] = None,
    ) -> dict[str, Any]:
        with _problems():
            state = await policies.at(revision)
            answer = _state(state)
            if compare is not None:
                other = await policies.at(compare)
                answer["changes"] = [
                    {"path": one.path, "before": one.before, "after": one.after}
                    for one in changes(receive(dict(other.wire)).policy, state.received.policy)
                ]
        return answer

    return router


class _problems:
    """Turns what the policy refuses into problem details."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        match error:
            case PolicyError():
                raise Problem(
                    422, "The policy is not valid", detail=str(error), problems=list(error.problems)
                ) from error
            case StaleRevisionError():
                raise Problem(
                    412,
                    "The policy has changed",
                    detail=str(error),
                    headers={"ETag": _etag(error.current)},
                    current=_state(error.current),
                ) from error
            case NewerPolicyError():
                raise Problem(409, "The policy is newer than this release", detail=str(error)) from error
            case UnknownRevisionError():
                raise Problem(404, detail=str(error)) from error


def _expected(if_match: str | None) -> int | None:
    """The revision that an `If-Match` header names (RFC 9110 §13.1.1); None where any will do."""
    if if_match is None or if_match.strip() == "*":
        return None
    if (found := _ETAG.fullmatch(if_match.strip())) is None:
        raise Problem(400, detail=f'If-Match must be one revision such as "7", or *; got {if_match!r}')
    return int(found[1])


def _wants_the_stored(cache_control: str | None) -> bool:
    return "no-cache" in (cache_control or "").lower()


def _etag(state: PolicyState) -> str:
    return f'"{state.revision}"'


def _answer(state: PolicyState, response: Response) -> dict[str, Any]:
    response.headers["ETag"] = _etag(state)
    return _state(state)


def _written(written: WrittenPolicy, response: Response) -> dict[str, Any]:
    """The answer to a write: the policy that holds now, whether it is a new revision, and what of it has no effect."""
    return {
        **_answer(written.state, response),
        "changed": written.changed,
        "notes": without_effect(written.state.received.policy),
    }


def _state(state: PolicyState) -> dict[str, Any]:
    return {
        "policy": state.wire,
        "revision": state.revision,
        "updatedAt": state.updated_at.isoformat() if state.updated_at else None,
        "updatedBy": state.updated_by,
    }


def _verification(found: PolicyVerification) -> dict[str, Any]:
    where = "The stored row" if found.revision is None else f"Revision {found.revision}"
    return {
        "intact": found.what is None,
        "head": None if found.head is None else {"revision": found.head.version, "hash": found.head.hash},
        "problem": None
        if found.what is None
        else {"revision": found.revision, "where": where, "what": found.what},
    }


def _fact(fact: SandboxPolicyChanged) -> dict[str, Any]:
    return {
        "revision": fact.revision,
        "policy": fact.policy,
        "changes": [change.model_dump() for change in fact.changes],
        "actor": fact.actor,
        "reason": fact.reason,
        "at": fact.changed_at.isoformat(),
    }
