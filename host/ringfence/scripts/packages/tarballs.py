"""Unpacking a tarball of npm: its files, below its place in `node_modules`.

Threat: a tarball that names files outside, links or devices, the same file twice, or holds far more than its size, be
it in files or in headers that a reader takes into memory. Mechanism: the archive is read once from front to back; only
plain files are taken, each name is checked, and what comes out of the decompression is counted however tarfile reads
it. `tarfile`'s own filters are not needed: it never writes anything here, it only reads. No script of a package is run.
Not covered: what a module does in the run that imports it.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from typing import BinaryIO

from ringfence.scripts.packages.unpacking import Archive

LARGEST_READ = 1024**2
"""`tarfile` takes no more at once, except for a header that is meant to fill the memory."""


def unpack_tarball(stream: BinaryIO, archive: Archive, place: str) -> None:
    """Unpack a tarball at its place in a tree. Its first directory, whatever its name, is that place.

    Raises:
        PackageRefusedError: with what is wrong with it. Part of it may be written by then.
    """
    try:
        with (
            gzip.GzipFile(fileobj=stream) as unzipped,
            tarfile.open(
                fileobj=_Forward(unzipped, archive), mode="r:", errors="strict", encoding="utf-8"
            ) as opened,
        ):
            while (member := opened.next()) is not None:
                archive.entry()
                _unpack(opened, member, archive, place)
                # Else tarfile keeps all of them in memory.
                opened.members = []  # type: ignore[attr-defined]
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise archive.refuse(f"it is no tarball of npm, or a damaged one: {error}") from error
    except (ValueError, LookupError, RecursionError) as error:
        raise archive.refuse(f"it has headers that no tarball of npm has: {type(error).__name__}") from error


def _unpack(opened: tarfile.TarFile, member: tarfile.TarInfo, archive: Archive, place: str) -> None:
    name = member.name
    if name.startswith("/"):
        raise archive.refuse(f"it names a file outside of itself: {name!a}")
    if member.isdir():
        return
    if not member.isreg() or member.issparse():
        raise archive.refuse(f"{name!a} is a link, or something else that is no file")
    archive.announce(member.size)
    _, _, within = name.removeprefix("./").partition("/")
    content = opened.extractfile(member)
    if content is None:
        raise archive.refuse(f"{name!a} has no content")
    archive.write(f"{place}/{within}", content, executable=bool(member.mode & 0o111))  # type: ignore[arg-type]


class _Forward(io.RawIOBase):
    """A stream that is read forwards alone, in small pieces, up to what the archive may hold."""

    def __init__(self, stream: gzip.GzipFile, archive: Archive) -> None:
        self._stream = stream
        self._archive = archive
        self._at = 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, to: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or to < self._at:
            raise self._archive.refuse("its headers lead backwards")
        while self._at < to and self.read(min(to - self._at, LARGEST_READ)):
            pass
        return self._at

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LARGEST_READ:
            raise self._archive.refuse("it has a header that is far too large")
        data = self._stream.read(size)
        self._at += len(data)
        # A tarball is filled up to whole blocks, which are no content.
        if self._at > 2 * self._archive.most:
            raise self._archive.refuse(f"it unpacks to over {2 * self._archive.most} bytes")
        return data
