"""Waiting for something in a test: with a deadline, and with words for what has not come by then.

One deadline is for everything, and far away: only a test that fails waits for it, and a slow machine is no failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import queue
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import IO, Any, TypeVar

PATIENCE_SECONDS = 90.0

T = TypeVar("T")


async def until(holds: Callable[[], T], what: str = "", *, seconds: float = PATIENCE_SECONDS) -> T:
    """What `holds` answers, once that is true. A place of a list or dict that is not filled yet is not true.

    Raises:
        AssertionError: at the deadline, with `what` was waited for, by default `holds` itself and the values it sees.
    """
    deadline = (begun := time.monotonic()) + seconds
    while not (answer := _answer(holds)):
        if (now := time.monotonic()) > deadline:
            raise AssertionError(_told(holds, what, seconds))
        await asyncio.sleep(_pause(now - begun))
        begun = time.monotonic()
    return answer


def _pause(asking: float) -> float:
    """How long to wait after it took so long to ask: asking again and again leaves the processor to what is to come."""
    return max(0.01, 2 * asking)


def wait_until(holds: Callable[[], T], what: str = "", *, seconds: float = PATIENCE_SECONDS) -> T:
    """As `until`, where there is no loop."""
    deadline = (begun := time.monotonic()) + seconds
    while not (answer := _answer(holds)):
        if (now := time.monotonic()) > deadline:
            raise AssertionError(_told(holds, what, seconds))
        time.sleep(_pause(now - begun))
        begun = time.monotonic()
    return answer


async def until_it(
    asked: Callable[[], Awaitable[T]], what: str, *, seconds: float = PATIENCE_SECONDS, pause: float = 0.02
) -> T:
    """What `asked` answers, once that is true; each answer has to be waited for itself.

    Raises:
        AssertionError: at the deadline, with `what` was waited for and the last answer.
    """
    answer: T | str = "nothing"
    async with in_time(lambda: f"{what}; the last answer was {answer!r}", seconds=seconds):
        while not (answer := await asked()):
            await asyncio.sleep(pause)
        return answer


@contextlib.asynccontextmanager
async def in_time(
    what: str | Callable[[], str], *, seconds: float = PATIENCE_SECONDS
) -> AsyncIterator[asyncio.Timeout]:
    """Whatever is awaited inside has to be over by the deadline.

    Raises:
        AssertionError: at the deadline, with `what` was waited for.
    """
    try:
        async with asyncio.timeout(seconds) as deadline:
            yield deadline
    except TimeoutError:
        if not deadline.expired():
            raise
        raise AssertionError(
            f"not within {seconds:g} s: {what if isinstance(what, str) else what()}"
        ) from None


def next_line(stream: IO[str] | None, what: str, *, seconds: float = PATIENCE_SECONDS) -> str:
    """The next line of a process's output; empty if that has ended.

    Raises:
        AssertionError: at the deadline, with `what` was to be said.
    """
    assert stream is not None
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=lambda: lines.put(stream.readline()), daemon=True).start()
    try:
        return lines.get(timeout=seconds)
    except queue.Empty:
        raise AssertionError(f"nothing was said within {seconds:g} s: {what}") from None


def _answer(holds: Callable[[], T]) -> T | None:
    with contextlib.suppress(LookupError):
        return holds()
    return None


def _told(holds: Callable[[], object], what: str, seconds: float) -> str:
    return f"not within {seconds:g} s: {what or _described(holds)}"


def _described(holds: Callable[[], Any]) -> str:
    """The source of a condition and the values that it refers to, as far as they can be had."""
    try:
        source = inspect.getsource(holds).strip()
        values = inspect.getclosurevars(holds).nonlocals
    except (OSError, TypeError):
        return repr(holds)
    return "; ".join([source, *(f"{name} = {str(value)[:500]}" for name, value in values.items())])
