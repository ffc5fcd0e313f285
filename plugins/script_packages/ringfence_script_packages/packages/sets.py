"""The sets in the database: which lock each has, what is wanted of it, and how far that is.

A request is kept until it is met, or cannot be. What an installation has found out counts only for the request that it
was for, and only if that still asks for the same: so one that is late, since another instance has taken over, changes
nothing.
"""

from __future__ import annotations

import datetime as dt
import enum
import json
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ringfence import PluginContext
from ringfence.declaring import Held, held, held_among, refuse_if_held
from ringfence.scripts.packages.lock import Lock, Requirement
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_script_packages.hooks import (
    ScriptPackagesChanged,
    ScriptPackagesFailed,
    ScriptPackagesRequested,
    script_packages_changed,
    script_packages_failed,
    script_packages_requested,
)
from ringfence_script_packages.packages.allowlist import KIND, put_entries, requirements_of
from ringfence_script_packages.packages.errors import PackagesError
from ringfence_script_packages.packages.locks import put_lock, read_lock
from ringfence_script_packages.packages.requirements import Wanted, ordered

INLINE = "inline-"
"""How the names of sets begin that scripts ask for in their own text."""
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)

_COLUMNS = """
    name, own_requirements, own_requires_python, lock_hash, previous_lock_hash, requirements, request, state,
    progress, error, created_at, updated_at, locked_at
"""
_ONE = text(f"SELECT {_COLUMNS} FROM script_packages_sets WHERE name = :name")  # noqa: S608
_LOCK_ROW = text(f"{_ONE.text} FOR UPDATE")
_PAGE = text(f"""
    SELECT {_COLUMNS} FROM script_packages_sets
     WHERE name > :after AND (NOT CAST(:own AS boolean) OR own_requirements IS NULL)
       AND (CAST(:words AS text) IS NULL OR strpos(name, :words) > 0)
     ORDER BY name LIMIT :limit
""")  # noqa: S608
_PENDING = text(f"""
    SELECT {_COLUMNS} FROM script_packages_sets WHERE request IS NOT NULL ORDER BY request->>'at', name LIMIT 1
""")  # noqa: S608
_FAILED = text(f"""
    SELECT {_COLUMNS} FROM script_packages_sets WHERE state = 'failed' ORDER BY name LIMIT :limit
""")  # noqa: S608
_CURRENT = text("SELECT name, lock_hash FROM script_packages_sets WHERE lock_hash IS NOT NULL ORDER BY name")
_MAKE = text("""
    INSERT INTO script_packages_sets (name, own_requirements, own_requires_python)
    VALUES (:name, CAST(:own AS jsonb), :python)
    ON CONFLICT (name) DO UPDATE
       SET own_requirements = excluded.own_requirements, own_requires_python = excluded.own_requires_python,
           wanted_at = now()
     WHERE script_packages_sets.own_requirements IS NOT NULL
""")
_REQUEST = text(f"""
    UPDATE script_packages_sets
       SET request = CAST(:request AS jsonb), state = 'installing', progress = NULL, error = NULL, updated_at = now()
     WHERE name = :name RETURNING {_COLUMNS}
""")  # noqa: S608
_PROGRESS = text("""
    UPDATE script_packages_sets SET progress = CAST(:progress AS jsonb), updated_at = now()
     WHERE name = :name AND request->>'id' = :id
""")
_DONE = text("""
    UPDATE script_packages_sets
       SET previous_lock_hash = CASE WHEN lock_hash <> :hash THEN lock_hash ELSE previous_lock_hash END,
           lock_hash = :hash, requirements = CAST(:requirements AS jsonb), request = NULL, state = 'current',
           progress = NULL, error = NULL, updated_at = now(), locked_at = now()
     WHERE name = :name
""")
# What a set had counts as wanted until now: runs may use it still.
_LEAVE = text("""
    UPDATE script_packages_locks SET wanted_at = now()
     WHERE hash = (SELECT lock_hash FROM script_packages_sets WHERE name = :name)
""")
_FAIL = text("""
    UPDATE script_packages_sets
       SET request = NULL, state = 'failed', progress = NULL, error = CAST(:error AS jsonb), updated_at = now()
     WHERE name = :name AND request->>'id' = :id RETURNING name
""")
_DELETE_ENTRIES = text("DELETE FROM script_packages_entries WHERE set_name = :name")
_DELETE = text("DELETE FROM script_packages_sets WHERE name = :name RETURNING name")


