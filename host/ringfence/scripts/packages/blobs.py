"""The files of registries that are on this machine, each under its SHA-256.

Threat: a file that was cut short, or changed on the disk or on its way, is unpacked as the one that was locked.
Mechanism: a file gets its name only when all of it is there, hashed and synchronised; and it is hashed again whenever
it is used, from the descriptor that is then read. One that is not what its name says is removed, so that it is fetched
again. Not covered: who can write to the directory can also write to what is made from it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from ringfence.scripts.packages.errors import BlobDamagedError, BlobMissingError
from ringfence.scripts.packages.lock import LockedFile
from ringfence.scripts.packages.locking import locked
from ringfence.scripts.packages.unpacking import CHUNK

_NAME = re.compile(r"([0-9a-f]{64})(\.part)?")


class Blobs(Protocol):
    """Where the files of packages are read from."""

    def open(self, file: LockedFile) -> BinaryIO:
        """The file, from its beginning, once it was seen to be what it is to be.

        Raises:
            BlobMissingError: if it is not on this machine.
            BlobDamagedError: if it is another.
        """


class BlobDirectory:
    """Blobs as files of one directory, which several processes may use at once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def missing(self, files: Iterable[LockedFile]) -> tuple[LockedFile, ...]:
        """Which of these are not here."""
        return tuple(file for file in files if not self._path(file).is_file())

    def open(self, file: LockedFile) -> BinaryIO:
        """See `Blobs.open`."""
        try:
            stream = self._path(file).open("rb")
        except FileNotFoundError:
            raise BlobMissingError(f"{file.filename} is not on this machine") from None
        try:
            if _hashed(stream) != (file.sha256, file.size):
                self._path(file).unlink(missing_ok=True)
                raise BlobDamagedError(f"{file.filename} on this machine is damaged; it is fetched again")
            os.utime(stream.fileno())
            stream.seek(0)
        except BaseException:
            stream.close()
            raise
        return stream

    @contextlib.contextmanager
    def receiving(self, file: LockedFile) -> Iterator[Arriving]:
        """Take a file in, from where an earlier attempt has ended. Another process that does so is waited for.

        What has arrived stays when this is left, whole or not. It may be there already: see `Arriving.size`.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self._path(file).with_suffix(".part")
        with locked(part) as descriptor:
            yield Arriving(file, part, self._path(file), descriptor)

    def collect(self, wanted: Collection[str], grace_s: float) -> int:
        """Remove the blobs, by their SHA-256, that nobody wants or has used for so long. How many bytes that were."""
        freed = 0
        for entry in [*os.scandir(self._directory)] if self._directory.is_dir() else []:
            name = _NAME.fullmatch(entry.name)
            if name is None or name[1] in wanted:
                continue
            with contextlib.suppress(FileNotFoundError):
                found = entry.stat(follow_symlinks=False)
                if found.st_mtime <= time.time() - grace_s:
                    os.unlink(entry.path)
                    freed += found.st_size
        return freed

    def _path(self, file: LockedFile) -> Path:
        return self._directory / file.sha256


class Arriving:
    """A file of which a part is here. `size` is how many bytes that are, and where the next one belongs."""

    def __init__(self, file: LockedFile, part: Path, path: Path, descriptor: int) -> None:
        self._file = file
        self._part = part
        self._path = path
        self._descriptor = descriptor
        if path.is_file():
            self.size = file.size
            self.whole = True
            part.unlink(missing_ok=True)
            return
        self.whole = False
        self.size = os.lseek(descriptor, 0, os.SEEK_END)
        if self.size > file.size:
            os.ftruncate(descriptor, 0)
            self.size = os.lseek(descriptor, 0, os.SEEK_SET)

    def write(self, chunk: bytes) -> None:
        """Take the next bytes. Raises `BlobDamagedError` if there are more than the file has."""
        if self.whole or self.size + len(chunk) > self._file.size:
            self._forget()
            raise BlobDamagedError(f"{self._file.filename} is longer than its {self._file.size} bytes")
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self.size += len(chunk)

    def finish(self) -> None:
        """Keep the file, now that all of it is here. Raises `BlobDamagedError`, and keeps nothing, if it is another."""
        if self.whole:
            return
        with self._part.open("rb") as stream:
            if _hashed(stream) != (self._file.sha256, self._file.size):
                self._forget()
                raise BlobDamagedError(
                    f"{self._file.filename} has arrived, but its hash differs from the lock's"
                )
        os.fsync(self._descriptor)
        self._part.replace(self._path)
        self.whole = True
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _forget(self) -> None:
        os.ftruncate(self._descriptor, 0)
        self.size = os.lseek(self._descriptor, 0, os.SEEK_SET)


def _hashed(stream: BinaryIO) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while chunk := stream.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size
