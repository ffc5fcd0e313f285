"""The checks in the database. Each change and the hook that announces it are written in one transaction."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

import structlog
from pydantic import ValidationError
from ringfence import PluginContext
from ringfence.declaring import refuse_if_held
from ringfence.redaction import describe
from ringfence_satellite.service import AssignedSatellite, Assignment
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_health_checks.definitions.definition import READ_AS, Definition, Outline
from ringfence_health_checks.hooks import (
    CheckChange,
    HealthCheckChanged,
    health_check_changed,
    stream_of,
)

KIND = "Check"
"""What documents call a check."""
_COLUMNS = "id, definition, created_at, created_by, updated_at, updated_by"
_INSERT = text(f"""
    INSERT INTO health_checks_checks (id, name, definition, created_by, updated_by)
    VALUES (:id, :name, CAST(:definition AS jsonb), :by, :by) RETURNING {_COLUMNS}
""")  # noqa: S608
_UPDATE = text(f"""
    UPDATE health_checks_checks
       SET name = :name, definition = CAST(:definition AS jsonb), updated_at = now(), updated_by = :by
     WHERE id = :id RETURNING {_COLUMNS}
""")  # noqa: S608
_ALL = text(f"SELECT {_COLUMNS} FROM health_checks_checks ORDER BY name")  # noqa: S608
_ONE = text(f"SELECT {_COLUMNS} FROM health_checks_checks WHERE id = :id")  # noqa: S608
_NAMED = text(f"SELECT {_COLUMNS} FROM health_checks_checks WHERE name = :name")  # noqa: S608
_LOCK = text(f"{_ONE.text} FOR UPDATE")
# `with_scripts` decides which of the columns is read at all.
_PAGE = text("""
    SELECT id, CASE WHEN :with_scripts THEN definition ELSE outline END AS definition,
           created_at, created_by, updated_at, updated_by, name
      FROM health_checks_checks
     WHERE name > :after AND (CAST(:named AS text) IS NULL OR name = :named) ORDER BY name LIMIT :limit
""")
_FIND = text("""
    SELECT id, name, outline ->> 'system' AS system FROM health_checks_checks
     WHERE (SELECT bool_and(position(word IN lower(name || ' ' || (outline ->> 'system'))) > 0)
              FROM unnest(CAST(:words AS text[])) AS word)
     ORDER BY name LIMIT :limit
""")
_EXISTS = text("SELECT FROM health_checks_checks WHERE id = :id")
_FORGET_STATE = text("DELETE FROM health_checks_kept_states WHERE check_id = :id")
_DELETE = text("DELETE FROM health_checks_checks WHERE id = :id")


_log = structlog.get_logger("ringfence.health_checks")


class NameTakenError(RuntimeError):
    """There is a check of that name already."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is a check named {name!r} already; choose another name, or change that one")


class UnreadableCheckError(RuntimeError):
    """A check is stored that this release cannot read, most likely since a newer one wrote it."""

    def __init__(self, id: UUID, error: ValidationError) -> None:
        super().__init__(
            f"this release cannot read the check {id}: {describe(error)}; use the release that wrote it"
        )


@dataclass(frozen=True)
class Check:
    """A check: its definition, and who has written it when."""

    id: UUID
    definition: Definition
    created_at: dt.datetime
    created_by: str
    updated_at: dt.datetime
    updated_by: str

    def assignment(self, satellite: AssignedSatellite) -> Assignment:
        """The check as a satellite is told of it."""
        if self._is_alike_everywhere:
            return self._assignment
        return self.definition.assignment(self.id, satellite.facts)

    @cached_property
    def _is_alike_everywhere(self) -> bool:
        return self.definition.is_alike_everywhere

    @cached_property
    def _assignment(self) -> Assignment:
        """The check as any satellite is told of it: the same value for all of them."""
        return self.definition.assignment(self.id, {})

    def to_wire(self) -> dict[str, Any]:
        """The check as JSON for the API."""
        return _wire(self, self.definition.to_wire())


@dataclass(frozen=True)
class OutlinedCheck:
    """A check without its script, which its digest stands for."""

    id: UUID
    outline: Outline
    script_sha256: str
    read_as: str | None
    created_at: dt.datetime
    created_by: str
    updated_at: dt.datetime
    updated_by: str

    def to_wire(self) -> dict[str, Any]:
        """The check as JSON for the API."""
        return _wire(
            self, {**self.outline.to_wire(), READ_AS: self.read_as, "scriptSha256": self.script_sha256}
        )


@dataclass(frozen=True, slots=True)
class ListedCheck:
    """A check in a list. `check` is None if this release cannot read it."""

    name: str
    check: Check | OutlinedCheck | None


