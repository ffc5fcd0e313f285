"""The file of a backup: what is whole is read, and nothing else is."""

from __future__ import annotations

import datetime as dt
import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from ringfence.backup import archive
from ringfence.backup.errors import BackupError
from ringfence.backup.manifest import Contents, Manifest

PATH = Path("some.backup")
MANIFEST = Manifest(
    ringfence="0.1.0",
    made_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    pg_dump=18,
    contents=Contents(
        server=180_000,
        database_bytes=1,
        extensions={},
        revisions={"host": ("host_0001",)},
        event_log=None,
        streams={},
        rows={"public.events": 0},
    ),
)


def written(*, manifest: str | None = None, keys: bytes | None = None) -> bytes:
    file = io.BytesIO()
    writer = archive.Writer(file)
    writer.add(archive.DUMP, [b"a" * 700, b"b" * 700])
    if keys is not None:
        writer.add(archive.KEYS, [keys])
    writer.add(archive.MANIFEST, [(manifest or MANIFEST.model_dump_json(by_alias=True)).encode()])
    writer.finish()
    return file.getvalue()


def test_what_was_written_is_read(tmp_path: Path) -> None:
    content = written(keys=b'{"secrets": {"f1": "k1"}}')
    seen: list[int] = []
    found = archive.opened(io.BytesIO(content), PATH, seen.append)
    assert found.manifest == MANIFEST
    assert found.keys == {"secrets": {"f1": "k1"}}
    assert b"".join(found.dump()) == b"a" * 700 + b"b" * 700
    assert seen[-1] > 1400
    # By other means as well, where there is no Ringfence at hand.
    (tmp_path / "backup").write_bytes(content)
    subprocess.run(["tar", "xf", "backup"], cwd=tmp_path, check=True)
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path, check=True)


def test_a_file_that_was_cut_off_anywhere_is_refused() -> None:
    content = written()
    for length in (0, 1, 511, 512, 900, 1600, len(content) - 2000, len(content) - 1200):
        with pytest.raises(BackupError):
            archive.opened(io.BytesIO(content[:length]), PATH)


def test_a_byte_that_was_changed_anywhere_in_it_is_noticed() -> None:
    content = written(keys=b'{"secrets": {"f1": "k1"}}')
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        places = [one.offset_data + one.size // 2 for one in tar]
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1
        with pytest.raises(BackupError, match=r"damaged|no backup"):
            archive.opened(io.BytesIO(bytes(changed)), PATH)


def _with_member(change: Callable[[tarfile.TarInfo], bytes]) -> bytes:
    """A backup with one member more in front."""
    info = tarfile.TarInfo("keys.json")
    content = change(info)
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512) + written()


def _named(
    name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b""
) -> Callable[[tarfile.TarInfo], bytes]:
    def change(info: tarfile.TarInfo) -> bytes:
        info.name, info.type, info.size = name, kind, len(content)
        return content

    return change


@pytest.mark.parametrize(
    "change",
    [
        _named("../../etc/passwd", content=b"x"),
        _named("/etc/passwd", content=b"x"),
        _named("keys.json", tarfile.SYMTYPE),
        _named("keys.json", tarfile.LNKTYPE),
        _named("keys.json", tarfile.CHRTYPE),
        _named("database.dump", content=b"another"),
        _named("keys.json", content=b"without a checksum"),
    ],
)
def test_what_does_not_belong_in_a_backup_is_refused(change: Callable[[tarfile.TarInfo], bytes]) -> None:
    with pytest.raises(BackupError):
        archive.opened(io.BytesIO(_with_member(change)), PATH)


def test_a_small_part_that_is_large_is_not_read() -> None:
    class Endless(io.RawIOBase):
        """A file that says that its manifest has terabytes."""

        def __init__(self) -> None:
            info = tarfile.TarInfo("manifest.json")
            info.size = 1 << 42
            self._head = io.BytesIO(info.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 16))

        def readable(self) -> bool:
            return True

        def seekable(self) -> bool:
            return True

        def tell(self) -> int:
            return self._head.tell()

        def seek(self, offset: int, whence: int = 0) -> int:
            return self._head.seek(offset, whence)

        def read(self, size: int = -1) -> bytes:
            return self._head.read(size)

    with pytest.raises(BackupError):
        archive.opened(Endless(), PATH)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        ('{"format": 2, "ringfence": "9.9"}', r"newer release \(Ringfence 9.9\)"),
        ("[]", "damaged"),
        ("{", "not JSON"),
        ('{"format": 1}', "damaged"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_told(manifest: str, why: str) -> None:
    with pytest.raises(BackupError, match=why):
        archive.opened(io.BytesIO(written(manifest=manifest)), PATH)


def test_keys_that_are_none_are_told() -> None:
    for keys in (b"[]", b'{"secrets": 1}', b"{"):
        with pytest.raises(BackupError, match="does not hold keys"):
            archive.opened(io.BytesIO(written(keys=keys)), PATH)
