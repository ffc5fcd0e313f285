"""What administrators allow: the packages of each set, with who allowed them and why."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ringfence import PluginContext
from ringfence.declaring import refuse_if_held
from ringfence.scripts import DEFAULT_SET
from ringfence.scripts.packages.lock import Ecosystem, Requirement
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_script_packages.hooks import ScriptPackagesAllowed, script_packages_allowed
from ringfence_script_packages.packages.requirements import Wanted, ordered

KIND = "ScriptPackages"
"""What documents call a set of packages."""
_COLUMNS = "set_name, ecosystem, name, extras, specifier, reason, created_at, created_by"
_KEY = "set_name = :set AND ecosystem = :ecosystem AND name = :name"
_ALLOW = text(f"""
    INSERT INTO script_packages_entries (set_name, ecosystem, name, extras, specifier, reason, created_by)
    VALUES (:set, :ecosystem, :name, :extras, :specifier, :reason, :by)
    ON CONFLICT (set_name, ecosystem, name) DO UPDATE
       SET extras = excluded.extras, specifier = excluded.specifier, reason = excluded.reason,
           created_at = now(), created_by = excluded.created_by
    RETURNING {_COLUMNS}
""")  # noqa: S608
_NEED_SET = text("INSERT INTO script_packages_sets (name) VALUES (:set) ON CONFLICT (name) DO NOTHING")
_REMOVE = text(f"DELETE FROM script_packages_entries WHERE {_KEY} RETURNING {_COLUMNS}")  # noqa: S608
_CLEAR = text("DELETE FROM script_packages_entries WHERE set_name = :set")
_PAGE = text(f"""
    SELECT {_COLUMNS} FROM script_packages_entries
     WHERE (set_name, ecosystem, name) > (:set, :ecosystem, :name)
       AND (CAST(:only AS text) IS NULL OR set_name = :only)
       AND (CAST(:of AS text) IS NULL OR ecosystem = :of)
       AND (CAST(:words AS text) IS NULL OR strpos(name, :words) > 0)
     ORDER BY set_name, ecosystem, name LIMIT :limit
""")  # noqa: S608
_COUNT = text("SELECT count(*) FROM script_packages_entries")
_OF_SET = text(f"""
    SELECT {_COLUMNS} FROM script_packages_entries WHERE set_name = :set ORDER BY ecosystem, name
""")  # noqa: S608
_NAMED = text(f"""
    SELECT {_COLUMNS} FROM script_packages_entries WHERE ecosystem = :ecosystem AND name = ANY(:names)
     ORDER BY set_name <> '{DEFAULT_SET}', set_name
""")  # noqa: S608


@dataclass(frozen=True, slots=True)
class Entry:
    """A package that a set may have."""

    set: str
    wanted: Wanted
    reason: str | None
    created_at: dt.datetime
    created_by: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is listed by."""
        return self.set, self.wanted.ecosystem.value, self.wanted.name

    def to_wire(self) -> dict[str, Any]:
        """The entry as JSON for the API."""
        return {
            "set": self.set,
            "ecosystem": self.wanted.ecosystem.value,
            "name": self.wanted.name,
            "extras": list(self.wanted.extras),
            "versions": self.wanted.specifier,
            "requirement": self.wanted.text,
            "reason": self.reason,
            "allowedAt": self.created_at,
            "allowedBy": self.created_by,
        }


