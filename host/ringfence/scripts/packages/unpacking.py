"""Writing the files of packages into a new directory: under names that stay within it, and no more than is allowed.

Threat: an archive that names files outside (`..`, absolute names), names one file twice, or two that some file systems
take for one; one that unpacks to more than a disk holds, or to millions of files; two packages, one of which would
replace a file of the other. Mechanism: every name is checked part by part before anything is made; files are made new
(`O_EXCL`), never opened again, and are only ever plain files, with rights of our choosing; what is written is counted
as it comes, whatever an archive has announced. Only we write there, and nothing makes a link there, so a checked name
leads where it says. Not covered: what is in the files.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ringfence.scripts.packages.errors import PackageRefusedError

MAX_NAME_BYTES, MAX_PATH_BYTES, MAX_DEPTH = 255, 1024, 64
"""How long one part of a name may be (what file systems take), a whole name, and how many parts it may have."""

CHUNK = 256 * 1024

RATIO = 200
"""So many times the size of an archive may be what it holds. Compressed text has less than 20."""

RATIO_FROM = 16 * 1024**2
"""An archive may always hold so much."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may be unpacked for one tree."""

    files: int = 200_000
    bytes: int = 2 * 1024**3


def parts_of(package: str, name: str) -> tuple[str, ...]:
    """The parts of a name in an archive. Raises `PackageRefusedError` for one that leads elsewhere, or cannot be."""
    parts = tuple(name.split("/"))
    if any(part in ("", ".", "..") for part in parts):
        raise PackageRefusedError(package, f"it names a file outside of itself, or none: {name!a}")
    if any(unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp") for each in name):
        raise PackageRefusedError(package, f"it names a file with characters that no name has: {name!a}")
    longest = max(len(part.encode()) for part in parts)
    if longest > MAX_NAME_BYTES or len(name.encode()) > MAX_PATH_BYTES or len(parts) > MAX_DEPTH:
        raise PackageRefusedError(package, f"it names a file with too long a name: {name[:100]!a}…")
    return parts


@dataclass(frozen=True, slots=True)
class _Owned:
    """A name that is taken: its spelling, and of a file what it holds and whose it is."""

    spelling: str
    digest: str | None
    package: str


class Unpacking:
    """The files of one tree as they are written. `root` is an empty directory that nobody else writes to."""

    def __init__(self, root: Path, bounds: Bounds) -> None:
        self.root = root
        self._bounds = bounds
        self._entries = self._files = self._bytes = 0
        # By what is the same for a file system that does not tell case, or spellings of one character, apart.
        self._taken: dict[str, _Owned] = {}

    def archive(self, package: str, size: int) -> Archive:
        """What one archive of `size` bytes may write."""
        return Archive(self, package, max(RATIO_FROM, RATIO * size))

    def directory(self, name: str) -> None:
        """Have a directory, also if no package writes to it."""
        self.claim(name, (name, "any"))

    def count(self, package: str, *, entries: int = 0, files: int = 0, written: int = 0) -> None:
        """Count what is read of an archive, and what is written for a package."""
        self._entries += entries
        self._files += files
        self._bytes += written
        if max(self._files, self._entries) > self._bounds.files:
            raise PackageRefusedError(package, f"the tree would have more than {self._bounds.files} files")
        if self._bytes > self._bounds.bytes:
            raise PackageRefusedError(package, f"the tree would have more than {self._bounds.bytes} bytes")

    def claim(self, package: str, parts: tuple[str, ...]) -> _Owned | None:
        """Take the directories of a name; whose the name itself is already."""
        for depth in range(1, len(parts)):
            directory = "/".join(parts[:depth])
            owned = self._owner(package, directory)
            if owned is None:
                (self.root / directory).mkdir()
                (self.root / directory).chmod(0o755)
                self._taken[_folded(directory)] = _Owned(directory, None, package)
            elif owned.digest is not None:
                raise PackageRefusedError(
                    package, f"{directory} is a directory of it, and a file of {owned.package}"
                )
        return self._owner(package, "/".join(parts))

    def own(self, package: str, name: str, digest: str) -> None:
        """Note whose a file is that was written."""
        self._taken[_folded(name)] = _Owned(name, digest, package)

    def _owner(self, package: str, name: str) -> _Owned | None:
        owned = self._taken.get(_folded(name))
        if owned is not None and owned.spelling != name:
            raise PackageRefusedError(
                package, f"{name!a} and {owned.spelling!a} of {owned.package} differ only by case"
            )
        return owned


class Archive:
    """What one archive may write: its own files, each once, and in all no more than its size allows."""

    def __init__(self, unpacking: Unpacking, package: str, most: int) -> None:
        self.package = package
        self.most = most
        self._unpacking = unpacking
        self._written = 0
        self._own: set[str] = set()

    def refuse(self, reason: str) -> PackageRefusedError:
        """The error for this archive."""
        return PackageRefusedError(self.package, reason)

    def entry(self) -> None:
        """Count an entry of the archive, be it a file or not."""
        self._unpacking.count(self.package, entries=1)

    def announce(self, size: int) -> None:
        """Refuse at once what says itself that it is too much."""
        if size < 0 or self._written + size > self.most:
            raise self.refuse(
                f"it holds far more than it could, compressed as it is (over {self.most} bytes)"
            )

    def write(self, name: str, stream: BinaryIO, *, executable: bool = False) -> None:
        """Write one file of the archive. What another package has as well must be the same."""
        parts = parts_of(self.package, name)
        if name in self._own:
            raise self.refuse(f"it names {name!a} twice")
        self._own.add(name)
        self._unpacking.count(self.package, files=1)
        owned = self._unpacking.claim(self.package, parts)
        if owned is not None and owned.digest is None:
            raise self.refuse(f"{name} is a file of it, and a directory of {owned.package}")
        if owned is not None:
            if self._copy(stream, None) != owned.digest:
                raise self.refuse(f"{owned.package} has another file with the same name, {name}")
            return
        path = self._unpacking.root / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb", buffering=0) as file:
            digest = self._copy(stream, file.fileno())
            os.fchmod(descriptor, 0o755 if executable else 0o644)
        self._unpacking.own(self.package, name, digest)

    def _copy(self, stream: BinaryIO, descriptor: int | None) -> str:
        digest = hashlib.sha256()
        while chunk := stream.read(CHUNK):
            self.announce(len(chunk))
            self._written += len(chunk)
            self._unpacking.count(self.package, written=len(chunk))
            digest.update(chunk)
            rest = memoryview(chunk)
            while descriptor is not None and rest:
                rest = rest[os.write(descriptor, rest) :]
        return digest.hexdigest()


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
