"""The end of an instance in good order: it takes nothing new, and brings to an end what is under way.

Load balancers leave at `/readyz`, new WebSockets are refused, worker groups go to other instances, plugins have a
moment of their own (`drain`), and requests are answered. Those that only wait for something to happen are answered with
what there is: whoever asks them asks again, elsewhere. All of that has a deadline, after which the instance is to stop
whatever is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import structlog

REASON = "this instance is about to stop: connect to another"
"""What whoever is turned away is told."""

_NOW = 0.0
"""A time of every event loop that is over."""
_log = structlog.get_logger("ringfence.host")


class Drain:
    """How far the end of one instance has come. `requests` are being answered at the moment."""

    def __init__(self) -> None:
        self.requests = 0
        self._asked = asyncio.Event()
        self._over = asyncio.Event()
        self._answered = asyncio.Event()
        self._answered.set()
        self._waits: set[asyncio.Timeout] = set()

    @property
    def began(self) -> bool:
        """Whether nothing new is to be taken any more."""
        return self._asked.is_set()

    def ask(self) -> None:
        """Have the end begin. Again is as once."""
        self._asked.set()
        for wait in self._waits:
            if not wait.expired():
                wait.reschedule(_NOW)

    async def over(self) -> None:
        """Return when all has come to its end, or the deadline."""
        await self._over.wait()

    @asynccontextmanager
    async def waiting(self, seconds: float) -> AsyncIterator[None]:
        """Raise `TimeoutError` in the block after so many seconds, or as soon as the end begins."""
        until = _NOW if self.began else asyncio.get_running_loop().time() + seconds
        async with asyncio.timeout_at(until) as wait:
            self._waits.add(wait)
            try:
                yield
            finally:
                self._waits.discard(wait)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Count a request for as long as it is being answered."""
        self.requests += 1
        self._answered.clear()
        try:
            yield
        finally:
            self.requests -= 1
            if not self.requests:
                self._answered.set()

    async def run(
        self,
        steps: Callable[[float], Coroutine[Any, Any, None]],
        *,
        seconds: float,
        linger_seconds: float,
    ) -> None:
        """Wait until it is asked for, and see it through.

        `steps` have so many seconds, and requests what they leave; it takes `linger_seconds` at least, for load
        balancers to notice.
        """
        await self._asked.wait()
        loop = asyncio.get_running_loop()
        began = loop.time()
        _log.info("draining", deadline_seconds=seconds, requests=self.requests)
        try:
            async with asyncio.timeout_at(began + seconds):
                await steps(seconds)
                await asyncio.sleep(linger_seconds - (loop.time() - began))
                await self._answered.wait()
            _log.info("drained", seconds=round(loop.time() - began, 1))
        except TimeoutError:
            _log.warning(
                "not drained in time; stopping nevertheless", requests=self.requests, seconds=seconds
            )
        finally:
            self._over.set()
