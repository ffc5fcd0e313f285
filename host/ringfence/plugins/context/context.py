"""What a plugin is handed when it is up: the `PluginContext`, its own view of the running host."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from ringfence.access import Principals
from ringfence.eventlog import EventLogResumed, event_log_resumed
from ringfence.fleet.leadership import Leadership
from ringfence.fleet.replica import Replica
from ringfence.hooks import Event, Mode
from ringfence.plugins.context.events import Events
from ringfence.plugins.context.jobs import Jobs
from ringfence.plugins.plugin_services import PluginServices
from ringfence.plugins.registry import PluginError, Registry, S
from ringfence.storage.answering import answer_within

if TYPE_CHECKING:
    import asyncio

    import structlog

    from ringfence.plugins.runtime import Runtime
    from ringfence.settings import HostSettings

T = TypeVar("T")


class PluginContext(Events, Jobs):
    """One plugin's view of the running host; everything reached through it is scoped to that plugin."""

    def __init__(self, registry: Registry, runtime: Runtime, logger: structlog.stdlib.BoundLogger) -> None:
        super().__init__(registry, runtime)
        self.logger = logger
        self.services = PluginServices(registry, runtime)
        self.web = registry.web

    @property
    def access(self) -> Principals:
        """Whom the plugin may act for: the holders of API tokens, with the rules that they hold now."""
        return Principals(lambda: self._runtime.database.sessions)

    @property
    def settings(self) -> HostSettings:
        """The host's settings."""
        return self._runtime.settings

    def own_settings(self, model: type[S]) -> S:
        """The plugin's own settings, of the model that its `settings` names."""
        return self._registry.own_settings(model)

    @property
    def instance_id(self) -> UUID:
        """The identity of this running host; a new one at every start."""
        return self._runtime.instance_id

    @property
    def tail_is_live(self) -> bool:
        """Whether this instance is known to have heard of every commit but those of the last moments.

        What a plugin has copied out of broadcast events may be relied on only while this holds. It does not
        hold for a plugin whose listeners are behind, nor for one of which a listener has failed: that one
        has missed an event, until the instance is started again. Nor, once the database was set back, for one that
        listens to broadcasts and not to `ringfence.eventlog.event_log_resumed`.
        """
        delivery = self._runtime.delivery
        return (
            self._runtime.tailer.live
            and self.id not in delivery.missed
            and self.id not in delivery.lanes.behind
        )

    async def wait_for_event(self, position: int, *, by_every_plugin: bool = False) -> None:
        """Return once this plugin has had the event at `position` on this instance: read your own writes.

        With `by_every_plugin`, once all of them have had it.

        The log is followed once every plugin is ready. Raises `PluginError` in `after_plugins_ready`, where the wait
        would never end, and `LogSetBackError` when the database is set back meanwhile and the event may be lost.
        """
        self._runtime.check_following(self.id, "wait_for_event()")
        await self._runtime.tailer.wait_for(position)
        await self._runtime.delivery.lanes.caught_up(position, plugin=None if by_every_plugin else self.id)

    @property
    def draining(self) -> bool:
        """Whether this instance is about to stop, and takes nothing new."""
        return self._runtime.drain.began

    def waiting(self, seconds: float) -> AbstractAsyncContextManager[None]:
        """A block in which a request waits for something to happen, for at most so many seconds.

        `TimeoutError` is raised in it when they are over, and as soon as this instance drains: answer with what there
        is then, so that whoever asks can ask again on another instance.
        """
        return self._runtime.drain.waiting(seconds)

    async def answer_within(self, seconds: float, work: Coroutine[Any, Any, T], *, name: str) -> T:
        """What `work` answers, if it does so in time, even where the network to the database has stalled.

        Raises what it raises, or `TimeoutError`.
        """
        return await answer_within(seconds, work, name=f"{self.id}: {name}")

    def replica(
        self, load: Callable[[], Awaitable[T]], *, newer: Callable[[T, T], T] | None = None
    ) -> Replica[T]:
        """A copy in memory of what `load` reads, believed while the event log is followed: see `Replica`.

        Its owner keeps it up with broadcast events, by `keep` or `change`. It is forgotten whenever the log is followed
        again after a break. May be made in `init`.
        """
        made = Replica(load, lambda: self.tail_is_live, newer=newer)

        async def forget(_: Event[EventLogResumed]) -> None:
            made.forget()

        def follow() -> None:
            self.on_hook(event_log_resumed, forget, mode=Mode.INSTANCE_LOCAL)

        if self._runtime.ready:
            follow()
        else:
            # Before the plugin listens itself: what it is told of then, it may ask the replica about.
            self._runtime.when_ready.setdefault(self.id, []).append(follow)
        return made

    def lead(self, name: str) -> Leadership:
        """Stand for leader of what only one instance may do: see `Leadership`. `name` is this plugin's own.

        `context.spawn(context.lead("sums").serve(work), name="sums")` has `work` done by one instance at a time, and
        cancelled where that one leads no more.
        """
        return Leadership(self.sessions, f"ringfence.{self.id}.{name}", answer_within=self.answer_within)

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Run `work` in the background, owned by the host: cancelled before this plugin's `shutdown`.

        If it raises, that is logged and the instance reports itself as not ready: for work that comes to an end.
        """
        try:
            self._runtime.check_takes_part(self.id, f"spawn({name})")
        except PluginError:
            work.close()
            raise
        return self._runtime.tasks.spawn(work, plugin=self.id, name=name)

    def supervise(self, work: Callable[[], Coroutine[Any, Any, None]], *, name: str) -> asyncio.Task[None]:
        """Run what `work` makes in the background for as long as this plugin takes part, as `spawn` does.

        If it raises, or ends, that is logged, and it is made anew after a pause; until then the instance reports itself
        as not ready. It must be able to start in the middle: what it has begun may be half done.
        """
        self._runtime.check_takes_part(self.id, f"supervise({name})")
        return self._runtime.tasks.supervise(work, plugin=self.id, name=name)
