"""Runs repeated jobs by their timetable, each in a task of its own; the same on the core and on a satellite."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from ringfence.scripts.schedule.when_due import Schedule, Timetable

LONGEST_SLEEP_SECONDS = 60.0

_log = logging.getLogger(__name__)


class Scheduler:
    """Awaits `work(key)` whenever the job `key` is due, and never again while that has not returned.

    `replace` may be called at any time, also before or after `run_until_cancelled`; nothing runs outside of that.
    What `work` raises is logged by its kind alone (the text may quote a script), and the job goes on.
    """

    def __init__(
        self,
        work: Callable[[str], Awaitable[None]],
        *,
        timetable: Timetable | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._work = work
        self._timetable = timetable or Timetable()
        self._clock = clock
        self._wall = wall
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._finishing = False

    def replace(self, schedules: Mapping[str, Schedule]) -> None:
        """Have exactly these jobs, by their schedules. The run of one that is gone is cancelled."""
        for key in self._timetable.replace(schedules, self._clock(), self._wall()):
            if (task := self._tasks.get(key)) is not None:
                task.cancel()
        self._changed.set()

    async def finish(self) -> None:
        """Start nothing more; return when what runs has ended."""
        self._finishing = True
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def run_until_cancelled(self) -> None:
        """Start what is due, until cancelled; then every run is cancelled too, and waited for."""
        try:
            while True:
                self._changed.clear()
                for key in () if self._finishing else self._timetable.due(self._clock(), self._wall()):
                    self._start(key)
                await self._sleep()
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, key: str) -> None:
        if key in self._tasks:
            # Taken away while it ran, and given back before its cancelled run has ended: its next time will do.
            self._timetable.finished(key)
            return
        task = asyncio.create_task(self._run(key), name=f"scheduled {key}")
        self._tasks[key] = task
        # Not in the task itself: one that is cancelled before its first step runs none of its own code.
        task.add_done_callback(lambda _: self._ended(key))

    async def _run(self, key: str) -> None:
        try:
            await self._work(key)
        except Exception as error:
            _log.error("a scheduled run failed: %s (job %s)", type(error).__name__, key)

    def _ended(self, key: str) -> None:
        del self._tasks[key]
        if skipped := self._timetable.finished(key):
            _log.warning(
                "a scheduled run took longer than its interval: skipped, not queued, %d of its times (job %s)",
                skipped,
                key,
            )

    async def _sleep(self) -> None:
        due = None if self._finishing else self._timetable.next_due(self._clock(), self._wall())
        seconds = LONGEST_SLEEP_SECONDS if due is None else min(due - self._clock(), LONGEST_SLEEP_SECONDS)
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                await self._changed.wait()
        except TimeoutError:
            return