class Allowlist:
    """Reads and writes what is allowed. Each change is an event. Nothing is installed by it."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context

    async def allow(
        self, set: str, packages: Sequence[Wanted], *, reason: str | None, by: str
    ) -> list[Entry]:
        """Allow packages in a set, which is made if there is none. An entry of the same name is replaced."""
        async with self._context.sessions.begin() as session:
            await refuse_if_held(self._context, session, KIND, set)
            await session.execute(_NEED_SET, {"set": set})
            entries = await _put(session, set, packages, reason=reason, by=by)
            # Last: the log's append lock is held from here on.
            for entry in entries:
                await self._tell(session, set, entry.wanted, entry.wanted.specifier, by=by, reason=reason)
        return entries

    async def remove(
        self, set: str, ecosystem: Ecosystem, name: str, *, reason: str | None, by: str
    ) -> Entry | None:
        """Allow a package in a set no more; None if it was not allowed."""
        async with self._context.sessions.begin() as session:
            await refuse_if_held(self._context, session, KIND, set)
            values = {"set": set, "ecosystem": ecosystem.value, "name": name}
            row = (await session.execute(_REMOVE, values)).one_or_none()
            if row is None:
                return None
            entry = _entry(row)
            await self._tell(session, set, entry.wanted, None, by=by, reason=reason)
        return entry

    async def page(
        self,
        *,
        after: tuple[str, str, str] = ("", "", ""),
        set: str | None = None,
        ecosystem: Ecosystem | None = None,
        words: str | None = None,
        limit: int,
    ) -> list[Entry]:
        """Entries by set, ecosystem and name: all, or of a set, an ecosystem, or with `words` in their names."""
        values = {
            "set": after[0],
            "ecosystem": after[1],
            "name": after[2],
            "only": set,
            "of": None if ecosystem is None else ecosystem.value,
            "words": words,
            "limit": limit,
        }
        async with self._context.sessions() as session:
            return [_entry(row) for row in await session.execute(_PAGE, values)]

    async def count(self) -> int:
        """How many entries there are."""
        async with self._context.sessions() as session:
            return int((await session.execute(_COUNT)).scalar_one())

    async def named(self, ecosystem: Ecosystem, names: Sequence[str]) -> dict[str, Entry]:
        """The entry of each of these names: that of the default set, or of the first set that has one."""
        found: dict[str, Entry] = {}
        async with self._context.sessions() as session:
            for row in await session.execute(_NAMED, {"ecosystem": ecosystem.value, "names": list(names)}):
                found.setdefault(row.name, _entry(row))
        return found

    async def _tell(
        self,
        session: AsyncSession,
        set: str,
        wanted: Wanted,
        specifier: str | None,
        *,
        by: str,
        reason: str | None,
    ) -> None:
        fact = ScriptPackagesAllowed(
            set=set,
            ecosystem=wanted.ecosystem.value,
            name=wanted.name,
            extras=wanted.extras,
            specifier=specifier,
        )
        await self._context.emit_hook(script_packages_allowed, fact, session=session, actor=by, reason=reason)


async def entries_of(session: AsyncSession, set: str) -> list[Entry]:
    """The entries of one set."""
    return [_entry(row) for row in await session.execute(_OF_SET, {"set": set})]


async def requirements_of(session: AsyncSession, set: str) -> tuple[Requirement, ...]:
    """What the entries of a set ask for."""
    return ordered(entry.wanted.requirement for entry in await entries_of(session, set))


async def put_entries(
    session: AsyncSession, set: str, packages: Sequence[Wanted], *, reason: str, by: str
) -> None:
    """Make these all that is allowed in a set."""
    await session.execute(_CLEAR, {"set": set})
    await _put(session, set, packages, reason=reason, by=by)


async def _put(
    session: AsyncSession, set: str, packages: Sequence[Wanted], *, reason: str | None, by: str
) -> list[Entry]:
    entries = []
    # In one order, so that two who allow the same wait for each other and no more.
    for wanted in sorted(packages, key=lambda one: (one.ecosystem, one.name)):
        values = {
            "set": set,
            "ecosystem": wanted.ecosystem.value,
            "name": wanted.name,
            "extras": list(wanted.extras),
            "specifier": wanted.specifier,
            "reason": reason,
            "by": by,
        }
        entries.append(_entry((await session.execute(_ALLOW, values)).one()))
    return entries


def _entry(row: Any) -> Entry:
    wanted = Wanted(Ecosystem(row.ecosystem), row.name, row.specifier, tuple(row.extras))
    return Entry(row.set_name, wanted, row.reason, row.created_at, row.created_by)
