"""Brings what waits in the spool to the host, over one connection: in order, a few at a time, at a bounded rate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from ringfence.token_bucket import TokenBucket

from ringfence_satellite.agent.delivering.spool import Spool
from ringfence_satellite.protocol import MAX_FRAME_BURST, MAX_FRAMES_PER_SECOND

WINDOW = 16
"""How many results may be on their way and not yet acknowledged."""
PER_SECOND = MAX_FRAMES_PER_SECOND / 2
BURST = MAX_FRAME_BURST / 2
"""Half of what the host takes: the other half is for what else there is to say."""


UNPACED = 1e6
"""More than can be sent in a second."""


class Pace:
    """A token bucket with a clock, which counts seconds."""

    def __init__(
        self,
        per_second: float = PER_SECOND,
        burst: float = BURST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._bucket = TokenBucket(burst, per_second, clock())

    def delay(self) -> float:
        """Take one token; answers for how many seconds to wait before it may be used."""
        self._bucket.take(self._clock())
        return self._bucket.owed_seconds(self._clock())

    def follow(self, runs_per_second: float) -> None:
        """Be quick enough for what is due, and for half as much again of what has been waiting."""
        self._bucket.pace(PER_SECOND + 1.5 * runs_per_second, self._clock())


async def deliver(
    spool: Spool, send: Callable[[str], Awaitable[bool]], *, acknowledged: bool, pace: Pace | None = None
) -> None:
    """Send each waiting result once over this connection, until it is gone or this is cancelled.

    A result is settled by its acknowledgement. A host that gives none (it is older) has it once it was sent: that may
    lose a result, but would otherwise repeat all of them at each connection.
    """
    pace = pace or Pace()
    sent: set[str] = set()
    while True:
        spool.changed.clear()
        waiting = spool.waiting()
        sent.intersection_update(waiting)
        for result_id in [one for one in waiting if one not in sent][: WINDOW - len(sent)]:
            await asyncio.sleep(pace.delay())
            frame = await spool.read(result_id)
            if frame is None:
                continue
            if not await send(frame):
                return
            sent.add(result_id)
            if not acknowledged:
                spool.settle(result_id)
        await spool.changed.wait()
