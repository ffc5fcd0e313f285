"""The built-in blob store: PostgreSQL, in pieces of a megabyte; and all stores that there are, as one.

Threat: a registry sends other bytes than promised, or without end; an instance dies in the middle; a row is damaged.
Mechanism: pieces belong to an upload, which becomes a blob only in the last transaction, after its length and SHA-256
are known to be right; who reads a blob from its beginning gets its last piece only if all is right. No transaction is
open while a registry is waited for, and no more than two pieces are in memory. Not covered: reading from the middle,
as whoever resumes does: who puts the parts together checks the whole.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncIterator, Collection
from uuid import UUID

from ringfence import PluginContext
from sqlalchemy import text

from ringfence_script_packages.packages.errors import NoBlobError, WrongBlobError
from ringfence_script_packages.packages.ports import BlobStore, StoredBlob

CHUNK_BYTES = 1024 * 1024
PAGE = 1000
UNFINISHED_SECONDS = 24 * 3600.0
"""How old the pieces of an upload that was never finished become."""

_TOUCH = text(
    "UPDATE script_packages_blobs SET wanted_at = clock_timestamp() WHERE sha256 = ANY(:digests) RETURNING sha256"
)
_BEGIN = text("INSERT INTO script_packages_uploads (id) VALUES (:upload)")
_CHUNK = text(
    "INSERT INTO script_packages_chunks (upload_id, number, content) VALUES (:upload, :number, :content)"
)
_FINISH = text("""
    INSERT INTO script_packages_blobs (sha256, size, upload_id) VALUES (:sha256, :size, :upload)
    ON CONFLICT (sha256) DO UPDATE SET wanted_at = clock_timestamp() RETURNING upload_id
""")
_DROP = text("DELETE FROM script_packages_uploads WHERE id = :upload")
_FIND = text("SELECT upload_id, size FROM script_packages_blobs WHERE sha256 = :sha256")
_READ = text("SELECT content FROM script_packages_chunks WHERE upload_id = :upload AND number = :number")
_LIST = text("""
    SELECT sha256, size, wanted_at FROM script_packages_blobs WHERE sha256 > :after ORDER BY sha256 LIMIT :limit
""")
_DELETE = text("""
    WITH gone AS (
        DELETE FROM script_packages_blobs
         WHERE sha256 = ANY(:digests) AND wanted_at < clock_timestamp() - make_interval(secs => :seconds)
        RETURNING upload_id, sha256
    ) SELECT array_agg(sha256) AS digests, array_agg(upload_id) AS uploads FROM gone
""")
_FORGET = text("DELETE FROM script_packages_blobs WHERE sha256 = :sha256 AND upload_id = :upload")
_DROP_ALL = text("DELETE FROM script_packages_uploads WHERE id = ANY(:uploads)")
_DROP_UNFINISHED = text("""
    DELETE FROM script_packages_uploads AS one
     WHERE started_at < clock_timestamp() - make_interval(secs => :seconds)
       AND NOT EXISTS (SELECT FROM script_packages_blobs WHERE upload_id = one.id)
