"""Says in the log who holds up the event loop, which all plugins of an instance share.

Threat: a plugin waits without `await`, or computes for long; then nothing of the instance goes on, and nobody can tell
why. Mechanism: a thread looks several times a second at what the loop's thread is doing. If that is in one callback for
a second, the log names the plugin, its handler, job, route or task, and the line; it tells so again while that goes on,
and when it is over. Only the time counts in which the callback computes or waits, and not that in which the machine is
too busy to run it, or the process was stopped. Not covered: nothing can end such code but the code itself; many short
callbacks that keep the loop busy together; and where the kernel does not say how long a thread waited for a processor,
that time is taken for waiting of the callback's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import sys
import threading
import time
from asyncio.base_events import BaseEventLoop
from asyncio.events import Handle
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import cast

import structlog

from ringfence.acting import ACTING, Acting
from ringfence.counting import Distribution

LOOK_SECONDS = 0.1
"""How often the loop's thread is looked at."""
HELD_SECONDS = 1.0
"""For how long one callback may hold the loop before it is told."""
AGAIN = 5
"""While it goes on it is told again after so many times as long, and so on."""
SAME_SECONDS = 60.0
"""The same line of the same plugin is told once in so long, with how often it was."""
_MOST_REMEMBERED = 500
_MOST_KEPT = 20
_BOUNDS = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

_RUN: CodeType = Handle._run.__code__
_BETWEEN: CodeType = BaseEventLoop._run_once.__code__  # type: ignore[attr-defined]
_BENEATH = frozenset(
    {"anyio", "asyncio", "blinker", "contextlib", "fastapi", "pluggy", "ringfence", "starlette", "uvicorn"}
)
"""The packages whose code calls plugins."""

_log = structlog.get_logger("ringfence.lifecycle")


@dataclass(frozen=True, slots=True)
class HoldUp:
    """One that is over: when, for how long, and in whose name the callback ran (see `whose`)."""

    at: dt.datetime
    seconds: float
    by: Mapping[str, str]


class HoldUps(deque[HoldUp]):
    """The last ones, newest last. The watching thread adds to it: take a copy, which no thread can come between."""

    def __init__(self) -> None:
        super().__init__(maxlen=_MOST_KEPT)
        self.seconds = Distribution(_BOUNDS)
        """How long callbacks have held the loop, of all that were seen in it at two looks."""


def no_hold_ups() -> HoldUps:
    """Where they are put."""
    return HoldUps()


