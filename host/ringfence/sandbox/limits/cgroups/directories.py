"""The directories of runs' cgroups, each locked as long as the supervisor that made it lives and needs it.

A supervisor that was killed cannot clean up, but it cannot keep its locks either: so others know what it has left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "run-"


def make_locked(parent: Path) -> tuple[Path, int]:
    """A new directory, and a descriptor that holds it locked until it is closed."""
    while True:
        path = parent / f"{_PREFIX}{secrets.token_hex(8)}"
        path.mkdir()
        with contextlib.suppress(FileNotFoundError):
            directory = _open(path)
            fcntl.flock(directory, fcntl.LOCK_SH)
            if path.exists():
                return path, directory
            # Somebody swept between the making and the lock.
            os.close(directory)


def of_runs(parent: Path) -> tuple[Path, ...]:
    """The directories of runs that are in this one."""
    return tuple(parent.glob(f"{_PREFIX}*"))


@contextlib.contextmanager
def taken_over(path: Path) -> Iterator[int]:
    """Hold what a supervisor has left, by a descriptor. Raises OSError if that is not gone, or the directory is."""
    directory = _open(path)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield directory
    finally:
        os.close(directory)


def write(file: str | Path, value: int, *, within: int | None = None) -> None:
    """Set one of a cgroup's files, named in the directory behind the descriptor `within` or by its whole path."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC, dir_fd=within)
    try:
        os.write(descriptor, f"{value}\n".encode())
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
