"""What machines other than instances get of the packages: locks, and their files in small pieces.

Threat: hundreds of machines want the same large files at once, each as slowly as it likes. Mechanism: whoever wants a
piece asks for it; chunks of files that were read lately are kept, so many and no more, one that is being read is
waited for and not read again, and few are read at a time. Not covered: who may have what; the asker of this looks.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import cast

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
        self._locks: OrderedDict[str, OfferedLock] = OrderedDict()
        self._chunks: OrderedDict[tuple[str, int], asyncio.Task[bytes]] = OrderedDict()
        self._free = asyncio.Semaphore(AT_ONCE)
        self._noted: dict[str, float] = {}

    async def current(self) -> Mapping[str, str]:
        """See `ScriptPackages`."""
        return await self._sets.current()

    async def lock(self, hash: str) -> OfferedLock | None:
        """See `ScriptPackages`."""
        if (held := self._locks.get(hash)) is not None:
            self._locks.move_to_end(hash)
            return held
        lock = await self._sets.lock(hash)
        if lock is None:
            return None
        offered = self._locks[hash] = OfferedLock.of(lock)
        while len(self._locks) > KEPT_LOCKS:
            self._locks.popitem(last=False)
        return offered

    async def piece(self, sha256: str, *, offset: int, length: int) -> bytes:
        """See `ScriptPackages`."""
        number, skipped = divmod(offset, CHUNK_BYTES)
        chunk = await self._chunk(sha256, number)
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
        reading = [task for task in self._chunks.values() if not task.done()]
        for task in reading:
            task.cancel()
        if reading:
            await asyncio.wait(reading)

    async def _chunk(self, sha256: str, number: int) -> bytes:
        key = (sha256, number)
        reading = self._chunks.get(key)
        if reading is None:
            reading = self._chunks[key] = asyncio.create_task(self._read(*key), name="chunk of a package")
            reading.add_done_callback(lambda task: self._keep(key, task))
        else:
            self._chunks.move_to_end(key)
        # Others may wait for the same one: who is cancelled does not take it from them.
        return await asyncio.shield(reading)

    def _keep(self, key: tuple[str, int], task: asyncio.Task[bytes]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._chunks.pop(key, None)
        for old in [old for old, read in self._chunks.items() if read.done()]:
            if len(self._chunks) <= KEPT_CHUNKS:
                break
            del self._chunks[old]

    async def _read(self, sha256: str, number: int) -> bytes:
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
