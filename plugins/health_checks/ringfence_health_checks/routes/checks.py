"""Checks and their results over HTTP."""

# No `from __future__ import annotations` here: FastAPI reads the annotations, and the roles are local names.
import datetime as dt
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, Query, Response
from pydantic import BaseModel, ConfigDict, TypeAdapter
from ringfence import AccessRule
from ringfence.bounded import EARLIEST, JsonObject, Moment, ShortText, moment
from ringfence.scripts import Health
from ringfence.web import (
    DEFAULT_LISTED,
    After,
    Limit,
    Principal,
    Problem,
    Router,
    cursor,
    not_a_cursor,
    page,
    parts_of,
    require,
)
from ringfence_satellite.service import RunFailed
from ringfence_script_packages.service import PackagesError
from ringfence_secrets.service import USE as USE_SECRETS

from ringfence_health_checks.definitions.checks import (
    Check,
    Checks,
    OutlinedCheck,
)
from ringfence_health_checks.definitions.definition import Definition
from ringfence_health_checks.results.results import ResultKey, Results
from ringfence_health_checks.routes.place_names import Names
from ringfence_health_checks.running.changes import Changes, without_packages
from ringfence_health_checks.running.manual_runs import ManualRuns, NotPlacedError
from ringfence_health_checks.running.tries import NoPlaceError, Trial, Tries
from ringfence_health_checks.states.current_states import CheckState, States

MAX_RESULTS = 1000
MAX_WITH_SCRIPTS = 50
"""How many checks one answer holds with their scripts, which may be long."""
MAX_PLACES_LISTED = 10
MAX_PLACES_SHOWN = 100
"""Of how many places a list, and a check by itself, tell: of those that are worst off."""

_JSON = TypeAdapter(Any)


class RunWanted(BaseModel):
    """Where to run a check now: `core`, or a satellite by id or name; by default, wherever it runs."""

    model_config = ConfigDict(extra="forbid")

    on: ShortText | None = None


def build(
    checks: Checks,
    changes: Changes,
    results: Results,
    runs: ManualRuns,
    tries: Tries,
    names: Names,
    states: States,
    *,
    manage: AccessRule,
    read: AccessRule,
    run: AccessRule,
) -> Router:
    """The routes."""
    router = Router()
    Manager = Annotated[Principal, Depends(require(manage))]
    Reader = Annotated[Principal, Depends(require(read))]
    Runner = Annotated[Principal, Depends(require(run))]

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
        return _with_state(await changes.create(body, manager), CheckState(), MAX_PLACES_SHOWN)

    @router.get("/checks/{id}")
    async def show(id: UUID, reader: Reader) -> dict[str, Any]:
        check = await changes.known(id)
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
        await changes.require(id)
        found = await states.latest(id, after=after or "", limit=limit + 1)
        listed = page(found, limit, lambda one: one.ran_on)
        return {
            "latest": [one.to_wire() for one in listed.entries],
            "next": listed.next,
            "names": await names.of({one.ran_on for one in listed.entries}, reader),
        }

    @router.patch("/checks/{id}")
    async def change(id: UUID, body: JsonObject, manager: Manager) -> dict[str, Any]:
        return _with_state(await changes.change(id, body, manager), CheckState(), MAX_PLACES_SHOWN)

    @router.delete("/checks/{id}", status_code=204)
    async def delete(id: UUID, manager: Manager) -> Response:
        await changes.delete(id, manager)
        return Response(status_code=204)

    @router.post("/checks/{id}/run")
    async def run_now(id: UUID, _: Runner, body: RunWanted | None = None) -> dict[str, Any]:
        check = await changes.known(id)
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
            raise without_packages(error) from error
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
        await changes.require(id)
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

    return router


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
