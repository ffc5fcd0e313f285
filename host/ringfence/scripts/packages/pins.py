"""Pins: what holds a tree where it is while something uses it, in whatever process that is."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path


class Pin:
    """A tree that stays as it is until this is closed, or its process ends. It may be closed from any thread."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor
        self._lock = threading.Lock()

    def again(self) -> Pin:
        """One more for the same tree, to be closed on its own."""
        with self._lock:
            if self._descriptor is None:
                raise ValueError("this pin is closed")
            # The lock belongs to the open file (flock(2)): it is held until every duplicate is closed.
            return Pin(self.path, os.dup(self._descriptor))

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
