"""Has documents hold: all of them or none, in one transaction; or tells what that would change."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from ringfence.access import Principal
from ringfence.declaring import ownership
from ringfence.declaring.holding import ObjectHolder
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

_TURN = text("SELECT pg_advisory_xact_lock(hashtextextended('ringfence.declared-objects', 0))")
_PATIENCE = text("SET LOCAL lock_timeout = '10s'")
_AGAIN = frozenset({"40P01", "40001"})
"""A deadlock with somebody who changes the same things by hand: nothing was done, and the next attempt may go well."""
_BUSY = "55P03"
"""Somebody else has held a lock for longer than an application waits."""
ATTEMPTS = 3
_READERS = ThreadPoolExecutor(2, thread_name_prefix="documents")
"""Reading many documents takes seconds. So many are read at once: the host's other threads are for others."""
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
    orphan: bool = False
    """What the source has applied before and no document declares any more belongs to nobody from now on."""
    leave: Collection[tuple[str, str]] = ()
    """Objects, by kind and name, that stay as they are although a document declares them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one object."""

    kind: str
    name: str
    change: str
    place: str | None = None
    differences: Sequence[str] = ()
    warnings: Sequence[str] = ()
    is_drift: bool = False
    """The document is as it was when it was applied last: somebody has changed the object meanwhile."""

    def to_wire(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "kind": self.kind,
            "name": self.name,
            "change": self.change,
            "place": self.place,
            "differences": list(self.differences),
            "warnings": list(self.warnings),
            "drift": self.is_drift,
        }


@dataclass(slots=True)
class Applied:
    """What became of all; `undeclared` are objects of the same source that no document declares any more.

    `orphaned` are those of them that belong to nobody now.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    undeclared: list[tuple[str, str]] = field(default_factory=list)
    orphaned: list[tuple[str, str]] = field(default_factory=list)


Begin = Callable[[AsyncSession], Awaitable[None]]
"""Called in the transaction before anything is written; what it raises ends it."""
End = Callable[[AsyncSession, Applied], Awaitable[None]]
"""Called in the transaction once all is written, and not for a dry run."""


class Transactions(Protocol):
    """Where transactions come from: a database, or a plugin's context."""

    @property
    def sessions(self) -> async_sessionmaker[AsyncSession]:
        """Sessions of it."""


class _UndoneError(Exception):
    """Nothing is to be written: it was only asked what would be."""


class Declarations:
    """Applies documents."""

    def __init__(
        self, database: Transactions, kinds: Kinds, holders: Callable[[], Sequence[ObjectHolder]] = tuple
    ) -> None:
        self._database = database
        self._kinds = kinds
        self._holders = holders

    def is_held(self, source: str) -> bool:
        """Whether what such a source has applied is changed by a plugin alone."""
        return self._holder_of(source) is not None

    def _holder_of(self, source: str) -> ObjectHolder | None:
        return next((one for one in self._holders() if one.holds(source)), None)

    async def owned(self) -> Mapping[tuple[str, str], Owned]:
        """All objects that were declared, by kind and name."""
        async with self._database.sessions() as session:
            return await ownership.owned(session)

    async def needs(self, files: Mapping[str, str]) -> Sequence[str]:
        """Which other files the documents among these refer to."""
        try:
            await _read(files, self._kinds())
        except WrongFilesError as error:
            return error.needs
        return ()

    async def apply(
        self, wanted: Wanted, by: Principal, *, begin: Begin | None = None, end: End | None = None
    ) -> Applied:
        """Have the documents hold. Raises `WrongFilesError` with all that is wrong, in all of them."""
        kinds = self._kinds()
        declared = await _read(wanted.files, kinds)
        lacking = [told for one in declared if (told := _lacks(by, one)) is not None]
        if lacking:
            raise WrongFilesError(lacking)
        for attempt in range(ATTEMPTS):
            try:
                return await self._applied(wanted, declared, by, kinds, begin, end)
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
        begin: Begin | None,
        end: End | None,
    ) -> Applied:
        applied = Applied()
        try:
            async with self._database.sessions.begin() as session:
                await session.execute(_PATIENCE)
                await session.execute(_TURN)
                if begin is not None:
                    await begin(session)
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
                told = await _Run(work, wanted, owned, kinds, applied, self._holder_of).run(declared)
                if told:
                    raise WrongFilesError(told)
                if wanted.dry_run:
                    raise _UndoneError
                if end is not None:
                    await end(session, applied)
        except _UndoneError:
            pass
        return applied

    async def disown(
        self,
        chosen: Callable[[str, str, Owned], bool],
        *,
        begin: Begin | None = None,
        end: Callable[[AsyncSession, Sequence[tuple[str, str]]], Awaitable[None]] | None = None,
    ) -> list[tuple[str, str]]:
        """Have the `chosen` objects (by kind, name and whose they are) belong to nobody; they stay as they are."""
        async with self._database.sessions.begin() as session:
            await session.execute(_PATIENCE)
            await session.execute(_TURN)
            if begin is not None:
                await begin(session)
            every = await ownership.owned(session)
            found = sorted(key for key, one in every.items() if chosen(*key, one))
            for kind, name in found:
                await ownership.forget(session, kind, name)
            if end is not None:
                await end(session, found)
        return found


