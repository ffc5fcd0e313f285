"""What a plugin is handed when it is up: the `PluginContext`, its own view of the running host."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, overload
from uuid import UUID

from ringfence.access import Principals
from ringfence.eventlog import EventLogResumed, event_log_resumed
from ringfence.fleet.leadership import Leadership
from ringfence.fleet.replica import Replica
from ringfence.hooks import (
    MAX_RETRIES,
    AnyWorkHandler,
    Event,
    EventsGroup,
    Handler,
    Hook,
    HookDirectory,
    HookError,
    Listener,
    Mode,
    P,
    WorkGroup,
    WorkHandler,
)
from ringfence.jobs import Job, JobError, JobHandler, JobService, Order, Timetable, kind_of
from ringfence.scripts.schedule.cron import UTC
from ringfence.storage.answering import answer_within
from ringfence.storage.configs import ConfigSchema, M, PluginConfigs, write_of
from ringfence.storage.set_aside import Culprit, Write

if TYPE_CHECKING:
    import asyncio
    import datetime as dt

    import structlog
    from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

    from ringfence.plugins.runtime import Runtime
    from ringfence.settings import HostSettings
from ringfence.plugins.plugin_services import PluginServices
from ringfence.plugins.registry import PluginError, Registry, S

T = TypeVar("T")


class PluginContext:
    """One plugin's view of the running host; everything reached through it is scoped to that plugin."""

    def __init__(self, registry: Registry, runtime: Runtime, logger: structlog.stdlib.BoundLogger) -> None:
        self._registry = registry
        self._runtime = runtime
        self.id = registry.plugin
        self.logger = logger
        self.configs = PluginConfigs(self.id, registry.configs)
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
    def sessions(self) -> async_sessionmaker[AsyncSession]:
        """Database sessions: `async with context.sessions.begin() as session` is one transaction."""
        return self._runtime.database.sessions

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

    @overload
    def on_hook(
        self,
        hook: Hook[P],
        handler: Handler[P],
        *,
        mode: Literal[Mode.BROADCAST, Mode.INSTANCE_LOCAL] = Mode.BROADCAST,
    ) -> None: ...

    @overload
    def on_hook(
        self,
        hook: Hook[P],
        handler: WorkHandler[P],
        *,
        mode: Literal[Mode.WORK_QUEUE],
        worker_group: str,
        max_retries: int = MAX_RETRIES,
    ) -> None: ...

    def on_hook(
        self,
        hook: Hook[P],
        handler: Handler[P] | WorkHandler[P],
        *,
        mode: Mode = Mode.BROADCAST,
        worker_group: str | None = None,
        max_retries: int = MAX_RETRIES,
    ) -> None:
        """Have `handler` awaited for every event of `hook`. Only from `after_plugins_ready` on.

        In work-queue mode one instance of the fleet at a time works for the `worker_group`, whose name is
        this plugin's own: `handler(event, session)` writes in the transaction in which the group moves on,
        so its writes happen exactly once; what it does elsewhere, at least once. If it raises, they are
        undone, and the event is tried again up to `max_retries` times before it is set aside (`ringfence
        events failed`). A group starts where the first instance that had it started. Raises `HookError`.
        """
        self._runtime.check_ready(self.id, f"on_hook({hook.name})")
        if (mode is Mode.WORK_QUEUE) != (worker_group is not None):
            raise HookError(
                f"{self.id} subscribes to {hook.name} in mode {mode} "
                + (
                    "without a worker group: pass worker_group="
                    if worker_group is None
                    else "with a worker group: "
                )
                + (
                    "'a-name', under which the fleet shares the work"
                    if worker_group is None
                    else "only work-queue has one"
                )
            )
        if worker_group is None:
            self._runtime.bus.connect(Listener(self.id, hook, mode, cast("Handler[P]", handler)))
        else:
            work = cast("WorkHandler[P]", handler)
            self._runtime.bus.add_group(WorkGroup(self.id, worker_group, hook, work, max_retries))

    @property
    def hooks(self) -> HookDirectory:
        """The stored hooks that the plugins of this instance and the host declare, each with the model of its payload.

        Only from `after_plugins_ready` on; one of a plugin that fails there is not among them any more.
        """
        self._runtime.check_ready(self.id, "hooks")
        return self._runtime.hooks

    def on_events(
        self,
        handler: AnyWorkHandler,
        *,
        worker_group: str,
        wanted: Callable[[str], bool],
        max_retries: int = MAX_RETRIES,
    ) -> None:
        """Have `handler` awaited for the events of all stored hooks whose names are `wanted`, in the log's order.

        As `on_hook` in work-queue mode otherwise: `handler(event, session)` works on one instance of the fleet at a
        time, in the transaction in which the group moves on. The event is an `AnyEvent`, its payload JSON.

        `wanted(name)` is asked again and again, so it answers at once, from memory; what it answers may change. It is
        asked about an event when this plugin's broadcast listeners on this instance have heard all events up to that
        one, so a copy that they keep up knows enough; while there is no copy to be believed, it should answer True, and
        leave the decision to the handler. Events that are not wanted are passed over many at a time.
        """
        self._runtime.check_ready(self.id, f"on_events({worker_group})")
        group = EventsGroup(self.id, worker_group, wanted, handler, max_retries)
        self._runtime.bus.add_group(group)

    async def emit_hook(
        self,
        hook: Hook[P],
        payload: P,
        *,
        session: AsyncSession | None = None,
        standalone: bool = False,
        stream: str | None = None,
        expected_version: int | None = None,
        actor: str | None = None,
        reason: str | None = None,
    ) -> Event[P]:
        """Emit a hook that this plugin declared. Only from `after_plugins_ready` on.

        A stored hook is appended to the event log within `session`'s transaction: it is delivered
        everywhere once that commits, and nowhere if it does not. Where the event is all that there is to
        record, pass `standalone=True` instead: it is committed when this returns, in one exchange with the
        database. A hook that is not stored is delivered before this returns. Raises `HookError`, and
        `WrongExpectedVersionError` when `expected_version` is not the stream's.
        """
        self._check_emits(hook)
        return await self._runtime.delivery.emit(
            self.id,
            hook,
            payload,
            session=session,
            standalone=standalone,
            stream=stream,
            expected_version=expected_version,
            actor=actor,
            reason=reason,
        )

    async def write_apart(self, items: deque[T], write: Write[T], culprit: Callable[[T], Culprit]) -> int:
        """Write `items` in as few transactions as will do, so that one which cannot be stored harms none of the others.

        `write(session, some)` writes some of them, in their order. What cannot be stored is set aside with its origin,
        as `culprit(item)` tells it; the answer is how many that were. Takes what is done with from `items`: when the
        database is away, which is raised, the rest is still there.
        """
        return await self._runtime.aside.write(self.sessions, items, write, culprit, plugin=self.id)

    async def emit_hooks(
        self,
        hook: Hook[P],
        facts: Sequence[tuple[str, P]],
        *,
        session: AsyncSession | None = None,
        standalone: bool = False,
        actor: str | None = None,
        reason: str | None = None,
    ) -> None:
        """Emit many events of a stored hook in one exchange with the database.

        Each fact is a stream and a payload.

        As `emit_hook` otherwise. The log's append lock is held until the transaction ends, so keep batches
        small.
        """
        self._check_emits(hook)
        await self._runtime.delivery.emit_all(
            self.id, hook, facts, session=session, standalone=standalone, actor=actor, reason=reason
        )

    async def emit_with_config(
        self,
        hook: Hook[P],
        payload: P,
        schema: ConfigSchema[M],
        value: M,
        *,
        replaces: dt.datetime | None,
        updated_at: dt.datetime,
        expected_version: int,
        actor: str | None = None,
        reason: str | None = None,
    ) -> Event[P] | None:
        """Emit a stored hook, and store the config that follows from it, in one exchange with the database.

        It is one transaction, for callers who know without asking the database what both were.

        Both are written if the hook's stream is at `expected_version` and the stored config was last updated at
        `replaces` (None: nothing is stored). If not, neither is, and the answer is None: read, and decide again.
        Raises `HookError` and `ConfigError` for what cannot be stored.
        """
        self._check_emits(hook)
        config = write_of(
            self.configs, schema, value, replaces=replaces, updated_at=updated_at, updated_by=actor
        )
        return await self._runtime.delivery.emit_with_config(
            self.id, hook, payload, config, expected_version=expected_version, actor=actor, reason=reason
        )

    async def config_updated_at(self, schema: ConfigSchema[M]) -> dt.datetime | None:
        """When the stored config was last written, if there is one: whether a copy of it still holds.

        In one exchange with the database.
        """
        async with self._runtime.database.autocommit() as connection:
            return await self.configs.updated_at(schema, connection=connection)

    def _check_emits(self, hook: Hook[P]) -> None:
        self._runtime.check_ready(self.id, f"emit_hook({hook.name})")
        if self._registry.hooks.get(hook.name) is not hook:
            raise HookError(
                f"{self.id} emits {hook.name} without having declared it: pass it to registry.hook()"
            )

    def on_job(self, job: Job[P], handler: JobHandler[P]) -> None:
        """Have `handler` do the jobs of a kind that this plugin declared. Only from `after_plugins_ready` on.

        `handler(job, session)` writes in the transaction that ends the job, so its writes happen exactly once; what it
        does elsewhere, at least once. If it raises, they are undone, and the job is tried again later, up to the kind's
        `max_attempts`; then it has failed, and is kept with its error (`ringfence jobs`). Raises `JobError`.
        """
        self._runtime.check_ready(self.id, f"on_job({job.name})")
        self._check_has(job)
        self._runtime.board.serve(JobService(self.id, job, handler))

    async def enqueue(
        self,
        job: Job[P],
        payload: P,
        *,
        session: AsyncSession | None = None,
        at: dt.datetime | None = None,
        after_seconds: float = 0.0,
        key: str | None = None,
        unique: str | None = None,
        actor: str | None = None,
    ) -> UUID:
        """Have a job done, by whichever instance comes to it: in `session`'s transaction, or at once without one.

        Only from `after_plugins_ready` on. Raises `JobError`.

        Args:
            job: a kind that this plugin declared.
            payload: what the handler is handed.
            session: the job is there if this commits, and never was if it does not.
            at: not before this moment.
            after_seconds: not before so many seconds have passed.
            key: this plugin's jobs of one key, whatever their kinds, are done one after another: in the order in which
                they are due, and of those that are due at once, in which they were enqueued. One that has failed and is
                to be tried again keeps its place; one for later is in nobody's way before.
            unique: while a job of this kind and name waits, it does for both, as soon as either would have been due;
                its payload stays as it is. It begins after `session`'s transaction, so that its handler sees what is
                written there. The answer is its id then.
            actor: on whose behalf.
        """
        self._runtime.check_ready(self.id, f"enqueue({job.name})")
        self._check_has(job)
        order = Order(self.id, job, payload, at, after_seconds, key, unique, actor=actor)
        if session is not None:
            return await self._runtime.queue.enqueue(session, order)
        async with self.sessions.begin() as own:
            return await self._runtime.queue.enqueue(own, order)

    async def cancel_job(self, id: UUID, *, session: AsyncSession | None = None) -> bool:
        """Cancel a job of this plugin's. False if it has ended already, or was never there.

        One that waits is never begun. The handler of one that runs is cancelled, once this is committed, unless it ends
        first.
        """
        self._runtime.check_ready(self.id, "cancel_job()")
        if session is not None:
            return await self._runtime.queue.cancel(session, id, plugin=self.id) is not None
        async with self.sessions.begin() as own:
            return await self._runtime.queue.cancel(own, id, plugin=self.id) is not None

    async def cancel_waiting(self, job: Job[Any], *, unique: str, session: AsyncSession) -> bool:
        """Cancel the job of this plugin that waits by the name `unique`. False if none does; one that runs goes on."""
        self._runtime.check_ready(self.id, f"cancel_waiting({job.name})")
        return await self._runtime.queue.cancel_waiting(session, kind_of(self.id, job.name), unique)

    def every(self, schedule: str, job: Job[P], payload: P, *, name: str, zone: str = UTC) -> None:
        """Have a job enqueued again and again, once for the fleet. Only in `after_plugins_ready`.

        `schedule` is an interval ("30s", "5m", "1h", "1d") or an expression of cron ("0 3 * * *") in `zone`. Of times
        that nobody was there for, one is made up for; and while one of its jobs waits, no second is enqueued. It goes
        on from one start to the next, unless the schedule is another one then; a `name` that is not given any more is
        forgotten. Raises `JobError`.
        """
        self._runtime.check_ready(self.id, f"every({name})")
        if self._runtime.following:
            raise JobError(
                f"{self.id} used every({name}) too late: do it in after_plugins_ready, or set_timetable()"
            )
        self._check_has(job)
        self._runtime.board.repeat(Timetable(self.id, name, job, payload, schedule, zone))

    async def set_timetable(
        self, schedule: str, job: Job[P], payload: P, *, name: str, zone: str = UTC, session: AsyncSession
    ) -> None:
        """As `every`, at any time and in `session`'s transaction; it stays until it is set anew, or removed."""
        self._runtime.check_ready(self.id, f"set_timetable({name})")
        self._check_has(job)
        Timetable(self.id, name, job, payload, schedule, zone)
        order = Order(self.id, job, payload)
        await self._runtime.queue.set_timetable(session, order, schedule, zone, name=name)

    async def remove_timetable(self, name: str, *, session: AsyncSession) -> bool:
        """Take away what `set_timetable` has set, in `session`'s transaction. False if there was nothing."""
        self._runtime.check_ready(self.id, f"remove_timetable({name})")
        return await self._runtime.queue.remove_timetable(session, self.id, name)

    def _check_has(self, job: Job[P]) -> None:
        if self._registry.jobs.get(job.name) is not job:
            raise JobError(
                f"{self.id} uses the job {job.name} without having declared it: pass it to registry.job()"
            )

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
