"""Background tasks with an owner: none is forgotten, and none fails in silence."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from typing import Any

import structlog

CANCEL_SECONDS = 5.0
"""How long a cancelled task may take to end before nobody waits for it any longer."""

_log = structlog.get_logger("ringfence.tasks")


class StrayExitError(RuntimeError):
    """Somebody's code has tried to end more than itself; the message says whose, and how."""


@contextlib.contextmanager
def contained(what: str) -> Iterator[None]:
    """Let nothing out of the code of `what` that `except Exception` would miss, but this task's own cancellation.

    Threat: a plugin calls a library that exits, or awaits a task that was cancelled. The one would end the process, and
    the other whoever called the plugin, without a word. Mechanism: both become a `StrayExitError`.
    """
    try:
        yield
    except SystemExit as error:
        raise StrayExitError(f"{what} tried to exit the process (status {error.code})") from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise StrayExitError(f"{what} awaited something that was cancelled, and let that out") from error


def _start(work: Coroutine[Any, Any, None], what: str, *, name: str) -> asyncio.Task[None]:
    async def run() -> None:
        with contained(what):
            await work

    task = asyncio.create_task(run(), name=name)
    # Where the task was cancelled at once, `work` has never begun.
    task.add_done_callback(lambda _: work.close())
    return task


class OwnedTasks:
    """The background tasks of an instance, by plugin. `failures` says which have ended with an error."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[None], str] = {}
        self.failures: dict[str, str] = {}

    def spawn(self, work: Coroutine[Any, Any, None], *, plugin: str, name: str) -> asyncio.Task[None]:
        """Start `work` and keep it until it ends or is cancelled."""
        task = _start(work, name, name=f"{plugin}:{name}")
        self._tasks[task] = plugin
        task.add_done_callback(self._finished)
        return task

    async def cancel(self, plugin: str) -> None:
        """Cancel the tasks of `plugin` and wait until they are gone, but no longer than `CANCEL_SECONDS`."""
        await cancel({task for task, owner in self._tasks.items() if owner == plugin})

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failures[task.get_name()] = f"{type(error).__name__}: {error}"
            _log.error("background task failed", task=task.get_name(), exc_info=error)


async def run_within(seconds: float, work: Coroutine[Any, Any, None], *, name: str) -> None:
    """Run `work` to its end, or cancel it when the time is up; whoever ignores that too is left behind.

    Raises what `work` raises (see `contained`), and `TimeoutError`.
    """
    task = _start(work, name, name=name)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        await cancel({task})
        raise
    if not done:
        await cancel({task})
        raise TimeoutError(f"{name} did not finish within {seconds:g} s")
    await task


async def cancel(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel `tasks` and wait for their end; a task that ignores it is named in the log and not waited for."""
    for task in tasks:
        task.cancel()
    if tasks:
        _, stubborn = await asyncio.wait(tasks, timeout=CANCEL_SECONDS)
        for task in stubborn:
            _log.error("task ignores that it is cancelled", task=task.get_name())
