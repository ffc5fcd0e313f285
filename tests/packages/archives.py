"""Wheels and tarballs as registries have them, and as attackers make them: built here, byte by byte."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from ringfence.scripts.packages.blobs import BlobDirectory
from ringfence.scripts.packages.lock import Lock, LockedFile, NodePackage, PythonPackage

Member = tuple[zipfile.ZipInfo | str, bytes]


def record_row(name: str, content: bytes) -> str:
    """A row of RECORD that tells the truth."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    return f"{name},sha256={digest},{len(content)}"


def wheel(
    name: str,
    files: Mapping[str, bytes | str],
    *,
    version: str = "1.0",
    record: Iterable[str] | None = None,
    also: Iterable[Member] = (),
) -> bytes:
    """A wheel of pure Python. `record` in place of true rows, `also` what the zip has beside, without a row."""
    info = f"{name}-{version}.dist-info"
    content = {path: text.encode() if isinstance(text, str) else text for path, text in files.items()}
    content[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    content[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    rows = [record_row(*each) for each in content.items()] if record is None else list(record)
    content[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in content.items():
            # Without the time: the same files make the same wheel.
            archive.writestr(zipfile.ZipInfo(path), data, zipfile.ZIP_DEFLATED)
        for member, data in also:
            archive.writestr(member, data)
    return out.getvalue()


def tarball(files: Mapping[str, bytes | str], also: Iterable[tuple[tarfile.TarInfo, bytes]] = ()) -> bytes:
    """A tarball of npm. The names are those within `package/`; `also` are members as they are."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for path, text in files.items():
            data = text.encode() if isinstance(text, str) else text
            member = tarfile.TarInfo(f"package/{path}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for member, data in also:
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def npm(name: str, files: Mapping[str, str] | None = None, **package: object) -> bytes:
    """A package of npm that exports its own name."""
    described = {"name": name, "version": "1.0.0", "main": "index.js", **package}
    return tarball(
        {"package.json": json.dumps(described), "index.js": f"module.exports = '{name}';\n", **(files or {})}
    )


def gzipped(data: bytes) -> bytes:
    """`data` as small as it can be."""
    return gzip.compress(data, 9)


class Registry:
    """Blobs in a directory, and a lock of what was put there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.blobs = BlobDirectory(directory)
        self._python: list[PythonPackage] = []
        self._node: list[NodePackage] = []

    def keep(self, filename: str, data: bytes) -> LockedFile:
        """Put a blob there, whatever it is."""
        file = LockedFile(filename=filename, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        (self.directory / file.sha256).write_bytes(data)
        return file

    def python(self, name: str, data: bytes, version: str = "1.0") -> Registry:
        """A Python package with one wheel."""
        file = self.keep(f"{name.replace('-', '_')}-{version}-py3-none-any.whl", data)
        self._python.append(PythonPackage(name=name, version=version, files=(file,)))
        return self

    def real_python(self, name: str, version: str, wheel: Path) -> Registry:
        """A Python package with a wheel that somebody else has made."""
        file = self.keep(wheel.name, wheel.read_bytes())
        self._python.append(PythonPackage(name=name, version=version, files=(file,)))
        return self

    def node(self, path: str, data: bytes) -> Registry:
        """A package of npm."""
        name = path.rpartition("node_modules/")[2]
        file = self.keep(f"{name.replace('/', '-')}-1.0.0.tgz", data)
        self._node.append(NodePackage(path=path, name=name, version="1.0.0", file=file))
        return self

    @property
    def lock(self) -> Lock:
        """The lock of all that."""
        return Lock(python=tuple(self._python), node=tuple(self._node))
