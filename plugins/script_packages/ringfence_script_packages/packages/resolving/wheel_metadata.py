"""Reads what a wheel says of itself, where its index does not have that beside it.

Threat: a wheel is an archive of a stranger's: it may name a file of gigabytes that is a kilobyte long here, or a
thousand such. Mechanism: one member is read, by its exact place, and no further than a bound. Nothing is unpacked.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
import zipfile
from collections.abc import AsyncIterator
from typing import IO

from packaging.utils import canonicalize_name

from ringfence_script_packages.packages.resolving.fetching import Measured

LARGEST_METADATA = 8 * 1024 * 1024
LARGEST_DIRECTORY = 32 * 1024 * 1024
"""How large an archive's list of members may be, which is held in memory."""

_END, _END_BYTES, _LONGEST_COMMENT = b"PK\5\6", 22, 0xFFFF
_LARGE_END, _LARGE_END_BYTES = b"PK\6\7", 20
_IN_MEMORY = 1024 * 1024


class UnreadableWheelError(ValueError):
    """A wheel is no archive, or says nothing of itself."""


async def read_wheel(pieces: AsyncIterator[bytes], name: str) -> tuple[bytes, Measured]:
    """The METADATA of a wheel of that package, and what the whole file is.

    Raises:
        UnreadableWheelError: if it has none.
    """
    digest, count = hashlib.sha256(), 0
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
        async for piece in pieces:
            digest.update(piece)
            count += len(piece)
            await asyncio.to_thread(file.write, piece)
        return await asyncio.to_thread(_metadata, file, name), Measured(digest.hexdigest(), count)


def _judge_directory(file: IO[bytes]) -> None:
    """Refuse a list of members that is too long, before anybody reads it (APPNOTE.TXT 4.3.16)."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _LARGE_END_BYTES - _END_BYTES - _LONGEST_COMMENT))
    tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_BYTES:
        raise UnreadableWheelError("it is no archive")
    if tail[max(0, at - _LARGE_END_BYTES) : at].startswith(_LARGE_END):
        raise UnreadableWheelError("it has the form of archives of more than 4 GiB")
    if int.from_bytes(tail[at + 12 : at + 16], "little") > LARGEST_DIRECTORY:
        raise UnreadableWheelError("it has too many files")


def _metadata(file: IO[bytes], name: str) -> bytes:
    try:
        _judge_directory(file)
        with zipfile.ZipFile(file) as archive:
            for member in archive.namelist():
                directory, _, rest = member.partition("/")
                owner = directory.removesuffix(".dist-info").partition("-")[0]
                if (
                    rest == "METADATA"
                    and directory.endswith(".dist-info")
                    and canonicalize_name(owner) == name
                ):
                    with archive.open(member) as opened:
                        text = opened.read(LARGEST_METADATA + 1)
                    if len(text) > LARGEST_METADATA:
                        raise UnreadableWheelError("its METADATA is too large")
                    return text
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise UnreadableWheelError(f"it cannot be read as a wheel: {error}") from error
    raise UnreadableWheelError("it has no METADATA")
