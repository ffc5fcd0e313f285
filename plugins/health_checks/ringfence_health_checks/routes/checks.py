"""Checks and their results over HTTP."""

# No `from __future__ import annotations` here: FastAPI reads the annotations, and the roles are local names.
import datetime as dt
from typing import Annotated, Any, Literal
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from ringfence import AccessRule
from ringfence.bounded import EARLIEST, JsonObject, Moment, ShortText, moment
from ringfence.redaction import describe
from ringfence.sandbox import PolicySnapshot, beyond, current_policy
from ringfence.scripts import Health
from ringfence.web import (
    DEFAULT_LISTED,
    After,
    Limit,
    Principal,
    Problem,
    cursor,
    not_a_cursor,
    not_valid,
    page,
    parts_of,
    require,
)
from ringfence_satellite.service import RunFailed
from ringfence_script_packages.service import PackagesError
from ringfence_secrets.service import USE as USE_SECRETS
from sqlalchemy.exc import SQLAlchemyError

from ringfence_health_checks.definitions.checks import (
    Check,
    Checks,
    NameTakenError,
    OutlinedCheck,
    UnreadableCheckError,
)
from ringfence_health_checks.definitions.definition import Definition
from ringfence_health_checks.definitions.package_sets import PackageSets
from ringfence_health_checks.results.results import ResultKey, Results
from ringfence_health_checks.routes.place_names import Names
from ringfence_health_checks.running.manual_runs import ManualRuns, NotPlacedError
from ringfence_health_checks.running.tries import NoPlaceError, Trial, Tries
from ringfence_health_checks.states.current_states import CheckState, States
from ringfence_health_checks.states.expected_places import Expectations

MAX_RESULTS = 1000
MAX_WITH_SCRIPTS = 50
"""How many checks one answer holds with their scripts, which may be long."""
MAX_PLACES_LISTED = 10
MAX_PLACES_SHOWN = 100
"""Of how many places a list, and a check by itself, tell: of those that are worst off."""

MAX_LINES_TOLD = 10
"""So many lines that the policy lacks are in the text of an answer; all are beside it."""

_JSON = TypeAdapter(Any)
_log = structlog.get_logger("ringfence.health_checks")


class RunWanted(BaseModel):
    """Where to run a check now: `core`, or a satellite by id or name; by default, wherever it runs."""

    model_config = ConfigDict(extra="forbid")

    on: ShortText | None = None


