"""Asking the database within a time: what is late is cancelled, and not waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

from ringfence.redaction import describe

T = TypeVar("T")

_abandoned: set[asyncio.Task[Any]] = set()
_log = structlog.get_logger("ringfence.database")


async def answer_within(seconds: float, work: Coroutine[Any, Any, T], *, name: str) -> T:
    """What `work` answers, if it does so in time. Raises what it raises, or `TimeoutError`.

    Late work is cancelled and left behind. To wait for its end would be to wait for the stalled network that made it
    late: the driver first asks the server to stop the query, and gives that request seconds of its own.
    """
    task = asyncio.create_task(work, name=name)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if task.done():
            return task.result()
    finally:
        if not task.done():
            task.cancel()
            _abandoned.add(task)
            task.add_done_callback(_forget)
    raise TimeoutError(f"{name} did not answer within {seconds:g} s")


def _forget(task: asyncio.Task[Any]) -> None:
    _abandoned.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.debug("late work failed", name=task.get_name(), error=describe(error))