def any_set_name(name: str) -> str:
    """`name`, if a set can be called so. Raises `ValueError`."""
    if NAME.fullmatch(name) is None:
        raise ValueError("must be small letters, digits, dots, hyphens and underscores, and up to 64")
    return name


def own_set_name(name: str) -> str:
    """`name`, if people can call a set so. Raises `ValueError`."""
    if any_set_name(name).startswith(INLINE):
        raise ValueError(f"must not begin with {INLINE}: scripts ask for such sets in their own text")
    return name


class State(enum.StrEnum):
    """How a set is."""

    EMPTY = "empty"
    """Nothing was ever installed."""
    CURRENT = "current"
    INSTALLING = "installing"
    FAILED = "failed"
    """What was wanted last could not be had. What it had before, it still has."""


class NoSetError(RuntimeError):
    """There is no set of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no set of packages {name!r}: see `ringfence packages sets`")


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody wants a set to be installed."""

    id: UUID
    upgrade: bool
    by: str
    at: dt.datetime

    def to_wire(self) -> dict[str, Any]:
        """The request as JSON."""
        return {"id": str(self.id), "upgrade": self.upgrade, "by": self.by, "at": self.at.isoformat()}


@dataclass(frozen=True, slots=True)
class PackageSet:
    """A set as it is stored. `requirements` are those that its lock was made of."""

    name: str
    own_requirements: tuple[Requirement, ...] | None
    own_requires_python: str | None
    lock_hash: str | None
    previous_lock_hash: str | None
    requirements: tuple[Requirement, ...] | None
    request: Request | None
    state: State
    progress: Mapping[str, Any] | None
    error: PackagesError | None
    created_at: dt.datetime
    updated_at: dt.datetime
    locked_at: dt.datetime | None

    def to_wire(self) -> dict[str, Any]:
        """The set as JSON for the API."""
        return {
            "name": self.name,
            "inline": self.own_requirements is not None,
            "requiresPython": self.own_requires_python,
            "state": self.state.value,
            "lockHash": self.lock_hash,
            "requirements": None if self.requirements is None else _wire(self.requirements),
            "request": None if self.request is None else self.request.to_wire(),
            "progress": self.progress,
            "error": None if self.error is None else self.error.to_wire(),
            "createdAt": self.created_at,
            "updatedAt": self.updated_at,
            "lockedAt": self.locked_at,
        }


