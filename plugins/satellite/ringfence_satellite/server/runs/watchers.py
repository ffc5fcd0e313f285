"""Who waits on this instance for something to happen to a run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID


class Watchers:
    """Wakes those who look at a run when it may have changed."""

    def __init__(self) -> None:
        self._watching: dict[UUID, list[asyncio.Event]] = {}

    @contextmanager
    def watching(self, run: UUID) -> Iterator[asyncio.Event]:
        """An event that is set whenever the run may have changed, while the block runs."""
        changed = asyncio.Event()
        self._watching.setdefault(run, []).append(changed)
        try:
            yield changed
        finally:
            others = [one for one in self._watching[run] if one is not changed]
            if others:
                self._watching[run] = others
            else:
                del self._watching[run]

    def waiting(self, run: UUID) -> int:
        """How many look at this run."""
        return len(self._watching.get(run, ()))

    def changed(self, run: UUID) -> None:
        """Wake everybody who looks at this run."""
        for one in self._watching.get(run, ()):
            one.set()

    def any_changed(self) -> None:
        """Wake everybody: something has happened to runs that nobody names."""
        for run in self._watching:
            self.changed(run)
