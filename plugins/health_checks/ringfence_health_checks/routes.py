"""Checks and their results over HTTP."""

# No `from __future__ import annotations` here: FastAPI reads the annotations, and the roles are local names.
from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, ValidationError
from ringfence import AccessRule
from ringfence.bounded import JsonObject, Moment, ShortText
from ringfence.scripts import Health
from ringfence.web import Principal, Problem, require
from ringfence_secrets.service import USE as USE_SECRETS

from ringfence_health_checks.checks import Check, Checks, NameTakenError, UnreadableCheckError
from ringfence_health_checks.definition import Definition
from ringfence_health_checks.manual import ManualRuns, NotPlacedError
from ringfence_health_checks.results import Latest, Results

MAX_RESULTS = 1000


class RunWanted(BaseModel):
    """Where to run a check now: `core`, or a satellite by id or name; by default, wherever it runs."""

    model_config = ConfigDict(extra="forbid")

    on: ShortText | None = None


def build(
    checks: Checks,
    results: Results,
    runs: ManualRuns,
    *,
    manage: AccessRule,
    read: AccessRule,
    run: AccessRule,
) -> APIRouter:
    """The routes."""
    router = APIRouter()
    Manager = Annotated[Principal, Depends(require(manage))]
    Reader = Annotated[Principal, Depends(require(read))]
    Runner = Annotated[Principal, Depends(require(run))]

    async def known(id: UUID) -> Check:
        try:
            return _found(await checks.one(id), id)
        except UnreadableCheckError as error:
            raise _unreadable(error) from error

    @router.get("/checks")
    async def list_checks(_: Reader) -> dict[str, Any]:
        latest = await results.latest()
        return {"checks": [_wire(check, latest.get(check.id, ())) for check in await checks.all()]}

    @router.post("/checks", status_code=201)
    async def create(body: Definition, manager: Manager) -> dict[str, Any]:
        _check_secrets(body, manager)
        try:
            return _wire(await checks.create(body, by=manager.name))
        except NameTakenError as error:
            raise Problem(409, "The name is taken", detail=str(error)) from error

    @router.get("/checks/{id}")
    async def show(id: UUID, _: Reader) -> dict[str, Any]:
        return _wire(await known(id), (await results.latest()).get(id, ()))

    @router.patch("/checks/{id}")
    async def change(id: UUID, body: JsonObject, manager: Manager) -> dict[str, Any]:
        def amended(current: Definition) -> Definition:
            wanted = current.amended(body)
            _check_secrets(wanted, manager)
            return wanted

        try:
            return _wire(_found(await checks.change(id, amended, by=manager.name), id))
        except UnreadableCheckError as error:
            raise _unreadable(error) from error
        except NameTakenError as error:
            raise Problem(409, "The name is taken", detail=str(error)) from error
        except ValidationError as error:
            raise _not_valid(error) from error

    @router.delete("/checks/{id}", status_code=204)
    async def delete(id: UUID, manager: Manager) -> Response:
        if not await checks.delete(id, by=manager.name):
            raise _unknown(id)
        return Response(status_code=204)

    @router.post("/checks/{id}/run")
    async def run_now(id: UUID, _: Runner, body: RunWanted | None = None) -> dict[str, Any]:
        check = await known(id)
        try:
            attempts = await runs.run(check, place=None if body is None else body.on)
        except NotPlacedError as error:
            raise Problem(409, "The check does not run there", detail=str(error)) from error
        return {"results": [attempt.to_wire() for attempt in attempts]}

    @router.get("/checks/{id}/results")
    async def list_results(
        id: UUID,
        _: Reader,
        on: Annotated[ShortText | None, Query(description="core, or a satellite's id")] = None,
        status: Health | None = None,
        before: Annotated[Moment | None, Query(description="only runs before this time")] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_RESULTS)] = 50,
    ) -> dict[str, Any]:
        await known(id)
        found = await results.listed(id, ran_on=on, status=status, before=before, limit=limit)
        return {"results": [result.to_wire() for result in found]}

    return router


def _wire(check: Check, latest: Sequence[Latest] = ()) -> dict[str, Any]:
    return {**check.to_wire(), "latest": [one.to_wire() for one in latest]}


def _check_secrets(definition: Definition, principal: Principal) -> None:
    """Threat: whoever may write checks writes one that gives away a secret they have no business with, since a script
    can tell what it was given. So naming secrets takes the rule for that too."""
    if definition.secrets and not principal.holds(USE_SECRETS):
        raise Problem(
            403,
            detail=f"{principal.name} does not hold the access rule {USE_SECRETS}, "
            "and so cannot write a check that is given secrets",
            rule=USE_SECRETS,
        )


def _not_valid(error: ValidationError) -> Problem:
    problems = [
        {"pointer": "/" + "/".join(str(step) for step in one["loc"]), "detail": one["msg"]}
        for one in error.errors(include_url=False, include_input=False)
    ]
    detail = "; ".join(f"{one['pointer']}: {one['detail']}" for one in problems)
    return Problem(422, "The check is not valid", detail=detail, errors=problems)


def _unreadable(error: UnreadableCheckError) -> Problem:
    return Problem(409, "The check is newer than this release", detail=str(error))


def _found(check: Check | None, id: UUID) -> Check:
    if check is None:
        raise _unknown(id)
    return check


def _unknown(id: UUID) -> Problem:
    return Problem(404, "No such check", detail=f"there is no check {id}", check=str(id))
