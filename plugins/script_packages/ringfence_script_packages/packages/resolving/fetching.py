"""Fetches the files that a lock names.

Threat: a file is not what the lock says, has no end, comes a byte an hour, or is elsewhere. Mechanism: it is read in
pieces, no byte more than the lock says, with a deadline; the last piece is given only when the SHA-256 of the whole is
right. A connection that breaks is taken up again where it broke, and the hash is still of the whole.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import ssl
import stat
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import BinaryIO

import httpx
from ringfence.scripts.packages.lock import MAX_FILE_BYTES, LockedFile

from ringfence_script_packages.packages.errors import PackagesError, Why
from ringfence_script_packages.packages.resolving.client import RegistryClient, place_of, unreachable
from ringfence_script_packages.packages.resolving.registries import file_path

PIECE = 256 * 1024
ATTEMPTS = 4
PAUSE_SECONDS = 0.5
AT_ONCE = 6
"""How many files are fetched at once."""

SLOWEST = 32 * 1024
"""How many bytes a second a file has to come with, beside a minute for all."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a file turned out to be."""

    sha256: str
    size: int


class FileFetcher:
    """Implements `Fetcher`: gets files from where a lock says that they are."""

    def __init__(self, client: RegistryClient) -> None:
        self._client = client
        self._places = asyncio.Semaphore(AT_ONCE)

    async def fetch(self, file: LockedFile) -> AsyncGenerator[bytes, None]:
        """The file in pieces; see `Fetcher`."""
        if file.url is None:
            raise PackagesError(
                Why.NOT_FOUND,
                f"{file.filename} is not stored here, and the lock does not say where it is",
                hint="import it from a host that has it, or lock anew: `ringfence packages install --upgrade`",
            )
        digest, count, held = hashlib.sha256(), 0, b""
        async with aclosing(self.raw(file.url, file.filename, file.size)) as pieces:
            async for piece in pieces:
                digest.update(piece)
                count += len(piece)
                if held:
                    yield held
                held = piece
        if count != file.size or digest.hexdigest() != file.sha256:
            raise PackagesError(
                Why.HASH_DIFFERS,
                f"{file.filename} from {place_of(file.url)} is not the file that the lock names: "
                + (f"it has {count} bytes, not {file.size}" if count != file.size else "its SHA-256 differs"),
                package=file.filename,
                hint="somebody has replaced it: find out why before you make a new lock",
            )
        if held:
            yield held

    async def measure(self, url: str, name: str, *, integrity: str | None = None) -> Measured:
        """What a file is of which no SHA-256 is known. It has to be what the index says (`integrity`: `sha512-…`).

        Raises:
            PackagesError: if it cannot be had, or is something else.
        """
        digest, count = hashlib.sha256(), 0
        algorithm, _, wanted = (integrity or "").partition("-")
        other = hashlib.new(algorithm, usedforsecurity=False) if integrity else None
        async with aclosing(self.raw(url, name)) as pieces:
            async for piece in pieces:
                digest.update(piece)
                count += len(piece)
                if other is not None:
                    other.update(piece)
        if other is not None and base64.b64encode(other.digest()).decode() != wanted:
            raise PackagesError(
                Why.HASH_DIFFERS,
                f"the file from {place_of(url)} is not what its registry says: its {algorithm} differs",
                package=name,
                hint="try again; if it stays so, ask whoever runs the registry",
            )
        return Measured(digest.hexdigest(), count)

    async def raw(self, url: str, name: str, most: int = MAX_FILE_BYTES) -> AsyncGenerator[bytes, None]:
        """A file in pieces, of which nothing is known but how large it may be. Raises `PackagesError`."""
        async with self._places:
            read = (
                self._from_disk(url, name) if file_path(url) is not None else self._from_web(url, name, most)
            )
            count = 0
            async with aclosing(read) as pieces:
                async for piece in pieces:
                    count += len(piece)
                    if count > most:
                        raise PackagesError(
                            Why.TOO_LARGE,
                            f"the file from {place_of(url)} has more than the {most} bytes that it should have",
                            package=name,
                            hint="somebody has replaced it: find out why before you make a new lock",
                        )
                    yield piece

    async def _from_web(self, url: str, name: str, most: int) -> AsyncGenerator[bytes, None]:
        count = 0
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 60 + most / SLOWEST
        for attempt in range(ATTEMPTS):
            # What is packed on the way would be counted and hashed as something else.
            headers = {"accept-encoding": "identity"}
            if count:
                headers["range"] = f"bytes={count}-"
            try:
                async with self._client.open(url, headers=headers, package=name) as answer:
                    skip = 0
                    if count and not (answer.headers.get("content-range") or "").startswith(
                        f"bytes {count}-"
                    ):
                        # It starts anew; what differs is found by the hash.
                        skip = count
                    async for piece in answer.aiter_raw(PIECE):
                        if loop.time() > deadline:
                            raise unreachable(url, TimeoutError(), name)
                        if skip:
                            piece, skip = piece[skip:], max(0, skip - len(piece))
                        if piece:
                            count += len(piece)
                            yield piece
                return
            except (httpx.HTTPError, ssl.SSLError, OSError) as error:
                last: PackagesError = unreachable(url, error, name)
            except PackagesError as error:
                if error.why is not Why.UNREACHABLE or loop.time() > deadline:
                    raise
                last = error
            if attempt == ATTEMPTS - 1:
                raise last
            await asyncio.sleep(PAUSE_SECONDS * 2**attempt)

    async def _from_disk(self, url: str, name: str) -> AsyncGenerator[bytes, None]:
        path = file_path(url)
        why = self._client.registries.why_not(url)
        if path is None or why is not None:
            raise PackagesError(Why.FAILED, f"{url} is not read: {why}", package=name)
        try:
            with await asyncio.to_thread(_open_regular, path) as file:
                while piece := await asyncio.to_thread(file.read, PIECE):
                    yield piece
        except FileNotFoundError:
            raise PackagesError(Why.NOT_FOUND, f"there is no {path} any more", package=name) from None
        except OSError as error:
            raise PackagesError(
                Why.FAILED, f"{path} cannot be read: {error.strerror}", package=name
            ) from None


def _open_regular(path: str) -> BinaryIO:
    """Open a plain file, and nothing that reading could wait for."""
    # The path was judged with all its links resolved; it must not be another one by now.
    real = os.path.realpath(path)
    file = os.fdopen(os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise FileNotFoundError(path)
    return file
