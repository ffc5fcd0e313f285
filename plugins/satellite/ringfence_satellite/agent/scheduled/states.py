"""What checks on this satellite keep from one run to the next, on disk: one file each, which is there as a whole.

A file goes when the host names what this satellite is assigned, and its check is not among that; and all go when the
host says that this satellite was deleted. A lost connection, or one that is refused, names nothing, and nothing goes.
Not covered: a satellite that is not connected when it is deleted, to which a host says no more than to any stranger.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from weakref import WeakValueDictionary

import structlog
from ringfence.scripts import StateUnavailableError
from ringfence.storage.files import write_private

_SUFFIX = ".state"
_log = structlog.get_logger("ringfence.satellite.agent")


class KeptStates:
    """The states in one directory, which is this agent's alone; None for an agent that keeps nothing."""

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._assigned: frozenset[str] = frozenset()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, config_id: str) -> KeptState:
        """That of an assignment."""
        return KeptState(self, config_id, self._turns.setdefault(config_id, asyncio.Lock()))

    def retain(self, assigned: Collection[str]) -> None:
        """Keep those of these assignments, and remove the others."""
        self._assigned = frozenset(assigned)
        if self._directory is None or not self._directory.is_dir():
            return
        names = {_name(id) for id in assigned}
        for path in self._directory.iterdir():
            if path.name not in names and path.name.endswith((_SUFFIX, ".draft")):
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    _log.error("the state of a check that is gone cannot be removed", error=error.strerror)

    def place(self, config_id: str) -> Path:
        """Where that of an assignment is. Raises `StateUnavailableError`."""
        if self._directory is None:
            raise StateUnavailableError("this agent keeps no state")
        if config_id not in self._assigned:
            raise StateUnavailableError("the check is not assigned to this satellite")
        return self._directory / _name(config_id)


class KeptState:
    """Implements `StateStore` for one assignment."""

    def __init__(self, states: KeptStates, config_id: str, lock: asyncio.Lock) -> None:
        self._states = states
        self._config_id = config_id
        self._lock = lock

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """See `StateStore`."""
        async with self._lock:
            yield

    async def load(self) -> bytes:
        """See `StateStore`."""
        try:
            return await asyncio.to_thread(self._states.place(self._config_id).read_bytes)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise StateUnavailableError(f"its file cannot be read: {error.strerror}") from error

    async def save(self, state: bytes) -> None:
        """See `StateStore`."""
        path = self._states.place(self._config_id)
        try:
            await asyncio.to_thread(_write, path, state)
        except OSError as error:
            raise StateUnavailableError(f"its file cannot be written: {error.strerror}") from error
        # It may have been taken away meanwhile.
        with contextlib.suppress(StateUnavailableError):
            self._states.place(self._config_id)
            return
        path.unlink(missing_ok=True)


def _write(path: Path, state: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, state)


def _name(config_id: str) -> str:
    """A host says what an assignment is called: no path is made of that."""
    return hashlib.sha256(config_id.encode()).hexdigest() + _SUFFIX
