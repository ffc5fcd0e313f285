"""Objects that a plugin keeps as its documents have them: they are changed there, and by nothing else.

Threat: somebody changes by hand what a repository declares, and it is set right a minute later without a word; or a
change is made where nobody reviews it. Mechanism: a plugin says which sources are its own (`ObjectHolder`), and every
service that changes an object asks here first, within its own transaction; so routes, commands, pages and other plugins
are refused alike, and are told where the object stands. An application passes: it has its own look at whose an object
is (`ringfence.declaring.applying`). Not covered: who writes to the database itself, which the next application sets
right; and nothing is refused where the plugin that holds an object does not run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence.http.problems import Problem
from ringfence.plugins.joined import JoinedContext

if TYPE_CHECKING:
    from ringfence.plugins.context import PluginContext

_BY_NAME = text("SELECT name, source, place FROM declared_objects WHERE kind = :kind AND name = :name")
_BY_ID = text("SELECT name, source, place FROM declared_objects WHERE kind = :kind AND object_id = :id")


@dataclass(frozen=True, slots=True)
class Held:
    """An object that a plugin holds: its source, the file it stands in, and what to say of it."""

    kind: str
    name: str
    source: str
    file: str | None
    line: int | None
    commit: str | None
    sentence: str
    to: str | None
    """A page about the source."""


class ObjectHolder(Protocol):
    """The extension point: a plugin that applies documents by itself, and holds the objects that they declare."""

    def holds(self, source: str) -> bool:
        """Whether it is a source of this plugin's."""

    async def sentence(
        self, session: AsyncSession, kind: str, name: str, source: str, place: str | None
    ) -> str:
        """Where the object comes from, and what to do to change it, for whoever tries that elsewhere."""

    def page(self, source: str) -> str | None:
        """The page about a source."""


async def held(
    context: PluginContext, kind: str, name: str | None = None, *, id: str | None = None
) -> Held | None:
    """Whether a plugin holds an object, by its name, or by its id where it has no name of its own."""
    if not context.services.extensions(ObjectHolder):
        return None
    async with context.sessions() as session:
        return await _held(context, session, kind, name, id)


async def held_among(
    context: PluginContext, kind: str, *, names: Iterable[str] = (), ids: Iterable[str] = ()
) -> dict[str, Held]:
    """Those of several objects that a plugin holds, by the name or the id that was asked for."""
    if not context.services.extensions(ObjectHolder):
        return {}
    asked = [(one, one, None) for one in names] + [(one, None, one) for one in ids]
    async with context.sessions() as session:
        found = [(key, await _held(context, session, kind, name, id)) for key, name, id in asked]
    return {key: one for key, one in found if one is not None}


async def refuse_if_held(
    context: PluginContext,
    session: AsyncSession,
    kind: str,
    name: str | None = None,
    *,
    id: str | None = None,
) -> None:
    """For services that change an object: refuse it if a plugin holds that. Raises `Problem` (409).

    Within an application of documents nothing is refused here.
    """
    if isinstance(context, JoinedContext):
        return
    found = await _held(context, session, kind, name, id)
    if found is None:
        return
    raise Problem(
        409,
        f"{kind} {found.name} is changed elsewhere",
        detail=found.sentence,
        source=found.source,
        file=found.file,
        line=found.line,
        commit=found.commit,
    )


async def _held(
    context: PluginContext, session: AsyncSession, kind: str, name: str | None, id: str | None
) -> Held | None:
    holders = context.services.extensions(ObjectHolder)
    if not holders:
        return None
    asked = (_BY_ID, {"kind": kind, "id": id}) if name is None else (_BY_NAME, {"kind": kind, "name": name})
    row = (await session.execute(*asked)).one_or_none()
    if row is None:
        return None
    for holder in holders:
        if holder.holds(row.source):
            sentence = await holder.sentence(session, kind, row.name, row.source, row.place)
            owner, _, commit = row.source.partition("@")
            file, line = _parts(row.place)
            return Held(kind, row.name, owner, file, line, commit or None, sentence, holder.page(row.source))
    return None


def _parts(place: str | None) -> tuple[str | None, int | None]:
    """The file and the line of `checks/disk.yaml:3:1`."""
    file, _, rest = (place or "").rpartition(":")
    file, _, line = file.rpartition(":")
    del rest
    return (file, int(line)) if file and line.isdigit() else (None, None)