class Checks:
    """Reads and writes checks."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        self._told: set[tuple[UUID, dt.datetime]] = set()

    async def all(self) -> list[Check]:
        """Every check, by name.

        One that this release cannot read is left out, and told in the log: it concerns nobody else.
        """
        found = []
        async with self._context.sessions() as session:
            for row in await session.execute(_ALL):
                try:
                    found.append(_check(row))
                except UnreadableCheckError as error:
                    self._tell(row, error)
        return found

    async def page(
        self, *, after: str = "", named: str | None = None, limit: int, with_scripts: bool
    ) -> list[ListedCheck]:
        """Checks by name, from after a name. Those that cannot be read are told in the log, as by `all`."""
        values = {"after": after, "named": named, "limit": limit, "with_scripts": with_scripts}
        found = []
        async with self._context.sessions() as session:
            for row in await session.execute(_PAGE, values):
                try:
                    check = _check(row) if with_scripts else _outlined(row)
                except UnreadableCheckError as error:
                    self._tell(row, error)
                    check = None
                found.append(ListedCheck(row.name, check))
        return found

    async def find(self, words: Sequence[str], *, limit: int) -> Sequence[tuple[UUID, str, str]]:
        """The checks in whose names or systems all of these words are: id, name and system, by name."""
        if not words:
            return []
        values = {"words": [word.lower() for word in words], "limit": limit}
        async with self._context.sessions() as session:
            return [(row.id, row.name, row.system) for row in await session.execute(_FIND, values)]

    async def exists(self, id: UUID) -> bool:
        """Whether there is a check with this id."""
        async with self._context.sessions() as session:
            return (await session.execute(_EXISTS, {"id": id})).one_or_none() is not None

    def _tell(self, row: Any, error: UnreadableCheckError) -> None:
        if (row.id, row.updated_at) not in self._told:
            self._told.add((row.id, row.updated_at))
            _log.error("a check is left out", check=str(row.id), error=str(error))

    async def one(self, id: UUID) -> Check | None:
        """The check with this id. Raises `UnreadableCheckError`."""
        async with self._context.sessions() as session:
            row = (await session.execute(_ONE, {"id": id})).one_or_none()
        return None if row is None else _check(row)

    async def named(self, name: str) -> Check | None:
        """The check of this name. Raises `UnreadableCheckError`."""
        async with self._context.sessions() as session:
            row = (await session.execute(_NAMED, {"name": name})).one_or_none()
        return None if row is None else _check(row)

    async def create(self, definition: Definition, *, by: str) -> Check:
        """Add a check. Raises `NameTakenError`."""
        async with self._context.sessions.begin() as session:
            await refuse_if_held(self._context, session, KIND, definition.name)
            check = await self._write(session, _INSERT, uuid.uuid4(), definition, by)
            await self._announce(session, check.id, check.definition.summary(), CheckChange.CREATED, by)
        return check

    async def change(self, id: UUID, change: Callable[[Check], Definition], *, by: str) -> Check | None:
        """Replace a definition by what `change` makes of the check. None when there is none.

        Nobody else changes it meanwhile. Raises `NameTakenError`, `UnreadableCheckError`.
        """
        async with self._context.sessions.begin() as session:
            row = (await session.execute(_LOCK, {"id": id})).one_or_none()
            if row is None:
                return None
            check = _check(row)
            before, after = check.definition, change(check)
            for name in {before.name, after.name}:
                await refuse_if_held(self._context, session, KIND, name)
            check = await self._write(session, _UPDATE, id, after, by)
            if not (check.definition.keep_state and check.definition.runs_on.core):
                await session.execute(_FORGET_STATE, {"id": id})
            await self._announce(session, check.id, check.definition.summary(), CheckChange.UPDATED, by)
        return check

    async def delete(self, id: UUID, *, by: str) -> bool:
        """Remove a check, and its results with it. False when there is none."""
        async with self._context.sessions.begin() as session:
            row = (await session.execute(_LOCK, {"id": id})).one_or_none()
            if row is None:
                return False
            await refuse_if_held(self._context, session, KIND, str(row.definition.get("name")))
            await session.execute(_DELETE, {"id": id})
            await self._announce(session, id, _summary(row), CheckChange.DELETED, by)
        return True

    @staticmethod
    async def _write(
        session: AsyncSession, statement: Any, id: UUID, definition: Definition, by: str
    ) -> Check:
        values = {
            "id": id,
            "name": definition.name,
            "definition": json.dumps(definition.to_wire()),
            "by": by,
        }
        try:
            return _check((await session.execute(statement, values)).one())
        except IntegrityError as error:
            raise NameTakenError(definition.name) from error

    async def _announce(
        self, session: AsyncSession, id: UUID, summary: dict[str, Any], change: CheckChange, by: str
    ) -> None:
        await self._context.emit_hook(
            health_check_changed,
            HealthCheckChanged(check_id=id, change=change, definition=summary),
            session=session,
            stream=stream_of(id),
            actor=by,
        )


def _summary(row: Any) -> dict[str, Any]:
    """The definition without the script; of one that cannot be read here, its name alone."""
    try:
        return _check(row).definition.summary()
    except UnreadableCheckError:
        return {"name": row.definition.get("name")}


def _wire(check: Check | OutlinedCheck, definition: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": str(check.id),
        **definition,
        "createdAt": check.created_at,
        "createdBy": check.created_by,
        "updatedAt": check.updated_at,
        "updatedBy": check.updated_by,
    }


def _outlined(row: Any) -> OutlinedCheck:
    """Raises `UnreadableCheckError`."""
    try:
        outline = Outline.stored(row.definition)
    except ValidationError as error:
        raise UnreadableCheckError(row.id, error) from error
    return OutlinedCheck(
        row.id,
        outline,
        row.definition["scriptSha256"],
        row.definition.get(READ_AS),
        row.created_at,
        row.created_by,
        row.updated_at,
        row.updated_by,
    )


def _check(row: Any) -> Check:
    """Raises `UnreadableCheckError`."""
    try:
        definition = Definition.stored(row.definition)
    except ValidationError as error:
        raise UnreadableCheckError(row.id, error) from error
    return Check(
        row.id,
        definition,
        row.created_at,
        row.created_by,
        row.updated_at,
        row.updated_by,
    )
