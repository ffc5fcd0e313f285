"""Events: what a plugin listens to, and what it tells, with what follows from that."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, TypeVar, cast, overload

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
from ringfence.plugins.context.view import PluginView
from ringfence.storage.configs import ConfigSchema, M, write_of
from ringfence.storage.set_aside import Culprit, Write

if TYPE_CHECKING:
    import datetime as dt

    from sqlalchemy.ext.asyncio import AsyncSession

T = TypeVar("T")


class Events(PluginView):
    """The part of a plugin's context that is about events."""

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
