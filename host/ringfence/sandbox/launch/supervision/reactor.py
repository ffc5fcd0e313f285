"""What one run waits for on its event loop: descriptors, timers and the work of threads.

A callback that fails ends the run with its error: the loop itself would only log it, and the run would never end.

A run listens to eight descriptors, to most of them for a moment. They are in a set that all runs of a loop share
(epoll(7)), which is the one thing that the loop listens to: that takes less than to have it know each.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import weakref
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

E = TypeVar("E")
T = TypeVar("T")


class _Ears:
    """What is listened to for all runs of one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._set = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        loop.add_reader(self._set.fileno(), self._on_ready)

    def read(self, descriptor: int, callback: Callable[[], None]) -> None:
        if descriptor not in self._readers:
            self._set.register(descriptor, select.EPOLLIN)
        self._readers[descriptor] = callback

    def ignore(self, descriptor: int) -> None:
        del self._readers[descriptor]
        with contextlib.suppress(OSError):
            self._set.unregister(descriptor)

    def _on_ready(self) -> None:
        ready = [(descriptor, self._readers.get(descriptor)) for descriptor, _ in self._set.poll(0)]
        for descriptor, callback in ready:
            # One before it in this turn may have been the last to be heard, and the number be another's already.
            if callback is not None and self._readers.get(descriptor) is callback:
                callback()


_ears: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Ears] = weakref.WeakKeyDictionary()


def _ears_of(loop: asyncio.AbstractEventLoop) -> _Ears:
    if (ears := _ears.get(loop)) is None:
        ears = _ears[loop] = _Ears(loop)
    return ears


class Reactor(Generic[E]):
    """Calls back on the running loop. `ended` is done when the run has ended, or has failed here."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[E] = self._loop.create_future()
        self._awaited: asyncio.Future[None] | None = None
        self._work: set[asyncio.Future[None]] = set()
        self._timers: dict[Hashable, asyncio.TimerHandle] = {}
        self._ears = _ears_of(self._loop)
        self._heard: set[int] = set()

    @property
    def has_failed(self) -> bool:
        """Whether the run has ended by a fault of our own."""
        return self.ended.exception() is not None

    def guarded(self, callback: Callable[..., None]) -> Callable[..., None]:
        """A callback whose failure ends the run."""

        def guarded(*args: object) -> None:
            try:
                callback(*args)
            except Exception as error:
                if self.ended.done():
                    raise
                self.ended.set_exception(error)
                self._wake()

        return guarded

    def end(self, result: E) -> None:
        """The run has ended so, if it has not before."""
        if not self.ended.done():
            self.ended.set_result(result)
            self._wake()

    def _wake(self) -> None:
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(None)

    async def until_ended(self) -> None:
        """Return when the run has ended. Whoever is cancelled meanwhile may wait again."""
        if not self.ended.done():
            # Not for `ended` itself, which would be cancelled with its waiter.
            self._awaited = self._loop.create_future()
            await self._awaited

    def read(self, descriptor: int, callback: Callable[[], None]) -> None:
        """Call back whenever there is something to read. Raises OSError."""
        self._ears.read(descriptor, self.guarded(callback))
        self._heard.add(descriptor)

    def ignore(self, descriptor: int) -> None:
        """Do not call back for this descriptor any more."""
        if descriptor in self._heard:
            self._heard.discard(descriptor)
            self._ears.ignore(descriptor)

    def reads(self, descriptor: int) -> bool:
        """Whether it calls back for this descriptor."""
        return descriptor in self._heard

    def set(self, timer: Hashable, seconds: float, callback: Callable[[], None]) -> None:
        """Call back when so many seconds have passed; a timer that is set already begins anew."""
        if timer in self._timers:
            self._timers[timer].cancel()
        self._timers[timer] = self._loop.call_later(seconds, self.guarded(callback))

    def then(self, work: Future[T], callback: Callable[[T], None]) -> None:
        """Call back when a thread has done its work."""
        future = asyncio.wrap_future(work, loop=self._loop)
        told = self._loop.create_future()
        self._work.add(told)

        def done(future: asyncio.Future[T]) -> None:
            try:
                self.guarded(lambda: callback(future.result()))()
            finally:
                self._work.discard(told)
                told.set_result(None)

        future.add_done_callback(done)

    @property
    def is_busy(self) -> bool:
        """Whether threads are still at work."""
        return bool(self._work)

    async def settled(self) -> None:
        """Wait until no thread is at work any more."""
        while self._work:
            await asyncio.wait(self._work)

    def let_go(self) -> None:
        """Hear nothing any more, but of what threads have done."""
        for descriptor in self._heard:
            self._ears.ignore(descriptor)
        self._heard.clear()
        for timer in self._timers.values():
            timer.cancel()
