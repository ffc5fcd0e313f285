"""Checks as somebody wants them: what they may write, with the packages that it imports, and what is expected of it.

The routes and the pages both write through this, so that what one refuses, the other does.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

import structlog
from pydantic import ValidationError
from ringfence.redaction import describe
from ringfence.sandbox import PolicySnapshot, beyond, current_policy
from ringfence.web import Principal, Problem, not_valid
from ringfence_script_packages.service import PackagesError
from ringfence_secrets.service import USE as USE_SECRETS
from sqlalchemy.exc import SQLAlchemyError

from ringfence_health_checks.definitions.checks import Check, Checks, NameTakenError, UnreadableCheckError
from ringfence_health_checks.definitions.definition import Definition
from ringfence_health_checks.definitions.package_sets import PackageSets
from ringfence_health_checks.states.expected_places import Expectations

MAX_LINES_TOLD = 10
"""So many lines that the policy lacks are in the text of an answer; all are beside it."""

_log = structlog.get_logger("ringfence.health_checks")


class ChangedMeanwhileError(RuntimeError):
    """Somebody else has changed the check since it was looked at."""


class Changes:
    """Writes checks on somebody's behalf. Each method raises `Problem` for what is refused."""

    def __init__(
        self,
        checks: Checks,
        package_sets: PackageSets,
        expectations: Expectations,
        ceiling: Callable[[], Awaitable[PolicySnapshot]] = current_policy,
    ) -> None:
        self._checks = checks
        self._package_sets = package_sets
        self._expectations = expectations
        self._ceiling = ceiling

    async def known(self, id: UUID) -> Check:
        """The check with this id."""
        try:
            return _found(await self._checks.one(id), id)
        except UnreadableCheckError as error:
            raise _unreadable(error) from error

    async def require(self, id: UUID) -> None:
        """Refuse an id that no check has."""
        if not await self._checks.exists(id):
            raise no_such_check(id)

    async def create(self, definition: Definition, by: Principal) -> Check:
        """Add a check."""
        _check_secrets(definition, by)
        _check_needs(definition, None, await self._ceiling())
        definition = await self._with_packages(definition, by)
        try:
            made = await self._checks.create(definition, by=by.name)
        except NameTakenError as error:
            raise _taken(error) from error
        await self._expect(made)
        return made

    async def change(
        self, id: UUID, partial: Mapping[str, Any], by: Principal, *, seen: dt.datetime | None = None
    ) -> Check:
        """Write `partial` (in wire names) over a check; with `seen`, only if it was last changed then.

        Raises also `ChangedMeanwhileError`.
        """
        ceiling = await self._ceiling()
        try:
            foreseen = (await self.known(id)).definition.amended(partial)
        except ValidationError as error:
            raise check_not_valid(error) from error
        with_set = await self._with_packages(foreseen, by)

        def amended(check: Check) -> Definition:
            if seen is not None and check.updated_at != seen:
                raise ChangedMeanwhileError
            current = check.definition
            wanted = current.amended(partial)
            _check_secrets(wanted, by)
            _check_needs(wanted, current, ceiling)
            if wanted != foreseen:
                detail = "somebody else has changed the check at the same time: try again"
                raise Problem(409, "The check has changed", detail=detail)
            return with_set

        try:
            changed = _found(await self._checks.change(id, amended, by=by.name), id)
        except UnreadableCheckError as error:
            raise _unreadable(error) from error
        except NameTakenError as error:
            raise _taken(error) from error
        except ValidationError as error:
            raise check_not_valid(error) from error
        await self._expect(changed)
        return changed

    async def delete(self, id: UUID, by: Principal) -> None:
        """Remove a check, and its results with it."""
        if not await self._checks.delete(id, by=by.name):
            raise no_such_check(id)

    async def _with_packages(self, definition: Definition, by: Principal) -> Definition:
        """The definition with the set that its script asks for in its own text."""
        try:
            return await self._package_sets.with_set(definition, by=by.name)
        except PackagesError as error:
            raise without_packages(error) from error

    async def _expect(self, check: Check) -> None:
        """Have what is expected of it written down."""
        try:
            await self._expectations.of_check(check)
        except (SQLAlchemyError, OSError) as error:
            # It is written, and announced: the leader will do it.
            _log.warning("cannot write down what a check is expected to do", error=describe(error))


def without_packages(error: PackagesError) -> Problem:
    """What is answered where a script cannot have what it imports."""
    return Problem(
        422, "The script cannot have its packages", detail=error.with_hint, problem=error.to_wire()
    )


def check_not_valid(error: ValidationError) -> Problem:
    """What is answered to what is no check."""
    return not_valid("The check is not valid", error.errors(include_url=False, include_input=False))


def no_such_check(id: UUID) -> Problem:
    """What is answered to an id that no check has."""
    return Problem(404, "No such check", detail=f"there is no check {id}", check=str(id))


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


def _taken(error: NameTakenError) -> Problem:
    return Problem(409, "The name is taken", detail=str(error))


def _unreadable(error: UnreadableCheckError) -> Problem:
    return Problem(409, "The check is newer than this release", detail=str(error))


def _found(check: Check | None, id: UUID) -> Check:
    if check is None:
        raise no_such_check(id)
    return check
