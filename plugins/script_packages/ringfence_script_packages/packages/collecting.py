"""Deletes what nobody wants any more: sets that no script asks for, old locks, and the files of neither.

Threat: something is deleted that a run, a set or a satellite still wants, or is about to. Mechanism: a lock of any set
is wanted, and for a grace period one that a set had before; a file is wanted by every lock that there is, and for that
period by whoever has asked for it. Who cannot tell what is wanted keeps everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ringfence import PluginContext
from sqlalchemy import text

from ringfence_script_packages.packages.blobs import AllBlobs
from ringfence_script_packages.packages.platforms import KNOWN_DAYS
from ringfence_script_packages.packages.ports import PackageUser
from ringfence_script_packages.packages.sets import INLINE, Sets

AT_ONCE = 200

_UNUSED_SETS = text(f"""
    SELECT name FROM script_packages_sets
     WHERE name LIKE '{INLINE}%' AND NOT (name = ANY(:used)) AND request IS NULL
       AND wanted_at < now() - make_interval(secs => :seconds)
""")  # noqa: S608
_WANT_SETS = text("UPDATE script_packages_sets SET wanted_at = now() WHERE name = ANY(:used)")
_DELETE_LOCKS = text("""
    DELETE FROM script_packages_locks AS lock
     WHERE wanted_at < now() - make_interval(secs => :seconds)
       AND NOT EXISTS (SELECT FROM script_packages_sets WHERE lock_hash = lock.hash)
    RETURNING hash
""")
_FORGET_PLATFORMS = text(
    "DELETE FROM script_packages_platforms WHERE seen_at < now() - make_interval(days => :days)"
)
_WANTED = text("SELECT DISTINCT sha256 FROM script_packages_lock_files WHERE sha256 = ANY(:digests)")


@dataclass(frozen=True, slots=True)
class Collected:
    """What was deleted."""

    sets: int
    locks: int
    files: int
    bytes: int

    def to_wire(self) -> dict[str, Any]:
        """The same as JSON."""
        return {"sets": self.sets, "locks": self.locks, "files": self.files, "bytes": self.bytes}


class Collector:
    """Deletes what was not wanted for `grace_seconds`."""

    def __init__(self, context: PluginContext, sets: Sets, blobs: AllBlobs, *, grace_seconds: float) -> None:
        self._context = context
        self._sets = sets
        self._blobs = blobs
        self._grace_seconds = grace_seconds

    async def collect(self) -> Collected:
        """Delete what can go; it is safe beside everything else."""
        sets = await self._collect_sets()
        async with self._context.sessions.begin() as session:
            rows = await session.execute(_DELETE_LOCKS, {"seconds": self._grace_seconds})
            locks = len(rows.all())
            await session.execute(_FORGET_PLATFORMS, {"days": KNOWN_DAYS})
        gone: dict[str, int] = {}
        some: dict[str, int] = {}
        async for blob in self._blobs.stored():
            some[blob.sha256] = blob.size
            if len(some) == AT_ONCE:
                gone |= await self._collect_blobs(some)
                some = {}
        gone |= await self._collect_blobs(some)
        await self._blobs.drop_unfinished()
        return Collected(sets, locks, len(gone), sum(gone.values()))

    async def _collect_sets(self) -> int:
        """Delete the sets that scripts have asked for in their own text, and ask for no longer."""
        used: set[str] = set()
        for user in self._context.services.extensions(PackageUser):
            used |= set(await user.sets())
        async with self._context.sessions.begin() as session:
            await session.execute(_WANT_SETS, {"used": sorted(used)})
            values = {"used": sorted(used), "seconds": self._grace_seconds}
            unused = list((await session.execute(_UNUSED_SETS, values)).scalars())
        for name in unused:
            await self._sets.delete(name, by=self._context.id, reason="no script asks for it any more")
        return len(unused)

    async def _collect_blobs(self, some: Mapping[str, int]) -> dict[str, int]:
        """Delete those of these that no lock names; answers which went, and their sizes."""
        async with self._context.sessions() as session:
            wanted = set((await session.execute(_WANTED, {"digests": list(some)})).scalars())
        gone = await self._blobs.delete(some.keys() - wanted, unwanted_for=self._grace_seconds)
        return {sha256: some[sha256] for sha256 in gone}