""")


class PostgresBlobs:
    """Keeps blobs in the host's own database. Implements `BlobStore`."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context

    async def touch(self, digests: Collection[str]) -> frozenset[str]:
        """See `BlobStore`."""
        async with self._context.sessions.begin() as session:
            rows = await session.execute(_TOUCH, {"digests": [*digests]})
            return frozenset(rows.scalars())

    async def put(self, sha256: str, size: int, content: AsyncIterator[bytes]) -> None:
        """See `BlobStore`."""
        if await self.touch([sha256]):
            return
        upload = uuid.uuid4()
        async with self._context.sessions.begin() as session:
            await session.execute(_BEGIN, {"upload": upload})
        kept = False
        try:
            told, came = hashlib.sha256(), 0
            number = 0
            async for piece in _pieces(content):
                told.update(piece)
                if (came := came + len(piece)) > size:
                    raise WrongBlobError(f"it has more than the {size} bytes that it should have")
                async with self._context.sessions.begin() as session:
                    values = {"upload": upload, "number": number, "content": piece}
                    await session.execute(_CHUNK, values)
                number += 1
            if came != size:
                raise WrongBlobError(f"it has {came} bytes, and should have {size}")
            if told.hexdigest() != sha256:
                raise WrongBlobError(f"its SHA-256 is {told.hexdigest()}, and should be {sha256}")
            kept = await self._finish(sha256, size, upload)
        finally:
            if not kept:
                async with self._context.sessions.begin() as session:
                    await session.execute(_DROP, {"upload": upload})

    async def _finish(self, sha256: str, size: int, upload: UUID) -> bool:
        """Make a blob of an upload; False if another one was first."""
        async with self._context.sessions.begin() as session:
            values = {"sha256": sha256, "size": size, "upload": upload}
            return bool((await session.execute(_FINISH, values)).scalar_one() == upload)

    async def open(self, sha256: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """See `BlobStore`."""
        async with self._context.sessions() as session:
            row = (await session.execute(_FIND, {"sha256": sha256})).one_or_none()
        if row is None:
            raise NoBlobError(f"there is no blob {sha256}")
        told, came = hashlib.sha256(), 0
        first, skipped = divmod(offset, CHUNK_BYTES)
        held: bytes | None = None
        for number in range(first, -(-row.size // CHUNK_BYTES)):
            async with self._context.sessions() as session:
                piece = await session.scalar(_READ, {"upload": row.upload_id, "number": number})
            if piece is None:
                await self._forget(sha256, row.upload_id)
                raise NoBlobError(f"the blob {sha256} is gone, or is not whole: it is fetched again")
            told.update(piece)
            came += len(piece)
            if held is not None:
                yield held
            held = bytes(piece)[skipped:]
            skipped = 0
        if offset == 0 and (came != row.size or told.hexdigest() != sha256):
            await self._forget(sha256, row.upload_id)
            raise WrongBlobError(f"the blob {sha256} was damaged: it is fetched again")
        if held:
            yield held

    async def _forget(self, sha256: str, upload: UUID) -> None:
        """Have none rather than a damaged one: whoever looks for what is missing fetches it."""
        async with self._context.sessions.begin() as session:
            await session.execute(_FORGET, {"sha256": sha256, "upload": upload})
            await session.execute(_DROP, {"upload": upload})

    async def stored(self) -> AsyncIterator[StoredBlob]:
        """See `BlobStore`."""
        after = ""
        while True:
            async with self._context.sessions() as session:
                rows = (await session.execute(_LIST, {"after": after, "limit": PAGE})).all()
            for row in rows:
                yield StoredBlob(row.sha256, row.size, row.wanted_at)
            if len(rows) < PAGE:
                return
            after = rows[-1].sha256

    async def delete(self, digests: Collection[str], *, unwanted_for: float) -> frozenset[str]:
        """See `BlobStore`."""
        async with self._context.sessions.begin() as session:
            values = {"digests": [*digests], "seconds": unwanted_for}
            row = (await session.execute(_DELETE, values)).one()
            if row.uploads:
                await session.execute(_DROP_ALL, {"uploads": row.uploads})
        return frozenset(row.digests or ())

    async def drop_unfinished(self, seconds: float = UNFINISHED_SECONDS) -> None:
        """Delete the pieces of uploads that were never finished, once they are so old."""
        async with self._context.sessions.begin() as session:
            await session.execute(_DROP_UNFINISHED, {"seconds": seconds})


class AllBlobs:
    """Every store that there is, as one: new blobs go into the first that a plugin has added, or into the built-in one.

    Implements `BlobStore`.
    """

    def __init__(self, context: PluginContext, own: PostgresBlobs) -> None:
        self._context = context
        self._own = own

    @property
    def _stores(self) -> tuple[BlobStore, ...]:
        return (*self._context.services.extensions(BlobStore), self._own)

    async def touch(self, digests: Collection[str]) -> frozenset[str]:
        """See `BlobStore`."""
        found: frozenset[str] = frozenset()
        for store in self._stores:
            if missing := set(digests) - found:
                found |= await store.touch(missing)
        return found

    async def put(self, sha256: str, size: int, content: AsyncIterator[bytes]) -> None:
        """See `BlobStore`."""
        await self._stores[0].put(sha256, size, content)

    async def open(self, sha256: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """See `BlobStore`."""
        for store in self._stores:
            if store is self._own or await store.touch([sha256]):
                async for piece in store.open(sha256, offset=offset):
                    yield piece
                return

    async def stored(self) -> AsyncIterator[StoredBlob]:
        """See `BlobStore`."""
        for store in self._stores:
            async for blob in store.stored():
                yield blob

    async def delete(self, digests: Collection[str], *, unwanted_for: float) -> frozenset[str]:
        """See `BlobStore`."""
        gone = [await store.delete(digests, unwanted_for=unwanted_for) for store in self._stores]
        return frozenset[str]().union(*gone)

    async def drop_unfinished(self) -> None:
        """Have the built-in store delete what was never finished."""
        await self._own.drop_unfinished()


async def _pieces(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces of `CHUNK_BYTES`, whatever pieces they come in."""
    held = bytearray()
    async for part in content:
        view = memoryview(part)
        while view:
            taken = min(len(view), CHUNK_BYTES - len(held))
            held += view[:taken]
            view = view[taken:]
            if len(held) == CHUNK_BYTES:
                yield bytes(held)
                held.clear()
    if held:
        yield bytes(held)
