"""How far an installation is: kept in the set's row, so that every instance can tell it."""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from ringfence.bounded import cleaned

WRITE_SECONDS = 0.3


class Phase(enum.StrEnum):
    """What an installation does just now."""

    RESOLVING = "resolving"
    FETCHING = "fetching"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is. `doing` is what is being done, in words or as a package's name; sizes are bytes."""

    phase: Phase = Phase.RESOLVING
    doing: str = ""
    packages: int = 0
    packages_done: int = 0
    bytes: int = 0
    bytes_done: int = 0

    def to_wire(self) -> dict[str, Any]:
        """The progress as JSON."""
        return {
            "phase": self.phase.value,
            "doing": self.doing,
            "packages": self.packages,
            "packagesDone": self.packages_done,
            "bytes": self.bytes,
            "bytesDone": self.bytes_done,
        }


@dataclass(slots=True)
class ProgressNote:
    """The progress of one installation, as those who do the work note it."""

    now: Progress = field(default_factory=Progress)

    def doing(self, words: str) -> None:
        """Note what is being done."""
        self.now = replace(self.now, doing=cleaned(words, 300))

    def fetching(self, packages: int, size: int) -> None:
        """Note that so many files are to be fetched."""
        self.now = Progress(Phase.FETCHING, packages=packages, bytes=size)

    def came(self, count: int) -> None:
        """Note that so many bytes more have come."""
        self.now = replace(self.now, bytes_done=self.now.bytes_done + count)

    def one_is_done(self) -> None:
        """Note that another file is stored."""
        self.now = replace(self.now, packages_done=self.now.packages_done + 1)


@asynccontextmanager
async def written(
    note: ProgressNote, write: Callable[[dict[str, Any]], Awaitable[None]]
) -> AsyncIterator[None]:
    """While the block runs, `write` what is noted, a few times a second, where it has changed."""

    async def follow() -> None:
        last: Progress | None = None
        while True:
            if note.now != last:
                last = note.now
                await write(last.to_wire())
            await asyncio.sleep(WRITE_SECONDS)

    following = asyncio.create_task(follow())
    try:
        yield
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
