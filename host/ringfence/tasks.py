"""Background tasks with an owner: none is forgotten, and none fails in silence."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

_log = structlog.get_logger("ringfence.tasks")


class OwnedTasks:
    """The background tasks of an instance, by plugin. `failures` says which have ended with an error."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[None], str] = {}
        self.failures: dict[str, str] = {}

    def spawn(self, work: Coroutine[Any, Any, None], *, plugin: str, name: str) -> asyncio.Task[None]:
        """Start `work` and keep it until it ends or is cancelled."""
        task = asyncio.create_task(work, name=f"{plugin}:{name}")
        self._tasks[task] = plugin
        task.add_done_callback(self._finished)
        return task

    async def cancel(self, plugin: str) -> None:
        """Cancel the tasks of `plugin` and wait until they are gone."""
        tasks = [task for task, owner in self._tasks.items() if owner == plugin]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failures[task.get_name()] = f"{type(error).__name__}: {error}"
            _log.error("background task failed", task=task.get_name(), exc_info=error)
