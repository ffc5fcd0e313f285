"""Files that are there as a whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read, all of it or nothing.

    It is either the old file or the whole new one, and it survives a power failure once this returns.

    Both the file and the directory that names it are synchronised (fsync(2)). Raises `OSError`; the old file is still
    there then. A process that dies in the middle leaves a draft, whose name ends in `.draft`.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    _synchronise(path.parent)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that is at `path` once the block has ended well, and otherwise never was.

    It takes nobody's place, only its owner can read it, and it survives a power failure then. It can be sought and read
    back. Raises `FileExistsError` and other `OSError`s.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _put(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    _synchronise(path.parent)


def _put(draft: Path, path: Path) -> None:
    """Give the draft its name. Unlike a rename, a link takes nobody's place; but not every file system has links."""
    try:
        os.link(draft, path)
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}:
            raise
        draft.rename(path)


def _synchronise(path: Path) -> None:
    """Have a directory's names survive a power failure (fsync(2))."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
