"""What is done a moment after a run, for many runs at once.

A thread that is woken for each run takes the interpreter's lock from the event loop at every system call of both. This
one wakes now and then, as long as there is something to do and a little longer: the next run may come soon.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from ringfence.sandbox.workers import Workers

T = TypeVar("T")

MANY = 4
"""So many things that wait are worth waking a thread for."""
LINGERS = 20
"""So many times the thread finds nothing to do before it goes."""


class Afterwards(Generic[T]):
    """Things that are to be done, each at most once at a time; those that cannot be done yet are tried again."""

    def __init__(self, workers: Workers, pause_s: float, attempt: Callable[[T], bool]) -> None:
        """Begin with nothing. `attempt` says whether a thing is over and done with, and must not raise."""
        self._workers = workers
        self._pause_s = pause_s
        self._attempt = attempt
        self._things: list[T] = []
        self._going = 0
        self._is_awake = False
        self._lock = threading.Lock()

    def add(self, thing: T) -> None:
        """Have it done soon, on a thread."""
        with self._lock:
            self._things.append(thing)
            # Once the interpreter ends, no thread is started, and what is left to do goes with the process.
            with contextlib.suppress(RuntimeError):
                if not self._is_awake:
                    self._workers.submit(self._until_done)
                    self._is_awake = True
                elif len(self._things) % MANY == 0:
                    # What holds up that thread holds up no more than these.
                    self._workers.submit(self.go_through)

    def go_through(self) -> None:
        """Attempt all that nobody else does right now."""
        with self._lock:
            things, self._things = self._things, []
            self._going += len(things)
        left = [thing for thing in things if not self._attempt(thing)]
        with self._lock:
            self._things += left
            self._going -= len(things)

    def forget(self) -> list[T]:
        """In a forked child, where no thread is: what was to be done in the parent, and is no longer here."""
        self._lock = threading.Lock()
        things, self._things = self._things, []
        self._going, self._is_awake = 0, False
        return things

    def _until_done(self) -> None:
        idle = 0
        while True:
            time.sleep(self._pause_s)
            self.go_through()
            with self._lock:
                idle = 0 if self._things or self._going else idle + 1
                # Once the main thread has ended, the process waits for this one.
                if idle > LINGERS or (idle and not threading.main_thread().is_alive()):
                    self._is_awake = False
                    return

    def __len__(self) -> int:
        """How many are not done yet."""
        with self._lock:
            return len(self._things) + self._going
