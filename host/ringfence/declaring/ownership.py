"""Who declares an object: the source that has applied it last, which no other one may change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_ALL = text("SELECT kind, name, source, object_id, hash, place FROM declared_objects")
_KEEP = text("""
    INSERT INTO declared_objects AS kept (kind, name, source, object_id, hash, place, applied_by)
    VALUES (:kind, :name, :source, :object_id, :hash, :place, :by)
    ON CONFLICT (kind, name) DO UPDATE
       SET source = excluded.source, object_id = excluded.object_id, hash = excluded.hash, place = excluded.place,
           applied_at = clock_timestamp(), applied_by = excluded.applied_by
     WHERE (kept.source, kept.object_id, kept.hash, kept.place)
           IS DISTINCT FROM (excluded.source, excluded.object_id, excluded.hash, excluded.place)
""")
_FORGET = text("DELETE FROM declared_objects WHERE kind = :kind AND name = :name")


@dataclass(frozen=True, slots=True)
class Owned:
    """What is known of an object that was declared."""

    source: str
    object_id: str | None
    hash: str
    place: str | None = None
    """Where it stands: `checks/disk.yaml:1:1`."""

    @property
    def owner(self) -> str:
        """Whose it is: the source without its state."""
        return owner_of(self.source)


def owner_of(source: str) -> str:
    """The source without its state: `git:REPO` of `git:REPO@COMMIT`."""
    return source.partition("@")[0]


async def owned(session: AsyncSession) -> Mapping[tuple[str, str], Owned]:
    """All objects that were declared, by kind and name."""
    rows = await session.execute(_ALL)
    return {(row.kind, row.name): Owned(row.source, row.object_id, row.hash, row.place) for row in rows}


async def keep(session: AsyncSession, kind: str, name: str, owned: Owned, *, by: str) -> None:
    """Note whose an object is."""
    values = {
        "kind": kind,
        "name": name,
        "source": owned.source,
        "object_id": owned.object_id,
        "hash": owned.hash,
        "place": owned.place,
        "by": by,
    }
    await session.execute(_KEEP, values)


async def forget(session: AsyncSession, kind: str, name: str) -> None:
    """Have an object belong to nobody."""
    await session.execute(_FORGET, {"kind": kind, "name": name})
