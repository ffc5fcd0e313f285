"""Has sets installed: resolves what is asked for, fetches what is missing, and makes it current. By one instance.

Threat: an instance dies anywhere in between, or is cut off and goes on; a registry is away, or sends rubbish.
Mechanism: the request stays in the database until one transaction makes the new lock current and tells everybody, or
gives it up; whoever leads next begins again, and fetches nothing twice. Until then nothing has changed for any run.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

import structlog
from ringfence.redaction import describe
from ringfence.scripts.packages.lock import Lock, Requirement
from ringfence.scripts.packages.platform import Platform
from sqlalchemy.exc import SQLAlchemyError

from ringfence_script_packages.packages.errors import PackagesError, Why, WrongBlobError
from ringfence_script_packages.packages.needed import (
    Needed,
    NeededFile,
    check_fits_somewhere,
    check_size,
    needed,
)
from ringfence_script_packages.packages.own_platform import OwnPlatform
from ringfence_script_packages.packages.platforms import Platforms
from ringfence_script_packages.packages.ports import BlobStore, Fetcher, Resolver
from ringfence_script_packages.packages.progress import ProgressNote, written
from ringfence_script_packages.packages.sets import PackageSet, Request, Sets

LOOK_SECONDS = 5.0
"""How often a leader looks by itself; a request wakes it."""
AGAIN_SECONDS = 600.0
"""How long after the last time it is looked whether a file is missing, if nothing has changed."""
AT_ONCE = 3
"""How many files are fetched at a time."""

_FULL = ("53100", "53400")
"""No room on the disk, and none under a limit that was configured (PostgreSQL, error codes of class 53)."""

_log = structlog.get_logger("ringfence.script_packages")


@dataclass(slots=True)
class _Looked:
    """What was looked at last for missing files, and when."""

    at: tuple[Mapping[str, str], frozenset[str]]
    until: float


class Installer:
    """Does what the requests of sets ask for, one after the other."""

    def __init__(
        self,
        sets: Sets,
        blobs: BlobStore,
        platforms: Platforms,
        own_platform: OwnPlatform,
        resolver: Resolver,
        fetcher: Fetcher,
        *,
        most_bytes: int,
    ) -> None:
        self._sets = sets
        self._blobs = blobs
        self._platforms = platforms
        self._own_platform = own_platform
        self._resolver = resolver
        self._fetcher = fetcher
        self._most_bytes = most_bytes
        self._woken = asyncio.Event()
        self._looked: _Looked | None = None

    def wake(self) -> None:
        """Have a leader look at once."""
        self._woken.set()

    async def lead(self) -> None:
        """Install what is asked for, until cancelled."""
        self._looked = None
        while True:
            self._woken.clear()
            while (found := await self._sets.pending()) is not None:
                await self._serve(found)
            await self._complete()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), LOOK_SECONDS)

    async def _serve(self, found: PackageSet) -> None:
        """Meet the request of a set, or give it up."""
        request = found.request
        if request is None:
            return
        try:
            await self._install(found, request)
        except PackagesError as error:
            _log.warning("a set of packages is not installed", set=found.name, error=str(error))
            await self._sets.fail(found.name, request, error)
        except SQLAlchemyError as error:
            if not _is_full(error):
                raise
            _log.warning("a set of packages is not installed: the database is full", set=found.name)
            told = PackagesError(
                Why.FULL,
                "the database has no room left for its files",
                hint="Make room on the disk of the database, or remove packages; then run `ringfence packages install` "
                "again. What is stored already is not fetched again.",
            )
            await self._sets.fail(found.name, request, told)
        except Exception as error:
            _log.exception("a set of packages is not installed", set=found.name)
            told = PackagesError(
                Why.FAILED,
                f"an unexpected fault, {describe(error)}",
                hint="The host's log tells more; `ringfence packages install` tries again.",
            )
            await self._sets.fail(found.name, request, told)

    async def _install(self, found: PackageSet, request: Request) -> None:
        note = ProgressNote()

        async def write(progress: Mapping[str, object]) -> None:
            await self._sets.note_progress(found.name, request, progress)

        async with written(note, write):
            await self._own_platform.note()
            requirements = await self._sets.wanted(found)
            platforms = await self._platforms.known()
            lock = await self._lock(found, request, requirements, platforms, note)
            files = needed(lock, platforms)
            check_fits_somewhere(files, platforms)
            check_size(files, self._most_bytes)
            await self._fetch(files, note)
        if files.size * 2 > self._most_bytes:
            _log.warning(
                "a set of packages is large", set=found.name, bytes=files.size, limit=self._most_bytes
            )
        if await self._sets.make_current(found.name, request, requirements, lock):
            _log.info("a set of packages is installed", set=found.name, lock=lock.hash, bytes=files.size)

    async def _lock(
        self,
        found: PackageSet,
        request: Request,
        requirements: Sequence[Requirement],
        platforms: Sequence[Platform],
        note: ProgressNote,
    ) -> Lock:
        """The lock that there is, if nobody wants newer versions; else one that is as near to it as can be."""
        previous = None
        if not request.upgrade and found.lock_hash is not None:
            previous = await self._sets.lock(found.lock_hash)
            if previous is not None and found.requirements == tuple(requirements):
                return previous
        if not requirements:
            return Lock()
        return await self._resolver.resolve(
            requirements, platforms, note.doing, previous=previous, requires_python=found.own_requires_python
        )

    async def _fetch(self, files: Needed, note: ProgressNote) -> None:
        """Store what is missing. Raises `PackagesError`."""
        there = await self._blobs.touch(files.digests)
        missing = [one for one in files.files if one.file.sha256 not in there]
        note.fetching(len(missing), sum(one.file.size for one in missing))
        free = asyncio.Semaphore(AT_ONCE)

        async def fetch(one: NeededFile) -> None:
            async with free:
                note.doing(one.package)
                await self._store(one, note)
                note.one_is_done()

        try:
            async with asyncio.TaskGroup() as group:
                for one in missing:
                    group.create_task(fetch(one))
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from failed

    async def _store(self, one: NeededFile, note: ProgressNote) -> None:
        async def counted() -> AsyncIterator[bytes]:
            async for piece in self._fetcher.fetch(one.file):
                note.came(len(piece))
                yield piece

        try:
            await self._blobs.put(one.file.sha256, one.file.size, counted())
        except WrongBlobError as error:
            raise PackagesError(
                Why.HASH_DIFFERS,
                f"{one.file.filename} is not the file that was locked: {error}",
                package=one.package,
                hint="The registry has changed it, or somebody between has: `ringfence packages install --upgrade` "
                "locks what is there now, if that can be trusted.",
            ) from error

    async def _complete(self) -> None:
        """Fetch what platforms need that have come since a set was installed, and what was lost."""
        current, platforms = await self._sets.current(), await self._platforms.known()
        at = (current, frozenset(platform.key for platform in platforms))
        if self._looked is not None and self._looked.at == at and time.monotonic() < self._looked.until:
            return
        self._looked = _Looked(at, time.monotonic() + AGAIN_SECONDS)
        for name, hash in current.items():
            lock = await self._sets.lock(hash)
            if lock is None:
                continue
            try:
                files = needed(lock, platforms)
                if files.digests <= await self._blobs.touch(files.digests):
                    continue
                check_size(files, self._most_bytes)
                await self._fetch(files, ProgressNote())
            except PackagesError as error:
                _log.warning("files of a set of packages are missing", set=name, error=str(error))
            else:
                await self._sets.tell_again(name, hash)


def _is_full(error: SQLAlchemyError) -> bool:
    """Whether the database has no room: it will not have any soon, unless somebody makes some."""
    state = getattr(getattr(error, "orig", None), "sqlstate", None) or ""
    return state in _FULL
