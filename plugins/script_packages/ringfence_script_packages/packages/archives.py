"""A set as one file, for a host without internet: a tar archive with what is allowed, the lock, and the files.

Threat: a file that was made elsewhere holds paths, links, more than it says, or other bytes than the lock names; it may
have no end. Mechanism: nothing is unpacked to a disk; only plain members are read, each of a name and a size that the
lock in the first member knows, and each once; nothing may follow them; each has to be what its SHA-256 says, and all
together no more than a set may have, whether they are stored already or not; and the set is changed in one transaction
once all of it is there. Not covered: whether the packages are good, which who imports them answers for.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import AsyncIterator, Sequence
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, StrictInt, ValidationError
from ringfence import WireModel
from ringfence.bounded import ShortText
from ringfence.redaction import describe
from ringfence.scripts.packages.lock import Lock, LockedFile, Requirement, Sha256

from ringfence_script_packages.packages.errors import WrongBlobError
from ringfence_script_packages.packages.ports import BlobStore
from ringfence_script_packages.packages.requirements import RequirementError, Wanted
from ringfence_script_packages.packages.sets import any_set_name

HEAD = "ringfence-packages.json"
MAX_HEAD_BYTES = 32 * 1024 * 1024
BLOCK = tarfile.BLOCKSIZE
MOST_AT_THE_END = 1024 * 1024
"""How many bytes of nothing may end an archive: programs fill up its last record, which may be of many blocks."""
BLOBS = "blobs/"


class ArchiveError(ValueError):
    """What was given is no archive of a set, or not one that can be taken in."""


class Head(WireModel):
    """The first member of an archive: what it is, and which files follow."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    format: Annotated[StrictInt, Field(ge=1, le=1)] = 1
    set: Annotated[ShortText, AfterValidator(any_set_name)]
    requirements: Annotated[tuple[Requirement, ...], Field(max_length=5000)]
    lock: Lock
    lock_hash: Sha256
    blobs: tuple[Sha256, ...]

    @property
    def wanted(self) -> tuple[Wanted, ...]:
        """What is allowed. Raises `RequirementError`."""
        return tuple(Wanted.parse(one.ecosystem, one.text) for one in self.requirements)


async def exported(head: Head, blobs: BlobStore) -> AsyncIterator[bytes]:
    """The archive, piece by piece."""
    sizes = {file.sha256: file.size for file in head.lock.files}
    first = json.dumps(head.model_dump(mode="json", by_alias=True)).encode()
    yield _header(HEAD, len(first)) + first + _padding(len(first))
    for sha256 in head.blobs:
        yield _header(BLOBS + sha256, sizes[sha256])
        async for piece in blobs.open(sha256):
            yield piece
        yield _padding(sizes[sha256])
    yield bytes(2 * BLOCK)


async def imported(content: AsyncIterator[bytes], blobs: BlobStore, *, most_bytes: int) -> Head:
    """Store the files of an archive, and answer what it is. Files that are stored already are compared alone.

    Raises:
        ArchiveError: if it is none, or the files of its set that are here then are more than `most_bytes` together.
    """
    source = _Source(content)
    head = await _head(source)
    files = {file.sha256: file for file in head.lock.files}
    if unknown := set(head.blobs) - files.keys():
        raise ArchiveError(f"it holds {len(unknown)} files that its lock does not name")
    if len(set(head.blobs)) < len(head.blobs):
        raise ArchiveError("it says that it holds a file twice")
    there = await blobs.touch(files)
    if sum(files[sha256].size for sha256 in there.union(head.blobs)) > most_bytes:
        raise ArchiveError(
            f"its files are more than the {most_bytes} bytes that a set may have: raise "
            "RINGFENCE_SCRIPT_PACKAGES_MAX_SET_MIB to take it in"
        )
    for sha256 in head.blobs:
        await _take(source, files[sha256], blobs)
    await source.end()
    return head


async def _head(source: _Source) -> Head:
    name, size = await source.member()
    if name != HEAD or size > MAX_HEAD_BYTES:
        raise ArchiveError("it is no archive that `ringfence packages export` has made")
    text = b"".join([piece async for piece in source.read(size)])
    try:
        head = Head.model_validate_json(text)
        _ = head.wanted
    except ValidationError as error:
        raise ArchiveError(f"its first member is not valid: {describe(error)}") from error
    except RequirementError as error:
        raise ArchiveError(f"it allows what cannot be allowed: {error}") from error
    if head.lock.hash != head.lock_hash:
        raise ArchiveError("its lock is not the one that it says")
    return head


async def _take(source: _Source, file: LockedFile, blobs: BlobStore) -> None:
    name, size = await source.member()
    if (name, size) != (BLOBS + file.sha256, file.size):
        raise ArchiveError(f"{file.filename} should follow, with {file.size} bytes, and does not")
    told = hashlib.sha256()

    async def heard() -> AsyncIterator[bytes]:
        async for piece in source.read(size):
            told.update(piece)
            yield piece

    content = heard()
    try:
        await blobs.put(file.sha256, file.size, content)
    except WrongBlobError as error:
        raise ArchiveError(f"{file.filename} is not what its lock says: {error}") from error
    # Where it was stored already, nobody has read it.
    async for _ in content:
        pass
    if told.hexdigest() != file.sha256:
        raise ArchiveError(f"{file.filename} is not what its lock says: its SHA-256 is {told.hexdigest()}")


class _Source:
    """Reads a tar archive (POSIX.1-1988, ustar) that comes in pieces."""

    def __init__(self, content: AsyncIterator[bytes]) -> None:
        self._content = content
        self._held = b""

    async def member(self) -> tuple[str, int]:
        """The name and the size of the next member. Raises `ArchiveError` for whatever is no plain file."""
        block = b"".join([piece async for piece in self.read(BLOCK, padded=False)])
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except (tarfile.TarError, ValueError) as error:
            raise ArchiveError(f"it is no tar archive: {error}") from error
        if info.type != tarfile.REGTYPE or info.size < 0:
            raise ArchiveError("it holds something that is no plain file")
        return info.name, info.size

    async def read(self, size: int, *, padded: bool = True) -> AsyncIterator[bytes]:
        """The next bytes, and what fills up their last block. Raises `ArchiveError` if it ends before."""
        left = size
        while left:
            piece = await self._some(left)
            left -= len(piece)
            yield piece
        left = -size % BLOCK if padded else 0
        while left:
            left -= len(await self._some(left))

    async def end(self) -> None:
        """Read what ends an archive: blocks of zeros. Raises `ArchiveError` if anything else follows, or too many."""
        read, piece = 0, self._held
        while True:
            read += len(piece)
            if piece.strip(b"\0") or read > MOST_AT_THE_END:
                raise ArchiveError("more follows than it says that it holds")
            try:
                piece = await anext(self._content)
            except StopAsyncIteration:
                break
        if read < 2 * BLOCK:
            raise ArchiveError("it ends too early")

    async def _some(self, most: int) -> bytes:
        while not self._held:
            try:
                self._held = await anext(self._content)
            except StopAsyncIteration:
                raise ArchiveError("it ends too early") from None
        piece, self._held = self._held[:most], self._held[most:]
        return piece


def head_of(name: str, requirements: Sequence[Requirement], lock: Lock, stored: frozenset[str]) -> Head:
    """What an archive of a set says of itself, where these files are stored."""
    blobs = tuple(sorted(file.sha256 for file in lock.files if file.sha256 in stored))
    return Head(set=name, requirements=tuple(requirements), lock=lock, lock_hash=lock.hash, blobs=blobs)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info.tobuf(tarfile.USTAR_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % BLOCK)
