"""A pool of connections that counts who had to wait for one: what says whether a database's pool is too small."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry


class CountedPool(AsyncAdaptedQueuePool):
    """A pool that counts who had to wait for a connection to come back, and for how long."""

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self.waits = 0
        self.waited_seconds = 0.0

    def _do_get(self) -> ConnectionPoolEntry:
        # What SQLAlchemy calls for each connection that it wants of the pool.
        is_full = 0 <= self._max_overflow <= self.overflow() and not self.checkedin()
        if not is_full:
            return super()._do_get()
        self.waits += 1
        began = time.monotonic()
        try:
            return super()._do_get()
        finally:
            self.waited_seconds += time.monotonic() - began


# A pool's logger has the name of its class, and what SQLAlchemy's own pools say is nothing for operators either.
logging.getLogger(f"{CountedPool.__module__}.{CountedPool.__qualname__}").setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class PoolStanding:
    """How one pool of connections stands: how many are in use and idle, how many waited for one, and for how long."""

    name: str
    used: int
    free: int
    waits: int
    waited_seconds: float