def build(
    checks: Checks,
    package_sets: PackageSets,
    results: Results,
    runs: ManualRuns,
    tries: Tries,
    names: Names,
    states: States,
    expectations: Expectations,
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

    async def with_packages(definition: Definition, manager: Principal) -> Definition:
        """The definition with the set that its script asks for in its own text."""
        try:
            return await package_sets.with_set(definition, by=manager.name)
        except PackagesError as error:
            raise _without_packages(error) from error

    async def expected(check: Check) -> dict[str, Any]:
        """The check as it was written, once what is expected of it is written down, too."""
        try:
            await expectations.of_check(check)
        except (SQLAlchemyError, OSError) as error:
            # It is written, and announced: the leader will do it.
            _log.warning("cannot write down what a check is expected to do", error=describe(error))
        return _with_state(check, CheckState(), MAX_PLACES_SHOWN)

    @router.get("/checks")
    async def list_checks(
        reader: Reader,
        name: Annotated[ShortText | None, Query(description="only the one with just this name")] = None,
        include: Annotated[Literal["script"] | None, Query(description="what to list, too")] = None,
        places: Annotated[
            int, Query(ge=1, le=MAX_PLACES_LISTED, description="of how many places to tell")
        ] = MAX_PLACES_LISTED,
        after: After = None,
        limit: Limit = DEFAULT_LISTED,
    ) -> Response:
        with_scripts = include is not None
        if with_scripts:
            limit = min(limit, MAX_WITH_SCRIPTS)
        found = await checks.page(after=after or "", named=name, limit=limit + 1, with_scripts=with_scripts)
        listed = page(found, limit, lambda one: one.name)
        readable = [one.check for one in listed.entries if one.check is not None]
        found_states = await states.of([check.id for check in readable], most=places)
        told = [_with_state(check, found_states[check.id], places) for check in readable]
        ids = {one.ran_on for state in found_states.values() for one in state.places}
        answer = {"checks": told, "next": listed.next, "names": await names.of(ids, reader)}
        # Hundreds of checks: written as JSON at once, and not gone through as a model first.
        return Response(_JSON.dump_json(answer), media_type="application/json")

    @router.post("/checks", status_code=201)
    async def create(body: Definition, manager: Manager) -> dict[str, Any]:
        _check_secrets(body, manager)
        _check_needs(body, None, await current_policy())
        body = await with_packages(body, manager)
        try:
            made = await checks.create(body, by=manager.name)
        except NameTakenError as error:
            raise Problem(409, "The name is taken", detail=str(error)) from error
        return await expected(made)

    @router.get("/checks/{id}")
    async def show(id: UUID, reader: Reader) -> dict[str, Any]:
        check = await known(id)
        state = (await states.of([id], most=MAX_PLACES_SHOWN))[id]
        places = {*(one.ran_on for one in state.places), *map(str, check.definition.runs_on.satellites)}
        return {
            **_with_state(check, state, MAX_PLACES_SHOWN),
            "names": await names.of(places, reader),
        }

    @router.get("/checks/{id}/latest")
    async def list_latest(
        id: UUID, reader: Reader, after: After = None, limit: Limit = DEFAULT_LISTED
    ) -> dict[str, Any]:
        await require_check(id)
        found = await states.latest(id, after=after or "", limit=limit + 1)
        listed = page(found, limit, lambda one: one.ran_on)
        return {
            "latest": [one.to_wire() for one in listed.entries],
            "next": listed.next,
            "names": await names.of({one.ran_on for one in listed.entries}, reader),
        }

    @router.patch("/checks/{id}")
    async def change(id: UUID, body: JsonObject, manager: Manager) -> dict[str, Any]:
        ceiling = await current_policy()

        try:
            foreseen = (await known(id)).definition.amended(body)
        except ValidationError as error:
            raise _not_valid(error) from error
        with_set = await with_packages(foreseen, manager)

        def amended(current: Definition) -> Definition:
            wanted = current.amended(body)
            _check_secrets(wanted, manager)
            _check_needs(wanted, current, ceiling)
            if wanted != foreseen:
                detail = "somebody else has changed the check at the same time: try again"
                raise Problem(409, "The check has changed", detail=detail)
            return with_set

        try:
            changed = _found(await checks.change(id, amended, by=manager.name), id)
        except UnreadableCheckError as error:
            raise _unreadable(error) from error
        except NameTakenError as error:
            raise Problem(409, "The name is taken", detail=str(error)) from error
        except ValidationError as error:
            raise _not_valid(error) from error
        return await expected(changed)

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

    @router.post("/tries")
    async def try_once(body: Trial, manager: Manager) -> dict[str, Any]:
        """Run something once as a check would, and store nothing."""
        try:
            return await tries.carry_out(body, with_secrets=manager.holds(USE_SECRETS))
        except PackagesError as error:
            raise _without_packages(error) from error
        except NoPlaceError as error:
            raise Problem(409, "There is no such place", detail=str(error)) from error
        except RunFailed as error:
            raise Problem(409, "It was not run there", detail=str(error)) from error

    @router.get("/checks/{id}/results")
    async def list_results(
        id: UUID,
        reader: Reader,
        on: Annotated[ShortText | None, Query(description="core, or a satellite's id or name")] = None,
        status: Health | None = None,
        before: Annotated[Moment | None, Query(description="only runs before this time")] = None,
        after: After = None,
        limit: Annotated[int, Query(ge=1, le=MAX_RESULTS)] = 50,
    ) -> dict[str, Any]:
        await require_check(id)
        begin = None if after is None else _key(after)
        place = None if on is None else await names.place(on, reader)
        if on is not None and place is None:
            raise Problem(
                422, "No such place", detail=f"{on!r} is neither core nor a satellite that you may see"
            )
        found = await results.listed(
            id, ran_on=place, status=status, before=before, after=begin, limit=limit + 1
        )
        listed = page(found, limit, lambda one: _cursor(one.key))
        # Times that an older release should not have taken are shown as the earliest, and have no order.
        is_end = not listed.entries or listed.entries[-1].executed_at <= EARLIEST
        return {
            "results": [result.to_wire() for result in listed.entries],
            "next": None if is_end else listed.next,
            "names": await names.of({one.ran_on for one in listed.entries}, reader),
        }

    async def require_check(id: UUID) -> None:
        if not await checks.exists(id):
            raise _unknown(id)

    return router


def _without_packages(error: PackagesError) -> Problem:
    return Problem(
        422, "The script cannot have its packages", detail=error.with_hint, problem=error.to_wire()
    )


def _with_state(check: Check | OutlinedCheck, state: CheckState, most: int) -> dict[str, Any]:
    """The check, how it is, and what it has seen last; `latestTruncated` says whether there is more than that."""
    enabled = (check.definition if isinstance(check, Check) else check.outline).enabled
    return {**check.to_wire(), **state.to_wire(most, enabled=enabled)}


def _key(after: str) -> ResultKey:
    at, ran_on, id = parts_of(after, 3)
    try:
        return ResultKey(moment(dt.datetime.fromisoformat(at)), ran_on, id)
    except ValueError as error:
        raise not_a_cursor() from error


def _cursor(key: ResultKey) -> str:
    return cursor(key.executed_at.isoformat(), key.ran_on, key.id)


def _check_secrets(definition: Definition, principal: Principal) -> None:
    """Refuse secrets of which the writer may not have scripts given any.

    Threat: whoever may write checks writes one that gives away a secret they have no business with, since a script
    can tell what it was given. So naming secrets takes the rule for that too.
    """
    if definition.secret_names and not principal.holds(USE_SECRETS):
        raise Problem(
            403,
            detail=f"{principal.name} does not hold the access rule {USE_SECRETS}, "
            "and so cannot write a check that is given secrets",
            rule=USE_SECRETS,
        )


def _check_needs(definition: Definition, current: Definition | None, ceiling: PolicySnapshot) -> None:
    """Refuse what is needed beyond the policy that holds now, unless it was there before, and is not had either."""
    needs = definition.needs
    if needs is None or (current is not None and current.needs == needs):
        return
    if missing := beyond(ceiling.policy, needs):
        lines = [str(line) for line in missing]
        why = "" if ceiling.reason is None else f" ({ceiling.reason})"
        raise Problem(
            422,
            "The check needs more than the policy allows",
            detail=f"the policy lacks {'; '.join(lines[:MAX_LINES_TOLD])}"
            + (f"; and {len(lines) - MAX_LINES_TOLD} more" if lines[MAX_LINES_TOLD:] else "")
            + f"{why}; whoever may write the policy can add that, or the check can need less",
            missing=lines,
        )


def _not_valid(error: ValidationError) -> Problem:
    return not_valid("The check is not valid", error.errors(include_url=False, include_input=False))


def _unreadable(error: UnreadableCheckError) -> Problem:
    return Problem(409, "The check is newer than this release", detail=str(error))


def _found(check: Check | None, id: UUID) -> Check:
    if check is None:
        raise _unknown(id)
    return check


def _unknown(id: UUID) -> Problem:
    return Problem(404, "No such check", detail=f"there is no check {id}", check=str(id))
