"""Having the host's files leave its memory, so that everybody has to read them from the disk again."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.escapes.conftest import Supervisor
from tests.escapes.test_claims import ATTEMPTS

pytestmark = pytest.mark.every_wrapper

PAGE = os.sysconf("SC_PAGE_SIZE")

DROPPING = """
import mmap
with open({path!r}, 'rb') as file:
    print(attempt(os.posix_fadvise, file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED))
    print(attempt(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ).madvise, 21))  # MADV_PAGEOUT
"""


@pytest.fixture(scope="module")
def file() -> Path:
    """A file of several pages that every sandbox shows, and that no program has mapped."""
    for path in sorted(Path("/usr/share").rglob("*")):
        with contextlib.suppress(OSError):
            if path.is_file() and 8 * PAGE < path.stat().st_size < 64 * PAGE and path.stat().st_mode & 0o004:
                return path
    pytest.skip("nothing in /usr/share has several pages")


def in_memory(path: Path) -> Iterator[bool]:
    """Whether each page of a file is in the host's memory."""
    with path.open("rb") as opened:
        for start in range(0, path.stat().st_size, PAGE):
            try:
                os.preadv(opened.fileno(), [bytearray(1)], start, os.RWF_NOWAIT)
                yield True
            except BlockingIOError:
                yield False
            except OSError as error:
                if error.errno == errno.EOPNOTSUPP:
                    pytest.skip("the file system does not tell what is in memory, as a container's may not")
                raise


def test_no_file_of_the_host_leaves_its_memory(supervisor: Supervisor, file: Path) -> None:
    file.read_bytes()
    assert all(in_memory(file))
    result = supervisor.run("python", ATTEMPTS + DROPPING.format(path=str(file)))
    assert result.stdout.split() == ["done", "EINVAL"], result.stderr
    assert all(in_memory(file))
