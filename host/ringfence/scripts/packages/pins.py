"""Pins: what holds a tree where it is while something uses it, in whatever process that is."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

from ringfence.scripts.packages import locking


class Pin:
    """A tree that stays as it is until this is closed, or its process ends. It may be closed from any thread."""

    def __init__(self, path: Path, lock_file: Path, descriptor: int) -> None:
        self.path = path
        self._lock_file = lock_file
        self._descriptor: int | None = descriptor
        self._lock = threading.Lock()

    def again(self) -> Pin | None:
        """One more for the same tree, to be closed on its own; None if this is closed, and the tree has gone since."""
        return pin(self.path, self._lock_file)

    def close(self) -> None:
        """Let go of the tree. Again does nothing."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            # From now on the time counts that an unused tree is kept.
            with contextlib.suppress(OSError):
                os.utime(descriptor)
            os.close(descriptor)

    def __enter__(self) -> Pin:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def pin(path: Path, lock_file: Path) -> Pin | None:
    """Pin the tree at `path`; None if there is none. It waits at most while a collection renames a directory."""
    while path.is_dir():
        descriptor = locking.take(lock_file, shared=True)
        assert descriptor is not None  # it waits
        if path.is_dir():
            os.utime(descriptor)
            return Pin(path, lock_file, descriptor)
        os.close(descriptor)
    return None
