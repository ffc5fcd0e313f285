"""When each of many repeated jobs is due: on a fixed grid, from a jittered start, and never twice at once.

The grid is that of an interval, or of the clock on the wall (`Cron`). Pure: time comes in as numbers of seconds, `now`
of any clock that only goes forward, and `wall` since 1970; chance comes in as a function.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ringfence.scripts.schedule.cron import Cron

Schedule = float | Cron
"""An interval in seconds, or times on the wall."""
SPREAD_SECONDS = 10.0
"""Jobs that begin at the same moment make their first run within this time, or within their interval if that is
shorter: a fleet that is told of a new job at once must not start it at once. A job by the wall is later than its times
by as much, each time."""
SET_BACK_SECONDS = 1.0
"""By how much the wall's clock may fall behind without being taken to have been set."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One job's place in time: it is due at `due`, and from there by its schedule.

    `due` is of the wall's clock where the schedule is; then it is `late` by so many seconds after each of its times.
    """

    schedule: Schedule
    due: float
    late: float = 0.0
    running: bool = False
    skipped: int = 0
    """How many of its times have passed while it was still running."""

    def advanced(self, now: float) -> Slot:
        """The same grid, with the first time on it that is after `now`: so late runs never shift later ones."""
        if isinstance(self.schedule, Cron):
            return replace(self, due=self.schedule.next_after(now - self.late) + self.late)
        steps = max(1, int((now - self.due) / self.schedule) + 1)
        due = self.due + steps * self.schedule
        # At the edge of what a float can tell apart, the division above may be one off.
        return replace(self, due=due if due > now else due + self.schedule)


class Timetable:
    """The slots of all jobs, by key. What is due is marked as running until `finished` says that it is not."""

    def __init__(self, draw: Callable[[float, float], float] = random.uniform) -> None:
        self._draw = draw
        self._slots: dict[str, Slot] = {}
        self._ahead: float | None = None
        """How far the wall's clock was ahead of the other one when both were last read."""

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, key: str) -> bool:
        return key in self._slots

    def replace(self, schedules: Mapping[str, Schedule], now: float, wall: float = 0.0) -> tuple[str, ...]:
        """Have exactly these jobs, by their schedules; answers the keys that are no longer there.

        A job whose schedule has not changed keeps its place, so that changing one job disturbs no other.
        """
        gone = tuple(key for key in self._slots if key not in schedules)
        self._slots = {
            key: slot
            if (slot := self._slots.get(key)) is not None and slot.schedule == schedule
            else self._slot(schedule, now, wall, running=slot is not None and slot.running)
            for key, schedule in schedules.items()
        }
        return gone

    def due(self, now: float, wall: float = 0.0) -> tuple[str, ...]:
        """The jobs to start now. One that is still running is not among them: that time of it is skipped."""
        self._follow(now, wall)
        started = []
        for key, slot in self._slots.items():
            clock = wall if isinstance(slot.schedule, Cron) else now
            if slot.due > clock:
                continue
            if slot.running:
                self._slots[key] = replace(slot.advanced(clock), skipped=slot.skipped + 1)
            else:
                self._slots[key] = replace(slot.advanced(clock), running=True)
                started.append(key)
        return tuple(started)

    def finished(self, key: str) -> int:
        """A job's run has ended; answers how many of its times were skipped meanwhile."""
        slot = self._slots.get(key)
        if slot is None:
            return 0
        self._slots[key] = replace(slot, running=False, skipped=0)
        return slot.skipped

    def next_due(self, now: float = 0.0, wall: float = 0.0) -> float | None:
        """When there is something to do again, by the clock of `now`; None if there are no jobs."""
        ahead = wall - now
        return min(
            (
                slot.due - ahead if isinstance(slot.schedule, Cron) else slot.due
                for slot in self._slots.values()
            ),
            default=None,
        )

    def _slot(self, schedule: Schedule, now: float, wall: float, *, running: bool) -> Slot:
        if isinstance(schedule, Cron):
            late = self._draw(0.0, min(schedule.longest_gap_seconds, SPREAD_SECONDS))
            return Slot(schedule, wall, late, running=running).advanced(wall)
        return Slot(schedule, now + self._draw(0.0, min(schedule, SPREAD_SECONDS)), running=running)

    def _follow(self, now: float, wall: float) -> None:
        """Where the wall's clock was set back, what is due by it is worked out anew: its times come again."""
        ahead, self._ahead = self._ahead, wall - now
        if ahead is not None and self._ahead < ahead - SET_BACK_SECONDS:
            self._slots = {
                key: slot.advanced(wall) if isinstance(slot.schedule, Cron) else slot
                for key, slot in self._slots.items()
            }
