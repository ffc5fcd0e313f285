"""What a set has, as people see it: its packages, and for each platform whether it can have them and has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ringfence.scripts.packages.lock import Lock
from ringfence.scripts.packages.platform import Platform
from ringfence.web import Principal

from ringfence_script_packages.packages.needed import needed
from ringfence_script_packages.packages.platforms import Platforms
from ringfence_script_packages.packages.ports import BlobStore, HeldSet, PackageHolder
from ringfence_script_packages.packages.sets import PackageSet, Sets


class Contents:
    """Tells what sets have."""

    def __init__(
        self,
        sets: Sets,
        blobs: BlobStore,
        platforms: Platforms,
        holders: Callable[[], Sequence[PackageHolder]],
        *,
        most_bytes: int,
    ) -> None:
        self._holders = holders
        self._sets = sets
        self._blobs = blobs
        self._platforms = platforms
        self._most_bytes = most_bytes

    async def of(self, found: PackageSet, reader: Principal) -> dict[str, Any]:
        """A set as JSON for the API, with what is in it."""
        told = {**found.to_wire(), "limitBytes": self._most_bytes}
        lock = None if found.lock_hash is None else await self._sets.lock(found.lock_hash)
        if lock is None:
            return {**told, "packages": [], "held": None, "platforms": [], "bytes": 0, "isLarge": False}
        platforms = await self._platforms.known()
        files = needed(lock, platforms)
        return {
            **told,
            "packages": packages_of(lock),
            "held": await self._held(found.name, lock.hash, reader),
            "platforms": [await self._platform(lock, platform) for platform in platforms],
            "bytes": files.size,
            "isLarge": files.size * 2 > self._most_bytes,
        }

    async def _held(self, name: str, lock: str, reader: Principal) -> dict[str, Any]:
        """How far the machines are that others look after."""
        counts: Counter[str] = Counter()
        lacking: list[HeldSet] = []
        for holder in self._holders():
            held = await holder.held(name, lock, reader)
            counts.update(held.counts)
            lacking += held.lacking
        return {"counts": dict(counts), "lacking": [one.to_wire() for one in lacking]}

    async def _platform(self, lock: Lock, platform: Platform) -> dict[str, Any]:
        files = needed(lock, [platform])
        there = await self._blobs.touch(files.digests)
        return {
            "key": platform.key,
            **platform.model_dump(mode="json", by_alias=True),
            "bytes": files.size,
            "storedBytes": sum(one.file.size for one in files.files if one.file.sha256 in there),
            "problem": str(files.misfits[0][1]) if files.misfits else None,
        }


def packages_of(lock: Lock) -> list[dict[str, str]]:
    """The packages of a lock, by name and version."""
    python = {("pypi", one.name, one.version) for one in lock.python}
    node = {("npm", one.name, one.version) for one in lock.node}
    return [
        {"ecosystem": ecosystem, "name": name, "version": version}
        for ecosystem, name, version in sorted(python | node)
    ]
