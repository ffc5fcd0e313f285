"""What machines other than instances get of the packages: locks, and their files in small pieces.

Threat: hundreds of machines want the same large files at once, each as slowly as it likes. Mechanism: whoever wants a
piece asks for it; locks, and chunks of files, that were read lately are kept, so many and no more, one that is being
read is waited for and not read again, and few chunks are read at a time. Not covered: who may have what; the asker of
this looks.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, Generic, TypeVar, cast

import structlog
from ringfence.scripts.packages.platform import Platform

from ringfence_script_packages.packages.errors import NoBlobError
from ringfence_script_packages.packages.platforms import Platforms
from ringfence_script_packages.packages.ports import BlobStore, OfferedLock
from ringfence_script_packages.packages.sets import Sets

CHUNK_BYTES = 1024 * 1024
KEPT_CHUNKS = 32
KEPT_LOCKS = 8
AT_ONCE = 4
"""How many chunks are read at a time."""
NOTED_SECONDS = 3600.0
"""How often it is written down that there is a platform."""
NOTED_PLATFORMS = 256
"""How many platforms are noted in that time: what says that it has one might make them up."""

K = TypeVar("K")
V = TypeVar("V")

_log = structlog.get_logger("ringfence.script_packages")


class Offered:
    """Implements `ScriptPackages`."""

    def __init__(
        self, sets: Sets, blobs: BlobStore, platforms: Platforms, *, wake: Callable[[], None]
    ) -> None:
        self._sets = sets
        self._blobs = blobs
        self._platforms = platforms
        self._wake = wake
        self._locks = _Kept(self._read_lock, KEPT_LOCKS)
        self._chunks = _Kept(self._read_chunk, KEPT_CHUNKS)
        self._free = asyncio.Semaphore(AT_ONCE)
        self._noted: dict[str, float] = {}

    async def current(self) -> Mapping[str, str]:
        """See `ScriptPackages`."""
        return await self._sets.current()

    async def lock(self, hash: str) -> OfferedLock | None:
        """See `ScriptPackages`."""
        return await self._locks.get(hash)

    async def piece(self, sha256: str, *, offset: int, length: int) -> bytes:
        """See `ScriptPackages`."""
        number, skipped = divmod(offset, CHUNK_BYTES)
        chunk = await self._chunks.get((sha256, number))
        return chunk[skipped : skipped + length]

    async def seen(self, platform: Platform) -> None:
        """See `ScriptPackages`."""
        now = time.monotonic()
        self._noted = {key: at for key, at in self._noted.items() if now < at + NOTED_SECONDS}
        if platform.key in self._noted:
            return
        if len(self._noted) >= NOTED_PLATFORMS:
            _log.warning("a platform is not noted: there are too many", noted=len(self._noted))
            return
        self._noted[platform.key] = now
        try:
            if await self._platforms.seen(platform):
                self._wake()
        except BaseException:
            self._noted.pop(platform.key, None)
            raise

    async def close(self) -> None:
        """Give up on what is being read: whoever waits for it is cancelled."""
        await self._locks.close()
        await self._chunks.close()

    async def _read_lock(self, hash: str) -> OfferedLock | None:
        lock = await self._sets.lock(hash)
        return None if lock is None else await asyncio.to_thread(OfferedLock.of, lock)

    async def _read_chunk(self, key: tuple[str, int]) -> bytes:
        sha256, number = key
        chunk = bytearray()
        async with (
            self._free,
            aclosing(
                # It is an asynchronous generator, so that it can be closed before its end.
                cast("AsyncGenerator[bytes]", self._blobs.open(sha256, offset=number * CHUNK_BYTES))
            ) as pieces,
        ):
            async for piece in pieces:
                chunk += piece
                if len(chunk) >= CHUNK_BYTES:
                    break
        if not chunk:
            raise NoBlobError(f"the blob {sha256} is not so long")
        return bytes(chunk[:CHUNK_BYTES])


class _Kept(Generic[K, V]):
    """What was read lately, by its key. Whoever asks for what is being read waits for that; None is not kept."""

    def __init__(self, read: Callable[[K], Coroutine[Any, Any, V]], most: int) -> None:
        self._read = read
        self._most = most
        self._tasks: OrderedDict[K, asyncio.Task[V]] = OrderedDict()

    async def get(self, key: K) -> V:
        """What is called so. Raises what reading it raises."""
        reading = self._tasks.get(key)
        if reading is None:
            reading = self._tasks[key] = asyncio.create_task(self._read(key), name="packages for satellites")
            reading.add_done_callback(lambda task: self._keep(key, task))
        else:
            self._tasks.move_to_end(key)
        # Others may wait for the same one: who is cancelled does not take it from them.
        return await asyncio.shield(reading)

    def _keep(self, key: K, task: asyncio.Task[V]) -> None:
        if task.cancelled() or task.exception() is not None or task.result() is None:
            self._tasks.pop(key, None)
        for old in [old for old, read in self._tasks.items() if read.done()]:
            if len(self._tasks) <= self._most:
                break
            del self._tasks[old]

    async def close(self) -> None:
        """Give up on what is being read: whoever waits for it is cancelled."""
        reading = [task for task in self._tasks.values() if not task.done()]
        for task in reading:
            task.cancel()
        if reading:
            await asyncio.wait(reading)
