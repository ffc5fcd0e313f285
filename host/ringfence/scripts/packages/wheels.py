"""Unpacking a wheel: its modules and its metadata, and nothing that would be run by being there.

Threat: a wheel whose RECORD lies about its files, whose zip names files outside, links, devices, or the same twice, or
holds far more than its size; one that would have a program of its choosing put among ours. Mechanism: the list of the
zip is judged before anything is read, each file is compared with RECORD while it is written, and only modules and
metadata are written: scripts, headers and other data of a wheel are for a machine's own directories, which a run does
not have. Compiled `__pycache__` in a wheel is left out, because nothing shows that it is its source's. No code of the
wheel is run. What a `.pth` file says is never done either: only site directories are read for those, and no run has the
tree for one. Not covered: what a module does in the run that imports it.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import stat
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import Any, BinaryIO, cast

import installer
from installer.destinations import WheelDestination
from installer.exceptions import InstallerError
from installer.records import InvalidRecordEntry, RecordEntry, parse_record_file
from installer.sources import WheelContentElement, WheelFile
from installer.utils import Scheme

from ringfence.scripts.packages.unpacking import Archive, parts_of

MAX_METADATA_BYTES = 16 * 1024**2
"""How large a file may be that is read as a whole, in the directory of metadata."""

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_HASHES = ("sha256", "sha384", "sha512")
_SIGNATURES = ("RECORD", "RECORD.jws", "RECORD.p7s")
"""What RECORD cannot have a hash of."""


def unpack_wheel(stream: BinaryIO, filename: str, archive: Archive, directory: str) -> None:
    """Unpack the wheel that is called `filename` into a directory of a tree.

    Raises:
        PackageRefusedError: with what is wrong with it. Part of it may be written by then.
    """
    try:
        with zipfile.ZipFile(stream) as opened, warnings.catch_warnings():
            # Of what is left out, `installer` warns.
            warnings.simplefilter("ignore", RuntimeWarning)
            members = _judged(opened, archive)
            # The name is how a wheel says what it is; the file itself is named by its hash.
            opened.filename = filename
            source = _Checked(opened, archive)
            source.judge(members)
            installer.install(source, _Modules(archive, directory), {"INSTALLER": b"ringfence\n"})
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise archive.refuse(f"it is no wheel, or a damaged one: {error}") from error
    except (
        InstallerError,
        InvalidRecordEntry,
        csv.Error,
        LookupError,
        ValueError,
        NotImplementedError,
    ) as error:
        raise archive.refuse(f"it is no wheel that can be installed: {error}") from error


def _judged(opened: zipfile.ZipFile, archive: Archive) -> list[zipfile.ZipInfo]:
    """The files that the zip lists, if nothing about the list is wrong."""
    files, seen, total = [], set(), 0
    for member in opened.infolist():
        archive.entry()
        if member.orig_filename != member.filename:
            raise archive.refuse(
                f"it names a file with characters that no name has: {member.orig_filename!a}"
            )
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (kind == stat.S_IFDIR) > member.is_dir():
            raise archive.refuse(f"{member.filename!a} is a link, or something else that is no file")
        parts_of(archive.package, member.filename.removesuffix("/"))
        if member.filename in seen:
            raise archive.refuse(f"it names {member.filename!a} twice")
        seen.add(member.filename)
        if member.flag_bits & 1 or member.compress_type not in _METHODS:
            raise archive.refuse(f"{member.filename!a} is encrypted, or packed in a way that wheels are not")
        if not member.is_dir():
            total += member.file_size
            archive.announce(total)
            files.append(member)
    return files


class _Checked(WheelFile):
    """A wheel whose files are compared with RECORD as they are read. A file of it is read to its end, or not used."""

    def __init__(self, opened: zipfile.ZipFile, archive: Archive) -> None:
        super().__init__(opened)
        self._archive = archive
        self._recorded: dict[str, RecordEntry] = {}

    def judge(self, members: list[zipfile.ZipInfo]) -> None:
        """Compare the names in RECORD with those of the zip, in both directions."""
        metadata = self.dist_info_dir
        for member in members:
            if member.filename.startswith(f"{metadata}/") and member.file_size > MAX_METADATA_BYTES:
                raise self._archive.refuse(f"{member.filename} is too large for a file of metadata")
        for row in parse_record_file(self.read_dist_info("RECORD").splitlines()):
            entry = RecordEntry.from_elements(*row)
            if entry.path in self._recorded:
                raise self._archive.refuse(f"its RECORD names {entry.path!a} twice")
            self._recorded[entry.path] = entry
        without = {f"{metadata}/{name}" for name in _SIGNATURES}
        names = {member.filename for member in members}
        if missing := sorted(names - without - set(self._recorded)):
            raise self._archive.refuse(f"its RECORD does not name {missing[0]!a}")
        if missing := sorted(set(self._recorded) - without - names):
            raise self._archive.refuse(f"its RECORD names {missing[0]!a}, which it does not have")
        for name in names - without:
            recorded = self._recorded[name].hash_
            if recorded is None or recorded.name not in _HASHES:
                raise self._archive.refuse(f"its RECORD has no hash of {name!a} that can be relied on")

    def get_contents(self) -> Iterator[WheelContentElement]:
        """Each file as RECORD names it, with a stream that raises at its end if it was another."""
        for elements, stream, executable in super().get_contents():
            entry = self._recorded.get(elements[0])
            if entry is None or entry.hash_ is None:
                yield elements, stream, executable
            else:
                yield elements, cast(BinaryIO, _Compared(stream, entry, self._archive)), executable


class _Compared:
    """A file that is compared with its entry in RECORD while it is read."""

    def __init__(self, stream: BinaryIO, entry: RecordEntry, archive: Archive) -> None:
        self._stream = stream
        self._entry = entry
        self._archive = archive
        self._size = 0
        self._digest: Any = hashlib.new(entry.hash_.name if entry.hash_ else "sha256")

    def read(self, size: int) -> bytes:
        chunk = self._stream.read(size)
        self._digest.update(chunk)
        self._size += len(chunk)
        if not chunk:
            value = base64.urlsafe_b64encode(self._digest.digest()).decode().rstrip("=")
            recorded = self._entry.hash_
            if recorded is None or recorded.value.rstrip("=") != value:
                raise self._archive.refuse(
                    f"{self._entry.path!a} is not what its RECORD says: its hash differs"
                )
            if self._entry.size not in (None, self._size):
                raise self._archive.refuse(
                    f"{self._entry.path!a} is not what its RECORD says: its size differs"
                )
        return chunk


class _Modules(WheelDestination):
    """Takes the modules and the metadata of a wheel, and leaves everything else out."""

    def __init__(self, archive: Archive, directory: str) -> None:
        self._archive = archive
        self._directory = directory

    def write_script(self, name: str, module: str, attr: str, section: Any) -> RecordEntry:
        """Make no program of an entry point."""
        return RecordEntry(name, None, None)

    def write_file(self, scheme: Scheme, path: Any, stream: BinaryIO, is_executable: bool) -> RecordEntry:
        """Write what can be imported."""
        if scheme in ("purelib", "platlib"):
            self._archive.write(f"{self._directory}/{path}", stream, executable=is_executable)
        return RecordEntry(str(path), None, None)

    def finalize_installation(
        self, scheme: Scheme, record_file_path: str, records: Iterable[tuple[Scheme, RecordEntry]]
    ) -> None:
        """Write which files there are, for who asks `importlib.metadata` for them."""
        rows = "".join(
            f"{_quoted(record.path)},,\n" for kind, record in records if kind in ("purelib", "platlib")
        )
        self._archive.write(f"{self._directory}/{record_file_path}", BytesIO(rows.encode()))


def _quoted(path: str) -> str:
    return '"' + path.replace('"', '""') + '"' if '"' in path or "," in path else path