class Sets:
    """Reads and writes sets."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context

    async def page(
        self, *, after: str = "", limit: int, own: bool = False, words: str | None = None
    ) -> list[PackageSet]:
        """Sets by name: all, or those alone that people have made (`own`), or that have `words` in their names."""
        values = {"after": after, "limit": limit, "own": own, "words": words}
        async with self._context.sessions() as session:
            return [_set(row) for row in await session.execute(_PAGE, values)]

    async def failed(self, *, limit: int) -> list[PackageSet]:
        """Sets whose last installation failed."""
        async with self._context.sessions() as session:
            return [_set(row) for row in await session.execute(_FAILED, {"limit": limit})]

    async def held(self, name: str) -> Held | None:
        """Whether what is allowed in a set is changed elsewhere alone."""
        return await held(self._context, KIND, name)

    async def held_among(self, names: Iterable[str]) -> Mapping[str, Held]:
        """Those of some sets whose lists are changed elsewhere alone."""
        return await held_among(self._context, KIND, names=names)

    async def get(self, name: str) -> PackageSet:
        """The set of that name. Raises `NoSetError`."""
        async with self._context.sessions() as session:
            row = (await session.execute(_ONE, {"name": name})).one_or_none()
        if row is None:
            raise NoSetError(name)
        return _set(row)

    async def current(self) -> dict[str, str]:
        """The lock of each set that has one."""
        async with self._context.sessions() as session:
            return {row.name: row.lock_hash for row in await session.execute(_CURRENT)}

    async def lock(self, hash: str) -> Lock | None:
        """The lock of that hash."""
        async with self._context.sessions() as session:
            return await read_lock(session, hash)

    async def pending(self) -> PackageSet | None:
        """The set that was asked for first of those that are to be installed."""
        async with self._context.sessions() as session:
            row = (await session.execute(_PENDING)).one_or_none()
        return None if row is None else _set(row)

    async def wanted(self, found: PackageSet) -> tuple[Requirement, ...]:
        """What a set is to have now."""
        async with self._context.sessions() as session:
            return await _wanted(session, found)

    async def make(
        self, name: str, own: Sequence[Requirement], *, requires_python: str | None = None, by: str
    ) -> PackageSet:
        """A set that a script asks for, which is installed if it has never been."""
        async with self._context.sessions.begin() as session:
            own = ordered(own)
            values = {"name": name, "own": json.dumps(_wire(own)), "python": requires_python}
            await session.execute(_MAKE, values)
            found = await _read(session, name)
            if found.request is None and (found.lock_hash is None or found.requirements != own):
                return await self._ask(session, found, upgrade=False, by=by, reason=None)
            return found

    async def request(self, name: str, *, upgrade: bool, by: str, reason: str | None = None) -> PackageSet:
        """Have a set installed. Raises `NoSetError`."""
        async with self._context.sessions.begin() as session:
            found = await _read(session, name)
            pending = found.request
            if pending is not None and pending.upgrade >= upgrade:
                return found
            return await self._ask(session, found, upgrade=upgrade, by=by, reason=reason)

    async def _ask(
        self, session: AsyncSession, found: PackageSet, *, upgrade: bool, by: str, reason: str | None
    ) -> PackageSet:
        wire = Request(uuid.uuid4(), upgrade, by, dt.datetime.now(dt.UTC)).to_wire()
        values = {"name": found.name, "request": json.dumps(wire)}
        asked = _set((await session.execute(_REQUEST, values)).one())
        fact = ScriptPackagesRequested(set=found.name, upgrade=upgrade)
        await self._context.emit_hook(
            script_packages_requested, fact, session=session, actor=by, reason=reason
        )
        return asked

    async def note_progress(self, name: str, request: Request, progress: Mapping[str, Any]) -> None:
        """Keep how far the installation for a request is."""
        async with self._context.sessions.begin() as session:
            values = {"name": name, "id": str(request.id), "progress": json.dumps(progress)}
            await session.execute(_PROGRESS, values)

    async def make_current(
        self, name: str, request: Request, requirements: Sequence[Requirement], lock: Lock
    ) -> bool:
        """Make a lock the current one of a set, and tell everybody, in one transaction.

        False, and nothing is done, if another request has come meanwhile or what is wanted has changed.
        """
        async with self._context.sessions.begin() as session:
            try:
                found = await _read(session, name)
            except NoSetError:
                return False
            if found.request is None or found.request.id != request.id:
                return False
            if await _wanted(session, found) != tuple(requirements):
                return False
            await self._put(session, found, requirements, lock, by=request.by)
        return True

    async def take_in(self, name: str, packages: Sequence[Wanted], lock: Lock, *, by: str) -> None:
        """Make a lock that was made elsewhere the current one of a set, and what it was made of all that is allowed."""
        requirements = ordered(one.requirement for one in packages)
        is_inline = name.startswith(INLINE)
        async with self._context.sessions.begin() as session:
            await refuse_if_held(self._context, session, KIND, name)
            own = json.dumps(_wire(requirements)) if is_inline else None
            # A lock is for no other Python than what it was made of.
            python = lock.requires_python if is_inline else None
            await session.execute(_MAKE, {"name": name, "own": own, "python": python})
            found = await _read(session, name)
            if not is_inline:
                await put_entries(session, name, packages, reason="imported", by=by)
            await self._put(session, found, requirements, lock, by=by)

    async def _put(
        self,
        session: AsyncSession,
        found: PackageSet,
        requirements: Sequence[Requirement],
        lock: Lock,
        *,
        by: str,
    ) -> None:
        await put_lock(session, lock)
        await session.execute(_LEAVE, {"name": found.name})
        values = {"name": found.name, "hash": lock.hash, "requirements": json.dumps(_wire(requirements))}
        await session.execute(_DONE, values)
        fact = ScriptPackagesChanged(set=found.name, lock_hash=lock.hash)
        await self._context.emit_hook(script_packages_changed, fact, session=session, actor=by)

    async def tell_again(self, name: str, lock_hash: str) -> None:
        """Tell everybody that more of a set's files are stored."""
        fact = ScriptPackagesChanged(set=name, lock_hash=lock_hash)
        await self._context.emit_hook(script_packages_changed, fact, standalone=True)

    async def fail(self, name: str, request: Request, error: PackagesError) -> None:
        """Give a request up, and tell everybody. What the set has stays."""
        async with self._context.sessions.begin() as session:
            values = {"name": name, "id": str(request.id), "error": json.dumps(error.to_wire())}
            if (await session.execute(_FAIL, values)).one_or_none() is None:
                return
            fact = ScriptPackagesFailed(
                set=name, package=error.package, why=error.why, message=error.message, hint=error.hint
            )
            await self._context.emit_hook(script_packages_failed, fact, session=session, actor=request.by)

    async def delete(self, name: str, *, by: str, reason: str | None = None) -> bool:
        """Forget a set and its entries; False if there is none. Runs that name it are refused from then on."""
        async with self._context.sessions.begin() as session:
            await refuse_if_held(self._context, session, KIND, name)
            await session.execute(_LEAVE, {"name": name})
            await session.execute(_DELETE_ENTRIES, {"name": name})
            if (await session.execute(_DELETE, {"name": name})).one_or_none() is None:
                return False
            fact = ScriptPackagesChanged(set=name, lock_hash=None)
            await self._context.emit_hook(
                script_packages_changed, fact, session=session, actor=by, reason=reason
            )
        return True


