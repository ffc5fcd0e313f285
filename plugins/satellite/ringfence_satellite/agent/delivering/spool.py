"""Results that wait to be delivered, on disk: one file each, oldest first, and no more than fit.

A result is there once `add` has returned, even if the power fails then, and stays until it is settled. When the buffer
is full the oldest results are dropped for the newest, and counted: whoever looks at a system after an outage wants to
know how it is now. One process owns the directory; it is locked against a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog
from ringfence.storage.files import write_private

MAX_RESULTS = 10_000
MAX_BYTES = 64 * 1024 * 1024

_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_FILE = re.compile(rf"(\d{{20}})-({_ID.pattern})\.json")
_log = structlog.get_logger("ringfence.satellite.agent")


class SpoolError(OSError):
    """The directory cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class _Entry:
    path: Path
    size: int


class Spool:
    """The results that wait, by their ids. `changed` is set whenever there is another one, or one less."""

    def __init__(
        self, directory: Path, *, max_results: int = MAX_RESULTS, max_bytes: int = MAX_BYTES
    ) -> None:
        """Open the directory, and make it if need be. Raises `SpoolError`."""
        self._directory = directory
        self._max_results = max_results
        self._max_bytes = max_bytes
        self._entries: dict[str, _Entry] = {}
        self._bytes = 0
        self._next = 0
        self.dropped = 0
        self.changed = asyncio.Event()
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SpoolError(
                f"cannot keep results in {directory}: {error.strerror}; choose another place with --state-dir"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise SpoolError(f"{directory} is in use by another agent; stop that one first") from error
        self._load()

    def close(self) -> None:
        """Let the directory go; what is in it stays."""
        os.close(self._lock)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes(self) -> int:
        """How large the results are that wait."""
        return self._bytes

    @staticmethod
    def can_name(result_id: str) -> bool:
        """Whether a result of this id can be kept: the id is part of a file's name."""
        return _ID.fullmatch(result_id) is not None

    def waiting(self) -> Sequence[str]:
        """The ids of the results that wait, oldest first."""
        return tuple(self._entries)

    async def add(self, result_id: str, frame: str) -> None:
        """Keep a result until it is settled. One that cannot even be written is counted as dropped.

        If this is cancelled, the result is kept all the same.
        """
        data = frame.encode()
        path = self._directory / f"{self._next:020d}-{result_id}.json"
        self._next += 1
        writing = asyncio.get_running_loop().run_in_executor(None, write_private, path, data)
        # A thread goes on when who waits for it is cancelled: a file that is not known here would lie there undelivered
        # until the next start.
        writing.add_done_callback(partial(self._written, result_id, _Entry(path, len(data))))
        with contextlib.suppress(OSError):
            await asyncio.shield(writing)

    def _written(self, result_id: str, entry: _Entry, writing: asyncio.Future[None]) -> None:
        if writing.cancelled():
            return
        error = writing.exception()
        if isinstance(error, OSError):
            self.dropped += 1
            _log.error(
                "a result cannot be written, and is lost", error=error.strerror, lost_so_far=self.dropped
            )
        elif error is None:
            self._entries[result_id] = entry
            self._bytes += entry.size
            self._make_room()
            self.changed.set()

    async def read(self, result_id: str) -> str | None:
        """The result's frame; None when it is settled or dropped in the meantime, or cannot be read."""
        entry = self._entries.get(result_id)
        if entry is None:
            return None
        try:
            return await asyncio.to_thread(entry.path.read_text, "utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            _log.error("a waiting result cannot be read, and is lost", error=str(error))
            self.settle(result_id)
            return None

    def settle(self, result_id: str) -> None:
        """Forget a result: it was delivered, or nobody will ever take it."""
        entry = self._entries.pop(result_id, None)
        if entry is not None:
            self._bytes -= entry.size
            entry.path.unlink(missing_ok=True)
            self.changed.set()

    def _make_room(self) -> None:
        dropped = 0
        while len(self._entries) > 1 and (
            len(self._entries) > self._max_results or self._bytes > self._max_bytes
        ):
            self.settle(next(iter(self._entries)))
            dropped += 1
        if dropped:
            self.dropped += dropped
            _log.warning(
                "the buffer of results is full: the oldest were dropped",
                dropped=dropped,
                dropped_so_far=self.dropped,
                waiting=len(self._entries),
            )

    def _load(self) -> None:
        for path in sorted(self._directory.iterdir()):
            if (named := _FILE.fullmatch(path.name)) is not None:
                size = path.stat().st_size
                self._entries[named[2]] = _Entry(path, size)
                self._bytes += size
                self._next = int(named[1]) + 1
            elif path.name.endswith(".draft"):
                path.unlink()
        if self._entries:
            _log.info("results wait to be delivered", waiting=len(self._entries))
        self._make_room()
