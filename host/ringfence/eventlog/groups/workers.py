"""The tasks of one instance that serve the worker groups which it holds, one task per group."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from functools import partial
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from ringfence.backoff import pause
from ringfence.eventlog.groups.consume import Consumer, Outcome, Waiting
from ringfence.eventlog.groups.next_event import Heard, ManyHooks, OneHook
from ringfence.hooks import AnyGroup, EventsGroup, GroupKey, HookDirectory, WorkGroup
from ringfence.redaction import describe
from ringfence.tasks import OwnedTasks

POLL_SECONDS = 1.0
"""How often a group looks for work when nothing wakes it."""
BUSY_SECONDS = 0.1
"""How long to leave a group that another instance is still at work on."""
_OUT_OF_REACH_STEPS = 3
"""The longest pause after a lost database is the backoff of so many failures: it will be back at any moment."""

_log = structlog.get_logger("ringfence.eventlog")


class Workers:
    """Serves the held groups. A slow or failing group never holds another one up."""

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        tasks: OwnedTasks,
        *,
        instance: UUID,
        heard: Callable[[str], Heard],
        directory: HookDirectory,
    ) -> None:
        """`heard` says how far a plugin has heard the log here, `directory` which hooks there are."""
        self._heard = heard
        self._directory = directory
        self._sessions = sessions
        self._instance = instance
        self._tasks = tasks
        self._held: dict[GroupKey, AnyGroup] = {}
        self._serving: dict[GroupKey, asyncio.Task[None]] = {}
        self._wakings: dict[GroupKey, asyncio.Event] = {}

    @property
    def held(self) -> frozenset[GroupKey]:
        """The groups that this instance serves now."""
        return frozenset(self._held)

    def hold(self, groups: Collection[AnyGroup]) -> None:
        """Serve just these groups from now on. One that is let go finishes the event that it is at."""
        self._held = {group.key: group for group in groups}
        for key, waking in self._wakings.items():
            if key not in self._held:
                waking.set()
        for key, group in self._held.items():
            if key not in self._serving or self._serving[key].done():
                self._wakings[key] = asyncio.Event()
                self._serving[key] = self._tasks.supervise(
                    partial(self._serve, group),
                    plugin=group.plugin,
                    name=f"worker group {group.name}",
                    may_return=True,
                )

    def wake(self, hook: str) -> None:
        """There may be work for the groups of `hook`."""
        for key, group in self._held.items():
            if isinstance(group, WorkGroup) and group.hook.name == hook:
                self._wakings[key].set()

    def wake_of_many(self, hook: str) -> None:
        """All listeners here have heard an event of `hook`: there may be work for those who want such events."""
        for key, group in self._held.items():
            if isinstance(group, EventsGroup) and group.wants(hook):
                self._wakings[key].set()

    async def _serve(self, group: AnyGroup) -> None:
        reading = (
            OneHook(group) if isinstance(group, WorkGroup) else ManyHooks(group, self._heard, self._directory)
        )
        consumer = Consumer(self._sessions, group, instance=self._instance, reading=reading)
        waking = self._wakings[group.key]
        out_of_reach = 0
        while self._held.get(group.key) is group:
            waking.clear()
            try:
                outcome = await consumer.step()
                out_of_reach = 0
            except (SQLAlchemyError, OSError) as error:
                out_of_reach = min(out_of_reach + 1, _OUT_OF_REACH_STEPS)
                _log.warning(
                    "worker group cannot reach the database; trying again",
                    plugin=group.plugin,
                    worker_group=group.name,
                    error=describe(error),
                )
                await _until(waking, pause(out_of_reach))
                continue
            match outcome:
                case Outcome.WORKED:
                    pass
                case Outcome.BUSY:
                    await _until(waking, BUSY_SECONDS)
                case Outcome.IDLE:
                    await _until(waking, POLL_SECONDS)
                case Waiting(seconds):
                    await _until(waking, min(seconds, POLL_SECONDS))


async def _until(waking: asyncio.Event, seconds: float) -> None:
    """Return when woken, or after `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            await waking.wait()
    except TimeoutError:
        return