async def _read(session: AsyncSession, name: str) -> PackageSet:
    row = (await session.execute(_LOCK_ROW, {"name": name})).one_or_none()
    if row is None:
        raise NoSetError(name)
    return _set(row)


async def _wanted(session: AsyncSession, found: PackageSet) -> tuple[Requirement, ...]:
    if found.own_requirements is not None:
        return found.own_requirements
    return await requirements_of(session, found.name)


def _set(row: Any) -> PackageSet:
    return PackageSet(
        name=row.name,
        own_requirements=_requirements(row.own_requirements),
        own_requires_python=row.own_requires_python,
        lock_hash=row.lock_hash,
        previous_lock_hash=row.previous_lock_hash,
        requirements=_requirements(row.requirements),
        request=None if row.request is None else _request(row.request),
        state=State(row.state),
        progress=row.progress,
        error=None if row.error is None else PackagesError.from_wire(row.error),
        created_at=row.created_at,
        updated_at=row.updated_at,
        locked_at=row.locked_at,
    )


def _request(wire: Mapping[str, Any]) -> Request:
    return Request(UUID(wire["id"]), wire["upgrade"], wire["by"], dt.datetime.fromisoformat(wire["at"]))


def _requirements(wire: Sequence[Mapping[str, Any]] | None) -> tuple[Requirement, ...] | None:
    return None if wire is None else tuple(Requirement.model_validate(one) for one in wire)


def _wire(requirements: Sequence[Requirement]) -> list[dict[str, Any]]:
    return [one.model_dump(mode="json", by_alias=True) for one in requirements]
