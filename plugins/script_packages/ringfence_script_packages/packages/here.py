"""What this instance has of the sets: which are wanted, and why one that is not here cannot be had.

Threat: a run imports another lock than its set's, half of one, or one that is removed under it; a host that restarts,
or is cut off, has nothing. Mechanism: the trees are kept as on satellites (`ringfence.scripts.packages.keeping`), from
what the database has. What is here is used whether the database answers or not. It is compared with what is wanted at
the start, when the hook tells of a change, and from time to time. Not covered: an instance that is cut off does not
hear of a new lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import structlog
from ringfence import Event
from ringfence.redaction import describe
from ringfence.scripts import DEFAULT_SET, NotReady, PackageTree
from ringfence.scripts.packages.errors import BlobMissingError, PackagesError
from ringfence.scripts.packages.keeping import KeptTrees, SetState, SetStatus
from ringfence.scripts.packages.lock import Lock, LockedFile
from sqlalchemy.exc import SQLAlchemyError

from ringfence_script_packages.hooks import ScriptPackagesChanged
from ringfence_script_packages.packages.errors import BlobError
from ringfence_script_packages.packages.own_platform import OwnPlatform
from ringfence_script_packages.packages.ports import BlobStore
from ringfence_script_packages.packages.sets import NoSetError, Sets, State

LOOK_SECONDS = 600.0
AGAIN_SECONDS = 5.0
"""How soon it is tried again where the database did not answer."""
AT_MOST_SECONDS = 15.0
"""How long it waits at most where something else failed: nobody is burdened by that but this machine."""
NOTE_SECONDS = 24 * 3600.0
"""How often this instance says which platform it is."""

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
        self._own_platform = own_platform
        self._kept = KeptTrees(
            directory,
            _Stored(sets, blobs),
            own_platform.get,
            told=_tell,
            grace_s=grace_seconds,
            at_most_s=AT_MOST_SECONDS,
        )
        self._wanted: dict[str, str] = {}
        self._woken = asyncio.Event()
        self._noted_at = float("-inf")

    async def begin(self) -> None:
        """Know which sets there are, before anybody asks."""
        self._want(await self._sets.current())

    async def changed(self, _: Event[ScriptPackagesChanged]) -> None:
        """Look what is wanted now."""
        self._woken.set()

    async def provide(self, name: str) -> PackageTree | NotReady | None:
        """Answer the runner's provider."""
        if name in self._wanted or name == DEFAULT_SET:
            return await self._kept.provide(name)
        return await self._why_not(name)

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
        async with asyncio.TaskGroup() as both:
            both.create_task(self._kept.run())
            both.create_task(self._follow())

    async def _follow(self) -> None:
        while True:
            self._woken.clear()
            pause = LOOK_SECONDS
            try:
                self._want(await self._sets.current())
                if self._wanted and time.monotonic() - self._noted_at > NOTE_SECONDS:
                    await self._own_platform.note()
                    self._noted_at = time.monotonic()
            except (SQLAlchemyError, TimeoutError) as error:
                _log.warning("cannot look which packages are wanted", error=describe(error))
                pause = AGAIN_SECONDS
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), pause)

    def _want(self, sets: dict[str, str]) -> None:
        self._wanted = sets
        self._kept.want(sets)


class _Stored:
    """What the database has of locks and files. Implements `PackageSource`."""

    def __init__(self, sets: Sets, blobs: BlobStore) -> None:
        self._sets = sets
        self._blobs = blobs

    async def lock(self, hash: str) -> Lock:
        """See `PackageSource`."""
        with _told():
            lock = await self._sets.lock(hash)
        if lock is None:
            raise BlobMissingError(f"the lock {hash} is gone")
        return lock

    async def blob(self, file: LockedFile, *, offset: int) -> AsyncIterator[bytes]:
        """See `PackageSource`."""
        with _told():
            # Nothing is left of one of which all is here.
            if offset < file.size:
                async for piece in self._blobs.open(file.sha256, offset=offset):
                    yield piece


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Say what keeps a file from coming, as the rest of the packages does."""
    try:
        yield
    except BlobError as error:
        raise PackagesError(f"a file of them is not stored: {error}") from error
    except (SQLAlchemyError, TimeoutError) as error:
        raise PackagesError("the database does not answer") from error


def _tell(name: str, status: SetStatus) -> None:
    if status.state is SetState.ERROR:
        _log.warning("packages cannot be had here", set=name, lock=status.lock, error=status.error)