async def _read(files: Mapping[str, str], kinds: Mapping[str, ObjectKind[Any]]) -> list[Declared]:
    """`read`, while others are answered. Raises `WrongFilesError`."""
    return await asyncio.get_running_loop().run_in_executor(_READERS, read, files, kinds)


class _Run:
    """One attempt, within its transaction."""

    def __init__(
        self,
        work: Work,
        wanted: Wanted,
        owned: Mapping[tuple[str, str], Owned],
        kinds: Mapping[str, ObjectKind[Any]],
        applied: Applied,
        holder_of: Callable[[str], ObjectHolder | None],
    ) -> None:
        self._work = work
        self._session: AsyncSession = work.session
        self._wanted = wanted
        self._owned = owned
        self._kinds = kinds
        self._applied = applied
        self._holder_of = holder_of

    async def run(self, declared: Sequence[Declared]) -> list[Told]:
        """Write all; answers what is wrong."""
        told: list[Told] = []
        for one in declared:
            if one.key not in self._wanted.leave:
                told += await self._tried(one)
        keys = {one.key for one in declared}
        own = owner_of(self._wanted.source)
        left = [key for key, one in self._owned.items() if one.owner == own and key not in keys]
        known = [key for key in left if key[0] in self._kinds]
        known.sort(key=lambda key: (-self._kinds[key[0]].order, key))
        if self._wanted.orphan:
            for kind, name in sorted(left):
                await ownership.forget(self._session, kind, name)
                self._applied.orphaned.append((kind, name))
            return told
        for kind, name in known:
            if not self._wanted.prune:
                if await self._visible(self._kinds[kind], name):
                    self._applied.undeclared.append((kind, name))
                continue
            told += await self._pruned(self._kinds[kind], name)
        return told

    async def _visible(self, kind: ObjectKind[Any], name: str) -> bool:
        """Whether there is such an object, and whoever applies may see it."""
        stored = await kind.read(self._work, name)
        return stored is not None and kind.shows(self._work.by, stored)

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
        owned = Owned(self._wanted.source, self._work.declared_id(kind, name), one.hash, outcome.place)
        await ownership.keep(self._session, kind, name, owned, by=self._work.by.name)
        return []

    async def _written(self, one: Declared) -> Outcome:
        kind, name = one.key
        before = await one.kind.read(self._work, name)
        owner = self._owned.get(one.key)
        own = owner_of(self._wanted.source)
        is_others = owner is not None and owner.owner != own
        if owner is not None and is_others and (holder := self._holder_of(owner.source)) is not None:
            told = await holder.sentence(self._session, kind, name, owner.source, owner.place)
            detail = f"{kind} {name} belongs to {owner.owner}, and not to {own}: {told}"
            raise Problem(409, detail=detail)
        if before is not None and owner is not None and is_others and not self._wanted.take_over:
            detail = (
                f"{kind} {name} belongs to {owner.source}, and not to {own}: remove it there, or take it over"
            )
            raise Problem(409, detail=detail)
        is_same_document = owner is not None and not is_others and owner.hash == one.hash
        self._work.is_repeated = is_same_document and self._holder_of(self._wanted.source) is not None
        warnings = await one.kind.write(self._work, name, one.labels, one.spec, before)
        after = await one.kind.read(self._work, name)
        change = UNCHANGED if _same(before, after) else CREATED if before is None else CHANGED
        found: Sequence[str] = ()
        if all(one.kind.shows(self._work.by, each) for each in (before, after) if each is not None):
            found = [str(difference) for difference in differences(_shown(before), _shown(after))]
        line, column = one.place
        place = f"{one.file}:{line}:{column}"
        is_drift = change != UNCHANGED and is_same_document
        found = () if change == UNCHANGED else found
        return Outcome(kind, name, change, place, found, tuple(warnings), is_drift)

    async def _pruned(self, kind: ObjectKind[Any], name: str) -> list[Told]:
        work = self._work

        def told(message: str, status: int) -> list[Told]:
            return [Told("", Finding(1, 1, f"{kind.kind} {name}", f"cannot be removed: {message}"), status)]

        if not work.by.holds_somewhere(kind.write_rule.name):
            if await self._visible(kind, name):
                return told(_lacking(work.by, kind), 403)
            what = f"what is gone cannot be removed: {_lacking(work.by, kind)}"
            return [Told("", Finding(1, 1, kind.kind, what), 403)]
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
