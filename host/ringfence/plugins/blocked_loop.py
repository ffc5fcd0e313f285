"""Says in the log who holds up the event loop, which all plugins of an instance share.

Threat: a plugin waits without `await`, or computes for long; then nothing of the instance goes on, and nobody can tell
why. Mechanism: a thread asks the event loop for a sign of life from time to time; if none comes, it looks at what the
loop's thread is doing, and names the plugin, the handler and the line. Not covered: nothing can end such code but the
code itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import sys
import threading
import time
from collections.abc import Iterator
from types import CodeType, FrameType

import structlog

from ringfence.hooks import EventsGroup, Listener, WorkGroup

LOOK_SECONDS = 5.0
"""How often the event loop is asked."""
HELD_SECONDS = 3.0
"""How long it may take to answer before somebody holds it up; it is told again after twice as long, and so on."""

_CALLS: frozenset[CodeType] = frozenset(kind.__call__.__code__ for kind in (Listener, WorkGroup, EventsGroup))
_log = structlog.get_logger("ringfence.lifecycle")


@contextlib.contextmanager
def telling_of_holdups() -> Iterator[None]:
    """While the block runs, log who holds up the event loop that this is called in."""
    over, sign = threading.Event(), threading.Event()
    arguments = (asyncio.get_running_loop(), threading.get_ident(), over, sign)
    watcher = threading.Thread(target=_watch, args=arguments, name="watch over the event loop", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        # It need not wait for a sign of this loop, which waits for it.
        sign.set()
        watcher.join()


def _watch(
    loop: asyncio.AbstractEventLoop, thread: int, over: threading.Event, sign: threading.Event
) -> None:
    while not over.wait(LOOK_SECONDS):
        asked, patience = time.monotonic(), HELD_SECONDS
        sign.clear()
        if over.is_set():
            return
        loop.call_soon_threadsafe(sign.set)
        while not sign.wait(patience):
            held_by = whose(sys._current_frames().get(thread), loop)
            if held_by is not None:
                seconds = round(time.monotonic() - asked, 1)
                _log.warning("the event loop is blocked: nothing else runs", seconds=seconds, **held_by)
            patience *= 2


def whose(frame: FrameType | None, loop: asyncio.AbstractEventLoop) -> dict[str, str] | None:
    """Who runs in this frame, the innermost of the loop's thread; None if that waits for something to happen."""
    if frame is None or frame.f_code.co_filename == selectors.__file__:
        return None
    inner = frame
    while frame is not None:
        if frame.f_code in _CALLS:
            subscription = frame.f_locals["self"]
            handler = getattr(subscription.handler, "__qualname__", repr(subscription.handler))
            found = {"plugin": subscription.plugin, "hook": subscription.what, "handler": handler}
            return {**found, "at": _place(inner)}
        # Of what the handler has called, its own line says more than that of a library.
        outer = frame.f_back
        if outer is not None and outer.f_code in _CALLS:
            inner = frame
        frame = outer
    task = asyncio.current_task(loop)
    return {"task": "none" if task is None else task.get_name(), "at": _place(inner)}


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