@contextlib.contextmanager
def telling_of_holdups(found: HoldUps) -> Iterator[None]:
    """While the block runs, log who holds up the event loop that this is called in, and put it into `found`."""
    over = threading.Event()
    watch = _Watch(asyncio.get_running_loop(), threading.get_ident(), threading.get_native_id(), found)
    watcher = threading.Thread(target=watch.run, args=(over,), name="watch over the event loop", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


@dataclass(frozen=True, slots=True)
class Look:
    """The clocks at one look, in seconds."""

    at: float
    """A monotonic clock."""
    computed: float = 0.0
    """How long the loop's thread has had a processor, in all."""
    starved: float = 0.0
    """How long it has waited for one, in all."""


@dataclass(slots=True)
class Hold:
    """How long one callback has held the loop, from one look to the next. Pure."""

    last: Look
    seconds: float = 0.0

    def goes_on(self, look: Look) -> float:
        """Count the time since the last look; answers how long it is by now."""
        passed = look.at - self.last.at
        computed = min(passed, look.computed - self.last.computed)
        waited = max(0.0, passed - computed - (look.starved - self.last.starved))
        # Where this look comes late, nobody ran: the process was stopped, or another thread held the interpreter.
        late = max(0.0, passed - LOOK_SECONDS)
        self.seconds += computed + max(0.0, waited - late)
        self.last = look
        return self.seconds


@dataclass(slots=True)
class Telling:
    """When a hold-up is told: the first time, again while it goes on, and not too often of the same place. Pure."""

    _told: dict[tuple[object, ...], tuple[float, int]] = field(default_factory=dict)
    _next: float = HELD_SECONDS

    def begins(self) -> None:
        """Another callback runs."""
        # It may have begun up to a look before it was seen.
        self._next = HELD_SECONDS - LOOK_SECONDS

    def is_due(self, seconds: float) -> bool:
        """Whether it is to be told that a callback has held the loop for so long."""
        if seconds < self._next:
            return False
        while self._next <= seconds:
            self._next *= AGAIN
        return True

    def times(self, place: tuple[object, ...], now: float) -> int | None:
        """How often this place has held the loop since it was told last; None if that was just now."""
        if len(self._told) > _MOST_REMEMBERED:
            self._told.clear()
        at, times = self._told.get(place, (float("-inf"), 0))
        if now - at < SAME_SECONDS:
            self._told[place] = (at, times + 1)
            return None
        self._told[place] = (now, 0)
        return times + 1


class _Watch:
    """The thread that looks."""

    def __init__(self, loop: asyncio.AbstractEventLoop, thread: int, native: int, found: HoldUps) -> None:
        self._loop = loop
        self._found = found
        self._thread = thread
        self._clock = time.pthread_getcpuclockid(thread)
        self._scheduler = Path(f"/proc/self/task/{native}/schedstat")
        self._telling = Telling()
        self._running: FrameType | None = None
        """Kept, so that another callback's frame cannot be taken for it."""
        self._hold = Hold(Look(0.0))
        self._told: Mapping[str, str] | None = None

    def run(self, over: threading.Event) -> None:
        while not over.wait(LOOK_SECONDS):
            self._look(sys._current_frames().get(self._thread))

    def _look(self, frame: FrameType | None) -> None:
        running = callback_of(frame)
        if running is None or running is not self._running:
            self._goes_on()
            self._running = running
            if running is not None:
                self._hold = Hold(self._clocks())
                self._telling.begins()
            return
        seconds = self._hold.goes_on(self._clocks())
        if frame is None or not self._telling.is_due(seconds):
            return
        held_by = whose(frame, running, self._loop)
        if self._told is None:
            times = self._telling.times(tuple(held_by.items()), time.monotonic())
            if times is None:
                return
            more = {"times": times} if times > 1 else {}
        else:
            more = {}
        self._told = held_by
        _log.warning(
            "the event loop is blocked: nothing else runs", seconds=round(seconds, 1), **held_by, **more
        )

    def _goes_on(self) -> None:
        if self._running is not None and self._hold.seconds > 0:
            self._found.seconds.observe(self._hold.seconds)
        if self._told is not None:
            seconds = round(self._hold.seconds, 1)
            self._found.append(HoldUp(dt.datetime.now(dt.UTC), seconds, self._told))
            _log.info("the event loop goes on", seconds=seconds, **self._told)
            self._told = None

    def _clocks(self) -> Look:
        try:
            computed = time.clock_gettime(self._clock)
            starved = int(self._scheduler.read_bytes().split()[1]) / 1e9
        except (OSError, IndexError, ValueError):
            return Look(time.monotonic())
        return Look(time.monotonic(), computed, starved)


def callback_of(frame: FrameType | None) -> FrameType | None:
    """The callback that runs in this frame, the innermost of the loop's thread; None while the loop waits for one."""
    outermost = frame
    while frame is not None:
        if frame.f_code is _RUN:
            return frame
        if frame.f_code is _BETWEEN:
            return None
        outermost, frame = frame, frame.f_back
    # Code that runs on a stack of its own, as the database's does.
    return outermost


def whose(frame: FrameType, running: FrameType, loop: asyncio.AbstractEventLoop) -> dict[str, str]:
    """In whose name the callback runs, and where it is."""
    found = _acting(running)
    if found is None:
        task = asyncio.current_task(loop)
        found = {"task": "none" if task is None else task.get_name()}
    return {**found, "at": _place(frame, running)}


def _acting(running: FrameType) -> Acting | None:
    if running.f_code is not _RUN:
        return None
    handle = running.f_locals["self"]
    return cast("Acting | None", handle._context.get(ACTING))


def _place(frame: FrameType, running: FrameType) -> str:
    """The innermost line of whom the host has called: that says more than a line of a library which it calls."""
    frames = []
    inner: FrameType | None = frame
    while inner is not None and inner is not running:
        frames.append(inner)
        inner = inner.f_back
    called = next((_package(one) for one in reversed(frames) if _package(one) not in _BENEATH), None)
    place = next((one for one in frames if _package(one) == called), frame)
    return f"{place.f_code.co_filename}:{place.f_lineno}"


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
