"""Carries sets from one host to another, as archives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from ringfence_script_packages.packages.archives import Head, exported, head_of, imported
from ringfence_script_packages.packages.ports import BlobStore
from ringfence_script_packages.packages.sets import Sets


class NotInstalledError(RuntimeError):
    """A set has nothing that could be carried elsewhere."""


class Carrying:
    """Makes archives of sets, and takes them in."""

    def __init__(self, sets: Sets, blobs: BlobStore, *, most_bytes: int) -> None:
        self._sets = sets
        self._blobs = blobs
        self._most_bytes = most_bytes

    async def head(self, name: str) -> Head:
        """What an archive of a set says of itself. Raises `NoSetError`, and `NotInstalledError`."""
        found = await self._sets.get(name)
        lock = None if found.lock_hash is None else await self._sets.lock(found.lock_hash)
        if lock is None:
            raise NotInstalledError(f"the set {name} was never installed: `ringfence packages install`")
        stored = await self._blobs.touch([file.sha256 for file in lock.files])
        return head_of(name, found.requirements or (), lock, stored)

    def archive(self, head: Head) -> AsyncIterator[bytes]:
        """The archive, piece by piece."""
        return exported(head, self._blobs)

    async def take_in(self, content: AsyncIterator[bytes], *, name: str | None, by: str) -> dict[str, Any]:
        """Store an archive, and make its lock that of its set, or of the set `name`. Raises `ArchiveError`."""
        head = await imported(content, self._blobs, most_bytes=self._most_bytes)
        await self._sets.take_in(name or head.set, head.wanted, head.lock, by=by)
        return {"set": name or head.set, "lockHash": head.lock_hash, "files": len(head.blobs)}
