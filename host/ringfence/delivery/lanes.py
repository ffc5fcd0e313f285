"""Lanes: every plugin's own way through the broadcast events, so that a slow one does not hold the others up.

An event goes to all its listeners at once, and the next one follows when they have had it. So whoever knows how far
the log has been followed knows what has been heard, and each plugin sees all events in their order. A plugin that takes
longer than `PATIENCE_SECONDS` is *behind*: it goes on in its own lane, still in order, and the others no longer wait
for it until it has caught up.

Threat: a listener that hangs, or is slow under load, keeps the policy from everybody else on the instance. Mechanism:
the above. Not covered: a listener that blocks the event loop itself (a computation, `time.sleep`) stops the process.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from ringfence.hooks import Event, Listener
from ringfence.tasks import OwnedTasks

PATIENCE_SECONDS = 0.5
"""How long the others wait for a plugin that is not through with an event."""
LANE_EVENTS = 10_000
"""How many events may wait in a lane; of what comes then the plugin is told nothing, as if its listeners had failed."""

_log = structlog.get_logger("ringfence.hooks")

Events = Mapping[Listener, Event[Any]]
"""One fact, as each of its listeners is to get it."""
Call = Callable[[Events], Awaitable[tuple[Listener, ...]]]
"""Calls listeners side by side and answers those that failed."""


@dataclass(slots=True)
class _Lane:
    """What waits for one plugin, and the task that works it off. `late`: nobody waits for it any more."""

    waiting: deque[tuple[int, Events]] = field(default_factory=deque)
    late: bool = False
    full: bool = False
    task: asyncio.Task[None] = field(init=False)


class Lanes:
    """The lanes of one instance. `missed` is told of each plugin and position of which a listener did not hear."""

    def __init__(self, call: Call, tasks: OwnedTasks, missed: Callable[[str, int], None]) -> None:
        self._call = call
        self._tasks = tasks
        self._missed = missed
        self._lanes: dict[str, _Lane] = {}
        self._moved = asyncio.Event()

    @property
    def behind(self) -> dict[str, int]:
        """The plugins that are behind, and how many events wait for each, the one that it is at included."""
        return {plugin: len(lane.waiting) for plugin, lane in self._lanes.items() if lane.late}

    def first_waiting(self, plugin: str) -> int | None:
        """The lowest position that `plugin` has yet to hear of; None if it has heard all that was delivered."""
        lane = self._lanes.get(plugin)
        return None if lane is None else min((position for position, _ in lane.waiting), default=None)

    async def deliver(self, position: int, events: Events) -> None:
        """Hand what is at `position` to its listeners; return when each plugin that is not behind has had it."""
        for plugin in dict.fromkeys(listener.plugin for listener in events):
            mine = {listener: event for listener, event in events.items() if listener.plugin == plugin}
            self._put(plugin, position, mine)
        await asyncio.sleep(0)  # which is all that most listeners take
        lanes = {
            lane.task: (plugin, lane)
            for plugin, lane in self._lanes.items()
            if not (lane.late or lane.task.done())
        }
        if not lanes:
            return
        _, slow = await asyncio.wait(lanes, timeout=PATIENCE_SECONDS)
        for task in slow:
            plugin, lane = lanes[task]
            lane.late = True
            _log.warning("plugin is slow; the others go on without it", plugin=plugin, position=position)

    async def caught_up(self, position: int, *, plugin: str | None = None) -> None:
        """Return once nothing up to `position` waits any more for `plugin`, or for any plugin."""
        while any(
            # Nearly always the first tells. In a log that was set back, what waits behind may have lower positions.
            any(waiting <= position for waiting, _ in lane.waiting)
            for one, lane in self._lanes.items()
            if plugin in {None, one}
        ):
            await self._moved.wait()

    def _put(self, plugin: str, position: int, events: Events) -> None:
        lane = self._lanes.get(plugin)
        if lane is None or lane.task.done():
            lane = self._lanes[plugin] = _Lane()
            lane.waiting.append((position, events))
            lane.task = self._tasks.spawn(self._work(plugin, lane), plugin=plugin, name="listeners")
            lane.task.add_done_callback(lambda _, ended=lane: self._end(plugin, ended))  # type: ignore[misc]
        elif len(lane.waiting) < LANE_EVENTS:
            lane.waiting.append((position, events))
        else:
            if not lane.full:
                lane.full = True
                _log.error("plugin is too far behind: it misses events", plugin=plugin, position=position)
            self._missed(plugin, position)

    async def _work(self, plugin: str, lane: _Lane) -> None:
        while lane.waiting:
            position, events = lane.waiting[0]
            if await self._call(events):
                self._missed(plugin, position)
            lane.waiting.popleft()
            self._tell()

    def _end(self, plugin: str, lane: _Lane) -> None:
        if self._lanes.get(plugin) is lane:
            del self._lanes[plugin]
        self._tell()

    def _tell(self) -> None:
        """Wake whoever waits now; who comes later waits for the next time."""
        self._moved.set()
        self._moved = asyncio.Event()
