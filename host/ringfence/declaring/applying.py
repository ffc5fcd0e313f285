"""Has documents hold: all of them or none, in one transaction; or tells what that would change."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence.access import Principal
from ringfence.declaring import ownership
from ringfence.declaring.kind import (
    Kinds,
    NotAllowedHereError,
    ObjectKind,
    Stored,
    Work,
    WrongDocumentError,
)
from ringfence.declaring.ownership import Owned, owner_of
from ringfence.declaring.reading import Declared, Told, WrongFilesError, read
from ringfence.documents.differing import differences
from ringfence.documents.reading import Finding, NotReadableError
from ringfence.http.problems import Problem
from ringfence.plugins.ports import Transactions

_TURN = text("SELECT pg_advisory_xact_lock(hashtextextended('ringfence.declared-objects', 0))")
_PATIENCE = text("SET LOCAL lock_timeout = '10s'")
_AGAIN = frozenset({"40P01", "40001"})
"""A deadlock with somebody who changes the same things by hand: nothing was done, and the next attempt may go well."""
_BUSY = "55P03"
"""Somebody else has held a lock for longer than an application waits."""
ATTEMPTS = 3
CREATED, CHANGED, UNCHANGED, DELETED = "created", "changed", "unchanged", "deleted"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be applied: files by their paths within a directory, and how."""

    files: Mapping[str, str]
    source: str = "cli"
    reason: str | None = None
    dry_run: bool = False
    prune: bool = False
    take_over: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one object."""

    kind: str
    name: str
    change: str
    place: str | None = None
    differences: Sequence[str] = ()
    warnings: Sequence[str] = ()

    def to_wire(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "kind": self.kind,
            "name": self.name,
            "change": self.change,
            "place": self.place,
            "differences": list(self.differences),
            "warnings": list(self.warnings),
        }


@dataclass(slots=True)
class Applied:
    """What became of all; `undeclared` are objects of the same source that no document declares any more."""

    outcomes: list[Outcome] = field(default_factory=list)
    undeclared: list[tuple[str, str]] = field(default_factory=list)


class _UndoneError(Exception):
    """Nothing is to be written: it was only asked what would be."""


class Declarations:
    """Applies documents."""

    def __init__(self, database: Transactions, kinds: Kinds) -> None:
        self._database = database
        self._kinds = kinds

    async def apply(self, wanted: Wanted, by: Principal) -> Applied:
        """Have the documents hold. Raises `WrongFilesError` with all that is wrong, in all of them."""
        kinds = self._kinds()
        # Reading many takes a moment, in which others are answered.
        declared = await asyncio.to_thread(read, wanted.files, kinds)
        lacking = [told for one in declared if (told := _lacks(by, one)) is not None]
        if lacking:
            raise WrongFilesError(lacking)
        for attempt in range(ATTEMPTS):
            try:
                return await self._applied(wanted, declared, by, kinds)
            except DBAPIError as error:
                if (state := getattr(error.orig, "sqlstate", None)) not in (*_AGAIN, _BUSY):
                    raise
                if state == _BUSY or attempt == ATTEMPTS - 1:
                    break
        raise Problem(503, detail="others change the same things: try again", headers={"Retry-After": "5"})

    async def _applied(
        self,
        wanted: Wanted,
        declared: Sequence[Declared],
        by: Principal,
        kinds: Mapping[str, ObjectKind[Any]],
    ) -> Applied:
        applied = Applied()
        try:
            async with self._database.sessions.begin() as session:
                await session.execute(_PATIENCE)
                await session.execute(_TURN)
                owned = await ownership.owned(session)
                known = {key: one.object_id for key, one in owned.items() if one.object_id is not None}
                why = f"applied from {wanted.source}"
                work = Work(
                    session,
                    await session.connection(),
                    by,
                    reason=why if wanted.reason is None else f"{wanted.reason} ({why})",
                    kinds=kinds,
                    known=known,
                )
                told = await _Run(work, wanted, owned, kinds, applied).run(declared)
                if told:
                    raise WrongFilesError(told)
                if wanted.dry_run:
                    raise _UndoneError
        except _UndoneError:
            pass
        return applied


class _Run:
    """One attempt, within its transaction."""

    def __init__(
        self,
        work: Work,
        wanted: Wanted,
        owned: Mapping[tuple[str, str], Owned],
        kinds: Mapping[str, ObjectKind[Any]],
        applied: Applied,
    ) -> None:
        self._work = work
        self._session: AsyncSession = work.session
        self._wanted = wanted
        self._owned = owned
        self._kinds = kinds
        self._applied = applied

    async def run(self, declared: Sequence[Declared]) -> list[Told]:
        """Write all; answers what is wrong."""
        told: list[Told] = []
        for one in declared:
            told += await self._tried(one)
        keys = {one.key for one in declared}
        own = owner_of(self._wanted.source)
        left = [key for key, one in self._owned.items() if one.owner == own and key not in keys]
        known = [key for key in left if key[0] in self._kinds]
        known.sort(key=lambda key: (-self._kinds[key[0]].order, key))
        for kind, name in known:
            if not self._wanted.prune:
                if await self._kinds[kind].read(self._work, name) is not None:
                    self._applied.undeclared.append((kind, name))
                continue
            told += await self._pruned(self._kinds[kind], name)
        return told

    async def _tried(self, one: Declared) -> list[Told]:
        savepoint = await self._work.savepoint()
        try:
            outcome = await self._written(one)
        except NotAllowedHereError as error:
            await savepoint.rollback()
            return [Told(one.file, finding, 403) for finding in error.findings]
        except NotReadableError as error:
            await savepoint.rollback()
            return [Told(one.file, finding) for finding in error.findings]
        except WrongDocumentError as error:
            await savepoint.rollback()
            return [one.told(str(error), error.path)]
        except Problem as error:
            await savepoint.rollback()
            return [one.told(str(error), status=error.status)]
        if outcome.change == UNCHANGED:
            await savepoint.rollback()
        else:
            await savepoint.commit()
        self._applied.outcomes.append(outcome)
        kind, name = one.key
        owned = Owned(self._wanted.source, self._work.declared_id(kind, name), one.hash)
        await ownership.keep(self._session, kind, name, owned, by=self._work.by.name)
        return []

    async def _written(self, one: Declared) -> Outcome:
        kind, name = one.key
        before = await one.kind.read(self._work, name)
        owner = self._owned.get(one.key)
        own = owner_of(self._wanted.source)
        if before is not None and owner is not None and owner.owner != own and not self._wanted.take_over:
            detail = (
                f"{kind} {name} belongs to {owner.source}, and not to {own}: remove it there, or take it over"
            )
            raise Problem(409, detail=detail)
        warnings = await one.kind.write(self._work, name, one.labels, one.spec, before)
        after = await one.kind.read(self._work, name)
        change = UNCHANGED if _same(before, after) else CREATED if before is None else CHANGED
        found: Sequence[str] = ()
        if all(one.kind.shows(self._work.by, each) for each in (before, after) if each is not None):
            found = [str(difference) for difference in differences(_shown(before), _shown(after))]
        line, column = one.place
        place = f"{one.file}:{line}:{column}"
        return Outcome(kind, name, change, place, () if change == UNCHANGED else found, tuple(warnings))

    async def _pruned(self, kind: ObjectKind[Any], name: str) -> list[Told]:
        work = self._work

        def told(message: str, status: int) -> list[Told]:
            return [Told("", Finding(1, 1, f"{kind.kind} {name}", f"cannot be removed: {message}"), status)]

        if not work.by.holds_somewhere(kind.write_rule.name):
            return told(_lacking(work.by, kind), 403)
        savepoint = await self._work.savepoint()
        try:
            before = await kind.read(work, name)
            if before is not None:
                await kind.delete(work, name, before)
        except Problem as error:
            await savepoint.rollback()
            return told(str(error), error.status)
        except WrongDocumentError as error:
            await savepoint.rollback()
            return told(str(error), 422)
        await savepoint.commit()
        await ownership.forget(self._session, kind.kind, name)
        if before is not None:
            self._applied.outcomes.append(Outcome(kind.kind, name, DELETED))
        return []


def _same(before: Stored | None, after: Stored | None) -> bool:
    if before is None or after is None:
        return before is after
    return (before.spec, before.labels, before.state) == (after.spec, after.labels, after.state)


def _shown(stored: Stored | None) -> dict[str, Any]:
    if stored is None:
        return {}
    return {**({"labels": dict(stored.labels)} if stored.labels else {}), "spec": dict(stored.spec)}


def _lacks(by: Principal, one: Declared) -> Told | None:
    if by.holds_somewhere(one.kind.write_rule.name):
        return None
    return one.told(_lacking(by, one.kind), status=403)


def _lacking(by: Principal, kind: ObjectKind[Any]) -> str:
    return f"{by.name} does not hold the access rule {kind.write_rule.name}"
