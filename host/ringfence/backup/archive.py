"""The file of a backup: a tar of the dump, the keys if they were asked for, the manifest, and their checksums.

`tar xf` unpacks it and `sha256sum -c SHA256SUMS` checks it, should there be no Ringfence at hand. Threat: a file that
was cut off, damaged or made by somebody else is restored. Mechanism: nothing is used before all of it has been read
once and fits its checksums; a member that does not belong here, that is there twice or larger than it may be is an
error, and none is ever unpacked by its name. Not covered: somebody who changes the file and its checksums. What is
restored is run by the database with the rights of its user: keep backups where only those come who may do that.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from ringfence.backup.errors import BackupError
from ringfence.backup.manifest import FORMAT, Manifest
from ringfence.redaction import problems

DUMP, KEYS, MANIFEST, SUMS = "database.dump", "keys.json", "manifest.json", "SHA256SUMS"
_SMALL = frozenset({KEYS, MANIFEST, SUMS})
MOST_SMALL_BYTES = 16 * 1024 * 1024
PIECE_BYTES = 1024 * 1024
_SUM = re.compile(r"([0-9a-f]{64})  ([\w.]+)", re.ASCII)

Progress = Callable[[int], None]
"""Hears how many bytes have been dealt with."""


class Writer:
    """Writes members one after another into a file that can be sought; `finish` adds the checksums."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sums: dict[str, str] = {}

    def add(self, name: str, pieces: Iterable[bytes]) -> int:
        """Write a member whose size is known only at its end; answers that."""
        begins = self._file.tell()
        self._file.write(bytes(tarfile.BLOCKSIZE))
        digest, size = hashlib.sha256(), 0
        for piece in pieces:
            self._file.write(piece)
            digest.update(piece)
            size += len(piece)
        self._file.write(bytes(-size % tarfile.BLOCKSIZE))
        ends = self._file.tell()
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = size, 0o600, int(time.time())
        self._file.seek(begins)
        self._file.write(info.tobuf(tarfile.GNU_FORMAT))
        self._file.seek(ends)
        self._sums[name] = digest.hexdigest()
        return size

    def finish(self) -> None:
        """Write the checksums, and the end of the tar."""
        self.add(SUMS, ["".join(f"{digest}  {name}\n" for name, digest in self._sums.items()).encode()])
        self._file.write(bytes(2 * tarfile.BLOCKSIZE))


class Archive:
    """A backup that is whole: its manifest, its keys, and the dump to be read."""

    def __init__(
        self,
        tar: tarfile.TarFile,
        dump: tarfile.TarInfo,
        manifest: Manifest,
        keys: Mapping[str, Mapping[str, str]],
    ) -> None:
        self._tar = tar
        self._dump = dump
        self.manifest = manifest
        self.keys = keys
        """Keys by their fingerprints, by plugin; empty if none were asked for."""
        self.dump_bytes = dump.size

    def dump(self) -> Iterator[bytes]:
        """The dump, in pieces."""
        return _pieces(self._tar, self._dump)


def opened(file: BinaryIO, path: Path, progress: Progress = lambda _: None) -> Archive:
    """Read all of the file, and check it. Raises `BackupError`."""
    try:
        tar = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115  (the caller owns the file)
        members = _members(tar, path)
        sums = _sums(_content(tar, members, SUMS, path), path)
        done = 0
        for name in sorted(members.keys() - {SUMS}):
            digest = hashlib.sha256()
            for piece in _pieces(tar, members[name]):
                digest.update(piece)
                done += len(piece)
                progress(done)
            if sums.get(name) != digest.hexdigest():
                raise BackupError(
                    f"{path} is damaged: {name} does not have the checksum that it was written with"
                )
        if lacking := [name for name in (DUMP, MANIFEST, *sums) if name not in members]:
            raise BackupError(f"{path} is damaged: {lacking[0]} is missing")
        manifest = _manifest(_content(tar, members, MANIFEST, path), path)
        keys = _keys(_content(tar, members, KEYS, path), path) if KEYS in members else {}
    except (tarfile.TarError, EOFError) as error:
        raise BackupError(f"{path} is no backup of Ringfence, or was cut off: {error}") from error
    return Archive(tar, members[DUMP], manifest, keys)


def _members(tar: tarfile.TarFile, path: Path) -> dict[str, tarfile.TarInfo]:
    found: dict[str, tarfile.TarInfo] = {}
    for info in tar:
        if (
            info.name in found
            or info.name not in {DUMP, *_SMALL}
            or info.type != tarfile.REGTYPE
            or info.issparse()
        ):
            raise BackupError(f"{path} is no backup of Ringfence: {info.name!r} does not belong in one")
        if info.name in _SMALL and info.size > MOST_SMALL_BYTES:
            raise BackupError(f"{path} is no backup of Ringfence: {info.name} is too large")
        found[info.name] = info
    if SUMS not in found:
        raise BackupError(f"{path} is no backup of Ringfence, or was cut off: {SUMS} is missing")
    return found


def _content(tar: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], name: str, path: Path) -> bytes:
    content = b"".join(_pieces(tar, members[name]))
    if len(content) != members[name].size:
        raise BackupError(f"{path} was cut off within {name}")
    return content


def _pieces(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Iterator[bytes]:
    file = tar.extractfile(info)
    if file is None:
        return
    while piece := file.read(PIECE_BYTES):
        yield piece


def _sums(content: bytes, path: Path) -> dict[str, str]:
    lines = [_SUM.fullmatch(line) for line in content.decode("ascii", "replace").splitlines()]
    if not all(lines):
        raise BackupError(f"{path} is damaged: {SUMS} does not hold checksums")
    return {match[2]: match[1] for match in lines if match}


def _manifest(content: bytes, path: Path) -> Manifest:
    try:
        document = json.loads(content)
        if isinstance(document, dict) and document.get("format", FORMAT) != FORMAT:
            raise BackupError(
                f"{path} was made by a newer release (Ringfence {document.get('ringfence')}): restore it with that one"
            )
        return Manifest.model_validate(document)
    except ValidationError as error:
        raise BackupError(f"{path} is damaged: {MANIFEST}: {problems(error)}") from None
    except ValueError as error:
        raise BackupError(f"{path} is damaged: {MANIFEST} is not JSON") from error


def _keys(content: bytes, path: Path) -> dict[str, dict[str, str]]:
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
        raise BackupError(f"{path} is damaged: {KEYS} does not hold keys")
    return {
        str(plugin): {str(key): str(text) for key, text in keys.items()} for plugin, keys in found.items()
    }
