"""The blob store on a real PostgreSQL: whole and right, or not at all."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest
import structlog
from ringfence import PluginContext
from ringfence.host import Host
from ringfence_script_packages.packages.blobs import CHUNK_BYTES, PostgresBlobs
from ringfence_script_packages.packages.errors import NoBlobError, WrongBlobError
from sqlalchemy import text

from tests.shared_hosts import SHARED

pytestmark = SHARED

LARGE = bytes(range(256)) * (1024 * 12 + 7)
DIGEST = hashlib.sha256(LARGE).hexdigest()


@pytest.fixture
def blobs(host: Host) -> PostgresBlobs:
    return PostgresBlobs(context_of(host))


def context_of(host: Host) -> PluginContext:
    [plugin] = [one for one in host.plugins if one.info.id == "script-packages"]
    return PluginContext(plugin.registry, host.runtime, structlog.get_logger())


async def pieces(content: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def read(blobs: PostgresBlobs, digest: str, offset: int = 0) -> bytes:
    return b"".join([piece async for piece in blobs.open(digest, offset=offset)])


async def count(host: Host, table: str) -> int:
    async with host.runtime.database.sessions() as session:
        return int(
            (await session.execute(text(f"SELECT count(*) FROM script_packages_{table}"))).scalar_one()
        )


async def test_what_is_put_is_read_from_anywhere(host: Host, blobs: PostgresBlobs) -> None:
    await blobs.put(DIGEST, len(LARGE), pieces(LARGE))
    assert await count(host, "chunks") == 4
    for offset in (0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, len(LARGE) - 1, len(LARGE)):
        assert await read(blobs, DIGEST, offset) == LARGE[offset:]
    assert [(one.sha256, one.size) async for one in blobs.stored()] == [(DIGEST, len(LARGE))]
    assert await blobs.touch([DIGEST, "0" * 64]) == {DIGEST}


async def test_nothing_at_all_can_be_stored_too(blobs: PostgresBlobs) -> None:
    empty = hashlib.sha256(b"").hexdigest()
    await blobs.put(empty, 0, pieces(b""))
    assert await read(blobs, empty) == b""


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (LARGE[:-1], "has 3147519 bytes, and should have"),
        (LARGE + b"x", "more than the"),
        (b"x" + LARGE[1:], "SHA-256"),
    ],
)
async def test_what_is_not_right_is_not_kept(
    content: bytes, why: str, host: Host, blobs: PostgresBlobs
) -> None:
    with pytest.raises(WrongBlobError, match=why):
        await blobs.put(DIGEST, len(LARGE), pieces(content))
    assert await blobs.touch([DIGEST]) == frozenset()
    assert await count(host, "uploads") == await count(host, "chunks") == 0
    with pytest.raises(NoBlobError):
        await read(blobs, DIGEST)


async def test_one_without_end_is_cut_at_what_was_promised(host: Host, blobs: PostgresBlobs) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += CHUNK_BYTES
            yield bytes(CHUNK_BYTES)

    with pytest.raises(WrongBlobError):
        await blobs.put(DIGEST, len(LARGE), endless())
    assert sent <= len(LARGE) + 2 * CHUNK_BYTES


async def test_two_who_put_the_same_at_once_store_it_once(host: Host, blobs: PostgresBlobs) -> None:
    await asyncio.gather(*(blobs.put(DIGEST, len(LARGE), pieces(LARGE)) for _ in range(3)))
    assert await count(host, "blobs") == await count(host, "uploads") == 1
    assert await read(blobs, DIGEST) == LARGE


async def test_one_that_is_damaged_is_never_given_out_whole_and_is_forgotten(
    host: Host, blobs: PostgresBlobs
) -> None:
    await blobs.put(DIGEST, len(LARGE), pieces(LARGE))
    async with host.runtime.database.sessions.begin() as session:
        await session.execute(
            text("UPDATE script_packages_chunks SET content = set_byte(content, 5, 99) WHERE number = 1")
        )
    got: list[bytes] = []

    async def read_all() -> None:
        async for piece in blobs.open(DIGEST):
            got.append(piece)

    with pytest.raises(WrongBlobError):
        await read_all()
    assert len(b"".join(got)) < len(LARGE)
    assert await blobs.touch([DIGEST]) == frozenset()
    await blobs.put(DIGEST, len(LARGE), pieces(LARGE))
    assert await read(blobs, DIGEST) == LARGE


async def test_only_what_nobody_has_wanted_for_long_is_deleted(host: Host, blobs: PostgresBlobs) -> None:
    await blobs.put(DIGEST, len(LARGE), pieces(LARGE))
    assert await blobs.delete([DIGEST], unwanted_for=60) == frozenset()
    assert await blobs.delete(["0" * 64], unwanted_for=0) == frozenset()
    assert await blobs.delete([DIGEST], unwanted_for=0) == {DIGEST}
    assert await count(host, "chunks") == 0


async def test_what_an_upload_has_left_goes_when_it_is_old(host: Host, blobs: PostgresBlobs) -> None:
    await blobs.put(DIGEST, len(LARGE), pieces(LARGE))
    async with host.runtime.database.sessions.begin() as session:
        await session.execute(text("INSERT INTO script_packages_uploads (id) VALUES (gen_random_uuid())"))
    await blobs.drop_unfinished(3600)
    assert await count(host, "uploads") == 2
    await blobs.drop_unfinished(0)
    assert await count(host, "uploads") == 1
    assert await read(blobs, DIGEST) == LARGE
