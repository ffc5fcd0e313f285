"""Files of registries on this machine: each is what its name says, however it came and was left."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from ringfence.scripts.packages.blobs import BlobDirectory
from ringfence.scripts.packages.errors import BlobDamagedError, BlobMissingError
from ringfence.scripts.packages.lock import LockedFile

CONTENT = os.urandom(1000)
FILE = LockedFile(filename="x.tgz", sha256=hashlib.sha256(CONTENT).hexdigest(), size=len(CONTENT))


@pytest.fixture
def blobs(tmp_path: Path) -> BlobDirectory:
    return BlobDirectory(tmp_path / "blobs")


def receive(blobs: BlobDirectory, content: bytes) -> None:
    with blobs.receiving(FILE) as arriving:
        arriving.write(content)
        arriving.finish()


def test_a_file_that_has_arrived_is_there_and_can_be_read(blobs: BlobDirectory, tmp_path: Path) -> None:
    assert blobs.missing([FILE]) == (FILE,)
    with pytest.raises(BlobMissingError):
        blobs.open(FILE)
    receive(blobs, CONTENT)
    assert blobs.missing([FILE]) == ()
    with blobs.open(FILE) as stream:
        assert stream.read() == CONTENT
    assert os.listdir(tmp_path / "blobs") == [FILE.sha256]


def test_a_file_goes_on_where_an_earlier_attempt_has_ended(blobs: BlobDirectory) -> None:
    with blobs.receiving(FILE) as arriving:
        arriving.write(CONTENT[:300])
    assert blobs.missing([FILE]) == (FILE,)
    with blobs.receiving(FILE) as arriving:
        assert (arriving.size, arriving.whole) == (300, False)
        arriving.write(CONTENT[300:])
        arriving.finish()
    with blobs.receiving(FILE) as arriving:
        assert arriving.whole
    assert blobs.missing([FILE]) == ()


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"!", CONTENT[:-1], CONTENT + b"!", b""])
def test_another_file_is_not_kept_and_nothing_of_it_is_used_again(
    blobs: BlobDirectory, content: bytes
) -> None:
    with pytest.raises(BlobDamagedError):
        receive(blobs, content)
    assert blobs.missing([FILE]) == (FILE,)
    with blobs.receiving(FILE) as arriving:
        assert arriving.size == 0
        arriving.write(CONTENT)
        arriving.finish()


def test_a_file_that_was_changed_on_the_disk_is_found_out_and_removed(
    blobs: BlobDirectory, tmp_path: Path
) -> None:
    receive(blobs, CONTENT)
    (tmp_path / "blobs" / FILE.sha256).write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(BlobDamagedError, match="it is fetched again"):
        blobs.open(FILE)
    assert blobs.missing([FILE]) == (FILE,)


def test_what_nobody_wants_goes_after_its_time_and_nothing_else(blobs: BlobDirectory, tmp_path: Path) -> None:
    receive(blobs, CONTENT)
    other = tmp_path / "blobs" / "README"
    other.write_text("")
    assert blobs.collect([FILE.sha256], 0) == 0
    assert blobs.collect([], 3600) == 0
    assert blobs.missing([FILE]) == ()
    assert blobs.collect([], 0) == len(CONTENT)
    assert blobs.missing([FILE]) == (FILE,)
    assert other.exists()
    assert BlobDirectory(tmp_path / "nowhere").collect([], 0) == 0
