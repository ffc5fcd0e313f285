"""Says in the log who holds up the event loop, which all plugins of an instance share.

Threat: a plugin waits without `await`, or computes for long; then nothing of the instance goes on, and nobody can tell
why. Mechanism: a thread looks several times a second whether the loop has got on. If it has not, the loop's thread is
sent a signal, whose handler notes what runs there. If that is one callback for a second, the log names the plugin, its
handler, job, route or task, and the line; it tells so again while that goes on, and when it is over. Only the time
counts in which the callback computes or waits, and not that in which the machine is too busy to run it, or the process
was stopped. Not covered: nothing can end such code but the code itself; many short callbacks that keep the loop busy
together; code that does not let go of the interpreter, and is over before anybody else has it; the line of code that
lets no signal through, or of a loop that is not in the main thread (signal(7) of Python
is for that one alone); and where the kernel does not say how long a thread waited for a processor, that time is taken
for waiting of the callback's own.

The frames of the loop's thread are looked at by that thread itself. To follow them from another one ends in memory that
is no frame any more, though the interpreter's lock is held: the database's code runs on stacks of its own, which come
and go (greenlet).
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import signal
import threading
import time
import weakref
from asyncio.events import Handle
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import structlog

from ringfence.acting import ACTING
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

ANSWER_SECONDS = 0.01
"""How long the loop's thread has to say what it is doing."""
NOT_PYTHON = "code that is not Python's"

_RUN: CodeType = Handle._run.__code__
_BENEATH = frozenset(
    {"anyio", "asyncio", "blinker", "contextlib", "fastapi", "pluggy", "ringfence", "starlette", "uvicorn"}
)
"""The packages whose code calls plugins."""

_log = structlog.get_logger("ringfence.lifecycle")


@dataclass(frozen=True, slots=True)
class HoldUp:
    """One that is over: when, for how long, and in whose name the callback ran."""

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
    loop = asyncio.get_running_loop()
    watch = _Watch(loop, turns_of(loop), found)
    watcher = threading.Thread(target=watch.run, args=(over,), name="watch over the event loop", daemon=True)
    _watches.add(watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        _watches.discard(watch)


class Turns:
    """How far an event loop has got: the number of its turns, and whether it waits for something to do."""

    def __init__(self, selector: Any) -> None:
        """Count from now on, for as long as the loop lives."""
        self.number = 0
        self.waits = False
        self._select = selector.select
        selector.select = self._counted

    def _counted(self, timeout: float | None = None) -> Any:
        self.waits = True
        try:
            return self._select(timeout)
        finally:
            self.number += 1
            self.waits = False


_turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = weakref.WeakKeyDictionary()


def turns_of(loop: asyncio.AbstractEventLoop) -> Turns:
    """Those of a loop of the standard library's."""
    found = _turns.get(loop)
    if found is None:
        found = _turns[loop] = Turns(loop._selector)  # type: ignore[attr-defined]
    return found


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


@dataclass(frozen=True, slots=True)
class Seen:
    """What ran when the loop's thread was asked: the callback, by what is one and the same for it, and whose it is."""

    running: object
    by: Mapping[str, str]


class _Watch:
    """The thread that looks, and what the loop's thread answers. It is begun in the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, turns: Turns, found: HoldUps) -> None:
        self._loop = loop
        self._turns = turns
        self._found = found
        self._thread = threading.get_ident()
        self._signal = _signal_for_asking()
        self._clock = time.pthread_getcpuclockid(self._thread)
        self._scheduler = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        self._telling = Telling()
        self._turn = turns.number
        self._running: object = None
        """Kept, so that another callback cannot be taken for it."""
        self._last = Look(time.monotonic())
        self._hold = Hold(self._last)
        self._told: Mapping[str, str] | None = None
        self._seen: Seen | None = None

    def run(self, over: threading.Event) -> None:
        self._last = self._clocks()
        while not over.wait(LOOK_SECONDS):
            self._look(over)

    def _look(self, over: threading.Event) -> None:
        last, now = self._last, self._clocks()
        self._last, turn, waits = now, self._turns.number, self._turns.waits
        if waits or turn != self._turn:
            self._goes_on()
            self._running, self._turn = None, turn
            return
        seen = self._ask(over) or Seen(self._turns, {"at": NOT_PYTHON})
        if seen.running is not self._running:
            self._goes_on()
            self._running, self._hold = seen.running, Hold(last)
            self._telling.begins()
        seconds = self._hold.goes_on(now)
        if not self._telling.is_due(seconds):
            return
        if self._told is None:
            times = self._telling.times(tuple(seen.by.items()), time.monotonic())
            if times is None:
                return
            more = {"times": times} if times > 1 else {}
        else:
            more = {}
        self._told = seen.by
        _log.warning(
            "the event loop is blocked: nothing else runs", seconds=round(seconds, 1), **seen.by, **more
        )

    def _ask(self, over: threading.Event) -> Seen | None:
        """What the loop's thread is doing; None if it does not say."""
        self._seen = None
        if self._signal is None:
            return None
        signal.pthread_kill(self._thread, self._signal)
        until = time.monotonic() + ANSWER_SECONDS
        while self._seen is None and time.monotonic() < until and not over.wait(ANSWER_SECONDS / 10):
            pass
        return self._seen

    def asked(self, frame: FrameType | None) -> None:
        """Note what is running here, in the loop's thread, in this frame."""
        frames: list[FrameType] = []
        while frame is not None and frame.f_code is not _RUN:
            frames.append(frame)
            frame = frame.f_back
        task = asyncio.current_task(self._loop)
        acting = ACTING.get(None)
        self._seen = Seen(
            # A task has one turn at most in each turn of the loop.
            task or frame,
            {
                **(acting or {"task": "none" if task is None else task.get_name()}),
                "at": _place(frames) if frames else NOT_PYTHON,
            },
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


_watches: set[_Watch] = set()


def _answer(_: int, frame: FrameType | None) -> None:
    """The handler of the signal. It comes between any two instructions of the thread, so it takes no lock."""
    for watch in tuple(_watches):
        # Whatever is wrong here is no fault of the code that runs.
        with contextlib.suppress(Exception):
            watch.asked(frame)


def _signal_for_asking() -> int | None:
    """A signal that nobody else has, which from now on is answered; None outside of the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return None
    for number in range(signal.SIGRTMAX - 1, signal.SIGRTMIN, -1):
        if signal.getsignal(number) in (signal.SIG_DFL, _answer):
            # It is never given back: one that is under way then would end the process.
            # It interrupts system calls, which Python takes up again (PEP 475).
            signal.signal(number, _answer)
            return number
    return None


def _place(frames: Sequence[FrameType]) -> str:
    """The innermost line of whom the host has called: that says more than a line of a library which it calls."""
    called = next((_package(one) for one in reversed(frames) if _package(one) not in _BENEATH), None)
    place = next((one for one in frames if _package(one) == called), frames[0])
    return f"{place.f_code.co_filename}:{place.f_lineno}"


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
