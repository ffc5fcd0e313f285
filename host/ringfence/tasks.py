"""Background tasks with an owner: none is forgotten, and none fails in silence."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import structlog

from ringfence.acting import Acting, context_of
from ringfence.backoff import Pauses
from ringfence.redaction import describe

CANCEL_SECONDS = 5.0
"""How long a cancelled task may take to end before nobody waits for it any longer."""

LONGEST_RESTART_SECONDS = 30.0
"""The longest pause before a task that is to go on for ever is started again."""
STABLE_SECONDS = 60.0
"""A task that ran for so long ran well: the next pause is a first one again."""
SETTLED_SECONDS = 1.0
"""For so long a task that was started again still counts as failing."""

Work = Coroutine[Any, Any, None]
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


def _start(work: Work, what: str, *, name: str, acting: Acting | None = None) -> asyncio.Task[None]:
    async def run() -> None:
        with contained(what):
            await work

    task = asyncio.create_task(run(), name=name, context=None if acting is None else context_of(acting))
    # Where the task was cancelled at once, `work` has never begun.
    task.add_done_callback(lambda _: work.close())
    return task


@dataclass(frozen=True, slots=True)
class Restarts:
    """How often a supervised task has ended unexpectedly, and when and of what the last time."""

    times: int
    at: dt.datetime
    error: str


class OwnedTasks:
    """The background tasks of an instance, by plugin.

    `failures` says which have ended with an error (a supervised one: until it runs again), `restarts` which were
    started again.
    """

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[None], str] = {}
        self.failures: dict[str, str] = {}
        self.restarts: dict[str, Restarts] = {}

    def spawn(self, work: Work, *, plugin: str, name: str) -> asyncio.Task[None]:
        """Start `work` and keep it until it ends or is cancelled."""
        task = _start(work, name, name=f"{plugin}:{name}", acting={"plugin": plugin, "task": name})
        self._tasks[task] = plugin
        task.add_done_callback(self._finished)
        return task

    def supervise(
        self, work: Callable[[], Work], *, plugin: str, name: str, may_return: bool = False
    ) -> asyncio.Task[None]:
        """Start what `work` makes and keep it going until it is cancelled: whatever ends it, it is made anew.

        Threat: one input that nobody foresaw ends a task that everybody lives by (the journal, the tailer), and nobody
        notices. Mechanism: the end is logged and shown in `failures`, and after a pause, which grows while it goes on
        like that, the task starts again. `may_return`: it may end without an error, and is left alone then.
        """
        return self.spawn(
            self._keep_going(work, f"{plugin}:{name}", may_return=may_return), plugin=plugin, name=name
        )

    async def _keep_going(self, work: Callable[[], Work], name: str, *, may_return: bool) -> None:
        loop = asyncio.get_running_loop()
        pauses = Pauses(longest=LONGEST_RESTART_SECONDS)
        while True:
            began = loop.time()
            settled = loop.call_later(SETTLED_SECONDS, self.failures.pop, name, None)
            cause: Exception | None = None
            try:
                with contained(name):
                    await work()
                if may_return:
                    self.failures.pop(name, None)
                    return
                error = "it has ended, and is to go on until it is cancelled"
            except Exception as failure:
                cause, error = failure, describe(failure)
            finally:
                settled.cancel()
            if loop.time() - began >= STABLE_SECONDS:
                pauses.succeeded()
            pause = pauses.after_failure()
            self._note_restart(name, error, pause, cause)
            await asyncio.sleep(pause)

    def _note_restart(self, name: str, error: str, pause: float, cause: Exception | None) -> None:
        before = self.restarts.get(name)
        self.failures[name] = error
        self.restarts[name] = Restarts(
            1 if before is None else before.times + 1, dt.datetime.now(dt.UTC), error
        )
        _log.error(
            "a task ended that is to go on; starting it again",
            task=name,
            error=error,
            again_in_seconds=round(pause, 2),
            # What goes on like that is told with its traceback once.
            exc_info=None if before is not None and before.error == error else cause,
        )

    async def cancel(self, plugin: str) -> None:
        """Cancel the tasks of `plugin` and wait until they are gone, but no longer than `CANCEL_SECONDS`."""
        await cancel({task for task, owner in self._tasks.items() if owner == plugin})

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failures[task.get_name()] = describe(error)
            _log.error("background task failed", task=task.get_name(), exc_info=error)


async def run_within(seconds: float, work: Work, *, name: str) -> None:
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
