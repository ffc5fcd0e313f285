"""What this instance has of the sets: their files and trees on its own disk, and which tree a run gets.

Threat: a run imports another lock than its set's, half of one, or one that is removed under it; a host that restarts,
or is cut off, has nothing. Mechanism: trees are whole or not there, named by what they are, and pinned by each run
(`Trees`); a set goes over to a new lock only once the tree of that is made, and its runs say which lock they had. What
is here is used whether the database answers or not. It is compared with what is wanted at the start, when the hook
tells of a change, and from time to time. Not covered: an instance that is cut off does not hear of a new lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import structlog
from ringfence import Event
from ringfence.redaction import describe
from ringfence.scripts import DEFAULT_SET, NotReady, PackageTree
from ringfence.scripts.packages.blobs import BlobDirectory
from ringfence.scripts.packages.errors import BlobDamagedError, BlobMissingError, PackagesError
from ringfence.scripts.packages.lock import Lock, LockedFile, NoFit
from ringfence.scripts.packages.platform import Platform
from ringfence.scripts.packages.trees import Trees, tree_key
from sqlalchemy.exc import SQLAlchemyError

from ringfence_script_packages.hooks import ScriptPackagesChanged
from ringfence_script_packages.packages.errors import BlobError
from ringfence_script_packages.packages.own_platform import OwnPlatform
from ringfence_script_packages.packages.ports import BlobStore
from ringfence_script_packages.packages.sets import NoSetError, Sets, State

LOOK_SECONDS = 600.0
AGAIN_SECONDS = 5.0
"""How soon it is tried again where something was missing."""
COLLECT_SECONDS = 3600.0
NOTE_SECONDS = 24 * 3600.0
"""How often this instance says which platform it is."""
FILES_KEPT_SECONDS = 3600.0
"""How long a file is kept here once the trees that it is in are made."""

_SOON = (BlobError, BlobMissingError, BlobDamagedError, SQLAlchemyError, TimeoutError)
_log = structlog.get_logger("ringfence.script_packages")


class PackagesHere:
    """The package provider of this process, and what keeps it up."""

    def __init__(
        self,
        sets: Sets,
        blobs: BlobStore,
        own_platform: OwnPlatform,
        directory: Path,
        *,
        grace_seconds: float,
    ) -> None:
        self._sets = sets
        self._blobs = blobs
        self._own_platform = own_platform
        self._files = BlobDirectory(directory / "files")
        self._trees = Trees(directory, self._files)
        self._grace_seconds = grace_seconds
        self._platform: Platform | None = None
        self._wanted: Mapping[str, str] = {}
        self._served: dict[str, str] = {}
        """The lock of each set whose tree is here; its runs get that."""
        self._empty: set[str] = set()
        """Locks without any package."""
        self._missing: dict[str, NotReady] = {}
        """Why the tree of a lock is not here."""
        self._woken = asyncio.Event()
        self._collected_at = self._noted_at = float("-inf")

    async def begin(self) -> None:
        """Know which sets there are, before anybody asks."""
        self._wanted = await self._sets.current()

    async def changed(self, _: Event[ScriptPackagesChanged]) -> None:
        """Look what is wanted now."""
        self._woken.set()

    async def provide(self, name: str) -> PackageTree | NotReady | None:
        """Answer the runner's provider."""
        served = self._served.get(name)
        if served in self._empty:
            return None
        if served is not None and self._platform is not None:
            pin = self._trees.pin(served, self._platform)
            if pin is not None:
                return PackageTree(name, served, pin)
            self._woken.set()
        wanted = self._wanted.get(name)
        if wanted is not None:
            return self._missing.get(wanted, NotReady("they are being unpacked"))
        return None if name == DEFAULT_SET else await self._why_not(name)

    async def _why_not(self, name: str) -> NotReady:
        """Why there is no lock of a set, as far as this instance has heard."""
        try:
            found = await self._sets.get(name)
        except NoSetError as error:
            return NotReady(str(error))
        if found.lock_hash is not None:
            self._woken.set()
            return NotReady("they are being unpacked")
        match found.state:
            case State.INSTALLING:
                return NotReady("the set is being installed")
            case State.FAILED:
                return NotReady(f"the set could not be installed: {found.error}")
            case _:
                return NotReady(
                    f"the set {name} was never installed: `ringfence packages install --set {name}`"
                )

    async def serve(self) -> None:
        """Have here what is wanted, until cancelled."""
        while True:
            self._woken.clear()
            pause = LOOK_SECONDS
            try:
                if not await self._have_all():
                    pause = AGAIN_SECONDS
                await self._collect()
            except SQLAlchemyError as error:
                _log.warning("cannot look which packages are wanted", error=describe(error))
                pause = AGAIN_SECONDS
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), pause)

    async def _have_all(self) -> bool:
        """Have the tree of each lock that is wanted; whether all of them are here, or cannot be."""
        self._wanted = wanted = await self._sets.current()
        self._served = {name: hash for name, hash in self._served.items() if name in wanted}
        self._missing = {hash: why for hash, why in self._missing.items() if hash in wanted.values()}
        if not wanted:
            return True
        self._platform = platform = await self._own_platform.get()
        if platform is None:
            self._missing = dict.fromkeys(
                wanted.values(),
                NotReady("it is not known which packages fit this machine: see the host's log"),
            )
            return False
        if time.monotonic() - self._noted_at > NOTE_SECONDS:
            self._noted_at = time.monotonic()
            await self._own_platform.note()
        return all([await self._have(hash, platform) for hash in sorted(set(wanted.values()))])

    async def _have(self, hash: str, platform: Platform) -> bool:
        """Have the tree of a lock, and give it to the sets that want it. False if it is to be tried again soon."""
        try:
            await self._make(hash, platform)
        except _SOON as error:
            _log.info("packages are not here yet", lock=hash, error=describe(error))
            return False
        except (PackagesError, OSError) as error:
            why = str(error) if isinstance(error, PackagesError) else describe(error)
            if self._missing.get(hash) != NotReady(why):
                _log.warning("packages cannot be had here", lock=hash, error=why)
            self._missing[hash] = NotReady(why)
            return isinstance(error, PackagesError)
        self._missing.pop(hash, None)
        self._served.update((name, wanted) for name, wanted in self._wanted.items() if wanted == hash)
        return True

    async def _make(self, hash: str, platform: Platform) -> None:
        lock = await self._sets.lock(hash)
        if lock is None:
            raise BlobMissingError(f"the lock {hash} is gone")
        if not lock.python and not lock.node:
            self._empty.add(hash)
            return
        if tree_key(hash, platform) not in await asyncio.to_thread(self._trees.made):
            await self._fetch(lock, hash, platform)
        await asyncio.to_thread(self._trees.make, lock, platform)

    async def _fetch(self, lock: Lock, hash: str, platform: Platform) -> None:
        """Have the files of a tree here."""
        files = lock.files_for(platform)
        if isinstance(files, NoFit):
            return  # making the tree tells it
        missing = await asyncio.to_thread(self._files.missing, files)
        total = sum(file.size for file in files)
        have = total - sum(file.size for file in missing)
        self._missing[hash] = NotReady.fetching(have, total)
        for file in missing:
            async with contextlib.AsyncExitStack() as stack:
                arriving = await asyncio.to_thread(
                    stack.enter_context,
                    self._files.receiving(file),  # it may wait for another process
                )
                have += arriving.size
                async for piece in self._rest(file, arriving.size):
                    await asyncio.to_thread(arriving.write, piece)
                    have += len(piece)
                    self._missing[hash] = NotReady.fetching(have, total)
                await asyncio.to_thread(arriving.finish)

    async def _rest(self, file: LockedFile, offset: int) -> AsyncIterator[bytes]:
        """A file from an offset on; nothing of an empty one."""
        if offset < file.size:
            async for piece in self._blobs.open(file.sha256, offset=offset):
                yield piece

    async def _collect(self) -> None:
        """Remove the trees and files that are wanted no more, but for those that runs use."""
        if self._platform is None or time.monotonic() - self._collected_at < COLLECT_SECONDS:
            return
        self._collected_at = time.monotonic()
        locks = {*self._wanted.values(), *self._served.values()}
        trees = {tree_key(hash, self._platform) for hash in locks}
        await asyncio.to_thread(self._trees.collect, trees, self._grace_seconds)
        await asyncio.to_thread(self._files.collect, (), FILES_KEPT_SECONDS)
