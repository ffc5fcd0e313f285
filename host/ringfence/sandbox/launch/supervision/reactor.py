"""What one run waits for on its event loop: descriptors, timers and the work of threads.

A callback that fails ends the run with its error: the loop itself would only log it, and the run would never end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

E = TypeVar("E")
T = TypeVar("T")


class Reactor(Generic[E]):
    """Calls back on the running loop. `ended` is done when the run has ended, or has failed here."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[E] = self._loop.create_future()
        self._work: set[asyncio.Future[None]] = set()
        self._timers: dict[Hashable, asyncio.TimerHandle] = {}
        self._readers: set[int] = set()

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

        return guarded

    def read(self, descriptor: int, callback: Callable[[], None]) -> None:
        """Call back whenever there is something to read."""
        self._loop.add_reader(descriptor, self.guarded(callback))
        self._readers.add(descriptor)

    def ignore(self, descriptor: int) -> None:
        """Do not call back for this descriptor any more."""
        if descriptor in self._readers:
            self._readers.discard(descriptor)
            self._loop.remove_reader(descriptor)

    def reads(self, descriptor: int) -> bool:
        """Whether it calls back for this descriptor."""
        return descriptor in self._readers

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
        for descriptor in tuple(self._readers):
            self.ignore(descriptor)
        for timer in self._timers.values():
            timer.cancel()
