"""Says in the log whom a start waits for: from a thread of its own, so also while the event loop is held up.

What is awaited can be cancelled when its time is up. A function that is not async, or one that blocks the event loop,
cannot: nobody but the function itself can end it. So of that the log says where it is, and that the process must be
ended from outside.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

import structlog

SLOW_SECONDS = 5.0
"""After how long it is first said that somebody is waited for; then again after twice that, and so on."""

_log = structlog.get_logger("ringfence.lifecycle")


@contextlib.contextmanager
def watched(plugin: str, moment: str, *, patience: float | None = None) -> Iterator[None]:
    """Log while `plugin` is at `moment`, and as an error if it still is after `patience` seconds."""
    over = threading.Event()
    watcher = threading.Thread(
        target=_watch,
        args=(over, threading.get_ident(), plugin, moment, patience),
        name=f"watch over {plugin}: {moment}",
        daemon=True,
    )
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _watch(over: threading.Event, thread: int, plugin: str, moment: str, patience: float | None) -> None:
    began = time.monotonic()
    soon = SLOW_SECONDS
    while not over.wait(min(soon, patience or soon) - (time.monotonic() - began)):
        waited = time.monotonic() - began
        if patience is not None and waited >= patience:
            _log.error(
                "a plugin does not end, and cannot be ended from within: end the process",
                plugin=plugin,
                phase=moment,
                seconds=patience,
                at=_place(thread),
            )
            return
        _log.warning("waiting for a plugin", plugin=plugin, phase=moment, seconds=round(waited, 1))
        soon *= 2


def _place(thread: int) -> str | None:
    """Which line the thread is at."""
    frame = sys._current_frames().get(thread)
    return frame and f"{frame.f_code.co_filename}:{frame.f_lineno}"
