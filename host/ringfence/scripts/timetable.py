"""When each of many repeated jobs is due: on a fixed grid, from a jittered start, and never twice at once.

Pure: time comes in as a number of seconds (of any clock that only goes forward), chance as a function.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

SPREAD_SECONDS = 10.0
"""Jobs that begin at the same moment make their first run within this time, or within their interval if that is
shorter: a fleet that is told of a new job at once must not start it at once."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One job's place in time: it is due at `due`, and every `interval` seconds from there."""

    interval: float
    due: float
    running: bool = False
    skipped: int = 0
    """How many of its times have passed while it was still running."""

    def advanced(self, now: float) -> Slot:
        """The same grid, with the first time on it that is after `now`: so late runs never shift later ones."""
        steps = max(1, int((now - self.due) / self.interval) + 1)
        due = self.due + steps * self.interval
        # At the edge of what a float can tell apart, the division above may be one off.
        return replace(self, due=due if due > now else due + self.interval)


class Timetable:
    """The slots of all jobs, by key. What is due is marked as running until `finished` says that it is not."""

    def __init__(self, draw: Callable[[float, float], float] = random.uniform) -> None:
        self._draw = draw
        self._slots: dict[str, Slot] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, key: str) -> bool:
        return key in self._slots

    def replace(self, intervals: Mapping[str, float], now: float) -> tuple[str, ...]:
        """Have exactly these jobs, by their intervals in seconds; answers the keys that are no longer there.

        A job whose interval has not changed keeps its place, so that changing one job disturbs no other.
        """
        gone = tuple(key for key in self._slots if key not in intervals)
        self._slots = {
            key: slot
            if (slot := self._slots.get(key)) is not None and slot.interval == interval
            else Slot(
                interval,
                now + self._draw(0.0, min(interval, SPREAD_SECONDS)),
                running=slot is not None and slot.running,
            )
            for key, interval in intervals.items()
        }
        return gone

    def due(self, now: float) -> tuple[str, ...]:
        """The jobs to start now. One that is still running is not among them: that time of it is skipped."""
        started = []
        for key, slot in self._slots.items():
            if slot.due > now:
                continue
            if slot.running:
                self._slots[key] = replace(slot.advanced(now), skipped=slot.skipped + 1)
            else:
                self._slots[key] = replace(slot.advanced(now), running=True)
                started.append(key)
        return tuple(started)

    def finished(self, key: str) -> int:
        """A job's run has ended; answers how many of its times were skipped meanwhile."""
        slot = self._slots.get(key)
        if slot is None:
            return 0
        self._slots[key] = replace(slot, running=False, skipped=0)
        return slot.skipped

    def next_due(self) -> float | None:
        """When there is something to do again; None if there are no jobs."""
        return min((slot.due for slot in self._slots.values()), default=None)
