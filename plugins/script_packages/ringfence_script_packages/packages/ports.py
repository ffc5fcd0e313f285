"""What the store of packages stands on: a place for files, a resolver, and a way to fetch. Each may be another one."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ringfence.scripts.packages.lock import Lock, LockedFile, Requirement
from ringfence.scripts.packages.platform import Platform
from ringfence.web import Principal

Progress = Callable[[str], None]
"""Told what is being done just now, in a few words: `1 of 12: requests`. It returns at once."""


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob as a store lists it. `wanted_at` is when it was last put, or asked for by `touch`."""

    sha256: str
    size: int
    wanted_at: dt.datetime


@dataclass(frozen=True, slots=True)
class OfferedLock:
    """A lock as it is sent: JSON without addresses, and the sizes of its files by their SHA-256."""

    content: bytes
    files: Mapping[str, int]

    @classmethod
    def of(cls, lock: Lock) -> OfferedLock:
        """What is sent of a lock. Where its files come from is nobody else's business, and no part of its hash."""
        wire = lock.model_dump(mode="json", by_alias=True, exclude={"requirements"}, exclude_none=True)
        files = [file for one in wire["python"] for file in one["files"]]
        for file in (*files, *(one["file"] for one in wire["node"])):
            file.pop("url", None)
        content = json.dumps(wire, separators=(",", ":")).encode()
        return cls(content, {file.sha256: file.size for file in lock.files})


class BlobStore(Protocol):
    """The extension point: a place for the files of registries, each by its SHA-256. The built-in one is PostgreSQL.

    Every instance uses the same one, so what one has put, another can open.
    """

    async def touch(self, digests: Collection[str]) -> frozenset[str]:
        """Which of these are stored. They count as wanted from now on, so that none is collected soon."""

    async def put(self, sha256: str, size: int, content: AsyncIterator[bytes]) -> None:
        """Store a blob that is not larger than `size`, piece by piece. One that is stored already stays as it is.

        It is there as a whole, once it is known to be what `sha256` says, or not at all.

        Raises:
            WrongBlobError: if it is not what it should be.
        """

    def open(self, sha256: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """The content from an offset on, in pieces of a megabyte or less.

        If it is read from its beginning, its last piece comes only after all of it is known to be right.

        Raises:
            NoBlobError: if there is none.
            WrongBlobError: if it is not what it should be.
        """

    def stored(self) -> AsyncIterator[StoredBlob]:
        """Every blob, in any order."""

    async def delete(self, digests: Collection[str], *, unwanted_for: float) -> frozenset[str]:
        """Delete those of these that nobody has put or touched for so many seconds; answers which went."""


@dataclass(frozen=True, slots=True)
class HeldSet:
    """How far a set is on another machine: so many bytes of so many, and what went wrong."""

    name: str
    lock: str
    state: str
    have: int
    wanted: int
    error: str | None
    at: dt.datetime

    def to_wire(self) -> dict[str, Any]:
        """It as JSON for the API."""
        return {
            "name": self.name,
            "lockHash": self.lock,
            "state": self.state,
            "bytes": self.wanted,
            "storedBytes": self.have,
            "error": self.error,
            "at": self.at,
        }


@dataclass(frozen=True, slots=True)
class Held:
    """How far a set is on the machines of one kind: how many there are in each state, and the first that lack it."""

    counts: Mapping[str, int]
    lacking: Sequence[HeldSet]


class PackageHolder(Protocol):
    """The extension point: a plugin says how far a set is on the machines that it looks after."""

    async def held(self, name: str, lock: str, reader: Principal) -> Held:
        """How far those are with this lock of a set that the reader may see."""

    async def counts(self, current: Mapping[str, str], reader: Principal) -> Mapping[str, Mapping[str, int]]:
        """How many of them that the reader may see are in each state with each set, of which `current` has the lock."""

    async def on(
        self, machine: str, current: Mapping[str, str], reader: Principal
    ) -> Sequence[HeldSet] | None:
        """How far one of them is with its sets; None for a machine of others, or one that the reader may not see."""


class PackageUser(Protocol):
    """The extension point: whoever has scripts that say in their own text what they import."""

    async def sets(self) -> Collection[str]:
        """The names of all sets that its scripts import from. Raise if that cannot be told: none is deleted then."""

    async def using(self, set: str) -> Sequence[str]:
        """What imports from a set, in words: `check disk`. A set may have any number of them."""


class Resolver(Protocol):
    """Makes a lock of requirements. No code of any package is run."""

    async def resolve(
        self,
        requirements: Sequence[Requirement],
        platforms: Sequence[Platform],
        progress: Progress,
        *,
        previous: Lock | None = None,
        requires_python: str | None = None,
    ) -> Lock:
        """Versions that fit together, with all that they need, for all of these platforms.

        Where `requires_python` names a range of versions of Python, for those platforms alone that have one of them.

        Those of the `previous` lock, as far as they still fit; else the newest ones.

        Raises:
            PackagesError: if there are none, or a registry cannot be asked.
        """


class Fetcher(Protocol):
    """Gets the files that a lock names from where the lock says that they are."""

    def fetch(self, file: LockedFile) -> AsyncIterator[bytes]:
        """The file in pieces. It need not be looked at: whoever keeps it checks it.

        Raises:
            PackagesError: if it cannot be had.
        """
