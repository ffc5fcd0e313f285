"""What one check in one place keeps from one run to the next: taken from a store, given to a run, and stored again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Protocol

from ringfence.scripts.request import ScriptRequest
from ringfence.scripts.result import RunResult


class StateUnavailableError(RuntimeError):
    """A state cannot be had, or cannot be stored; the message says why."""


class StateStore(Protocol):
    """Where the state of one check in one place is."""

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Runs that find and leave the same state take turns."""

    async def load(self) -> bytes:
        """What the last run has kept; nothing if there was none. Raises `StateUnavailableError`."""

    async def save(self, state: bytes) -> None:
        """Keep this from now on, all of it or nothing. Raises `StateUnavailableError`."""


async def run_keeping(
    run: Callable[[ScriptRequest], Awaitable[RunResult]], request: ScriptRequest, store: StateStore
) -> RunResult:
    """Run a script with its state. A state that cannot be stored is told of in the result.

    Raises:
        StateUnavailableError: if it cannot be had; then nothing is run.
    """
    async with store.turn():
        found = await store.load()
        result = await run(replace(request, state=found))
        if result.kept_state is None or result.kept_state == found:
            return result
        try:
            await store.save(result.kept_state)
        except StateUnavailableError as error:
            return result.model_copy(update={"kept_state": None, "state_error": str(error)})
        return result
