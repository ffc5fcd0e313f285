"""A recorder that stands in for the hooks: one plugin alone, with no database, in milliseconds.

The plugin lives through its real phases, and what it does wrongly is refused with the host's own errors. Only the event
log is a list, the services that it calls are the fakes it is given, and the plugins that it requires are stand-ins.
"""

from __future__ import annotations

import datetime as dt
import json
import tempfile
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import httpx

from ringfence.access import Access, AccessRule, Identity, Principal
from ringfence.declaring import ObjectHolder
from ringfence.delivery.hook_delivery import HookDelivery
from ringfence.hooks import AnyEvent, AnyGroup, Event, Hook, HookBus, HookError, Mode, P, WorkGroup
from ringfence.jobs import Job, JobBoard, JobError, Order, RunningJob, Timetable, kind_of
from ringfence.plugins.discovery import Plugin
from ringfence.plugins.lifecycle import Lifecycle
from ringfence.plugins.runtime import Runtime
from ringfence.plugins.services import Interface, ServiceDirectory
from ringfence.settings import HostSettings
from ringfence.tasks import OwnedTasks
from ringfence.testing.hosts import in_process_client
from ringfence.testing.no_database import NoDatabase, NoSession, Statement
from ringfence.testing.recorded_log import EndOfLog, RecordedLog
from ringfence.testing.recorded_queue import RecordedQueue
from ringfence.testing.standin import StandIn
from ringfence.web.app import create_app

T = TypeVar("T")
_FAKES = "test-fakes"


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a plugin listens to, and how. `worker_group` is None but in work-queue mode.

    A group for the events of many hooks (`on_events`) has "*" for its hook.
    """

    hook: str
    mode: Mode
    worker_group: str | None = None


class Recorder:
    """Runs `plugin` alone: what does it emit, what does it listen to, and what does it do when that comes?

    What it writes to the database goes nowhere but into `statements`; what it would read is not there, so a statement
    that must answer something raises `NoDatabaseError`.

    `services` and `extensions` are fakes, by interface (`extensions={Check: []}`: the point is there, and nobody else
    has added to it); `settings` are the host's. Use as an async context manager,
    or through the fixture `record`.
    """

    def __init__(
        self,
        plugin: Plugin,
        *,
        services: Mapping[type, object] | None = None,
        extensions: Mapping[type, Sequence[object]] | None = None,
        **settings: object,
    ) -> None:
        self.plugin = plugin
        self.events: list[Event[Any]] = []
        """Everything that the plugin has emitted and not rolled back, oldest first."""
        self.statements: list[Statement] = []
        """Every write that the plugin has made and not rolled back, oldest first."""
        self._log = RecordedLog(self.events)
        self._services = ServiceDirectory()
        self._fakes = StandIn(_FAKES, services=services, extensions=extensions)
        self._points = tuple(extensions or ())
        self._settings = settings
        self._queue = RecordedQueue()
        self._board = JobBoard()
        self._bus = HookBus()
        self._lifecycle: Lifecycle
        self._runtime: Runtime

    async def __aenter__(self) -> Recorder:
        requires = [StandIn(id) for id in self.plugin.info.requires]
        self._lifecycle = Lifecycle([self._fakes, *requires, self.plugin], self._services)
        for one in self._lifecycle.plugins:
            # Whose services the fakes stand for, nobody knows here.
            one.registry.requires |= {_FAKES}
        # Services that change objects ask whether a plugin holds them: none does.
        for point in (*self._points, ObjectHolder):
            self._services.declare_missing_point(point, plugin=_FAKES)
        instance = uuid.uuid4()
        settings = {"data_dir": Path(tempfile.gettempdir()) / "no-such-data", **self._settings}
        self._runtime = Runtime(
            HostSettings.model_validate(settings),
            instance,
            NoDatabase(self._end, self.statements),
            EndOfLog(),
            self._bus,
            HookDelivery(self._bus, instance, self._log, unstored=self.events.append),
            self._services,
            OwnedTasks(),
            board=self._board,
            queue=self._queue,
        )
        try:
            await self._lifecycle.start(self._runtime)
            self._lifecycle.raise_what_failed()
        except BaseException:
            await self._lifecycle.stop(self._runtime)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._lifecycle.stop(self._runtime)

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """What the plugin listens to, in the order of their names."""
        id = self.plugin.info.id
        found = [Subscription(one.hook.name, one.mode) for one in self._bus.listeners(plugin=id)]
        found += [
            Subscription(
                group.hook.name if isinstance(group, WorkGroup) else "*", Mode.WORK_QUEUE, group.name
            )
            for group in self._bus.groups().values()
            if group.plugin == id
        ]
        return tuple(sorted(found, key=lambda one: (one.hook, one.mode, one.worker_group or "")))

    def emitted(self, hook: Hook[P]) -> list[Event[P]]:
        """What the plugin has emitted of `hook` and not rolled back, oldest first."""
        return [event for event in self.events if event.hook == hook.name]

    async def deliver(
        self, hook: Hook[P], payload: P, *, actor: str | None = None, reason: str | None = None
    ) -> None:
        """Have the plugin handle an event now, in each mode in which it listens. Raises what its handler raises."""
        if not isinstance(payload, hook.payload):
            raise HookError(f"hook {hook.name} carries {hook.payload.__name__}, not {type(payload).__name__}")
        id = self.plugin.info.id
        event = Event(
            payload=payload,
            hook=hook.name,
            plugin=_FAKES,
            position=1 if hook.stored else 0,
            stream=hook.stream or f"{_FAKES}.{hook.name}",
            version=1 if hook.stored else 0,
            actor=actor,
            reason=reason,
            occurred_at=dt.datetime.now(dt.UTC),
        )
        listeners = [one for one in self._bus.listeners(plugin=id) if one.hook.name == hook.name]
        groups = [one for one in self._bus.groups().values() if one.plugin == id and _takes(one, hook)]
        if not listeners and not groups:
            raise HookError(f"{id} does not listen to {hook.name}")
        for listener in listeners:
            await listener(event)
        for group in groups:
            async with self._runtime.database.sessions.begin() as session:
                if isinstance(group, WorkGroup):
                    await group(event, session)
                else:
                    await group(_any(event), session)

    def enqueued(self, job: Job[P]) -> list[Order]:
        """The jobs of a kind that the plugin has enqueued and not rolled back, oldest first."""
        return [order for order in self._queue.orders if order.job is job]

    @property
    def timetables(self) -> tuple[Timetable, ...]:
        """What the plugin has enqueued again and again, by `every` or `set_timetable`, in the order of their names."""
        found = [*self._board.timetables(), *self._queue.timetables.values()]
        return tuple(sorted(found, key=lambda one: one.name))

    async def run_job(
        self,
        job: Job[P],
        payload: P,
        *,
        attempt: int = 1,
        id: uuid.UUID | None = None,
        key: str | None = None,
        actor: str | None = None,
    ) -> RunningJob[P]:
        """Have the plugin do a job now. Raises what its handler raises; answers what that was handed."""
        service = self._board.services.get(kind_of(self.plugin.info.id, job.name))
        if service is None:
            raise JobError(f"{self.plugin.info.id} does no jobs {job.name}: it has not called on_job")
        Order(self.plugin.info.id, job, payload)
        now = dt.datetime.now(dt.UTC)
        deadline = None if job.deadline_seconds is None else now + dt.timedelta(seconds=job.deadline_seconds)
        running = RunningJob(
            id or uuid.uuid4(), payload, attempt, now, now, deadline, actor, key, self._queue.report
        )
        async with self._runtime.database.sessions.begin() as session:
            await service(running, session)
        return running

    def service(self, interface: Interface[T]) -> T:
        """What the plugin provides as `interface`. Raises `ServiceError`."""
        return self._services.get(interface)

    def extensions(self, interface: Interface[T]) -> tuple[T, ...]:
        """What the plugin has added to the extension point `interface`; the fakes are not among it."""
        return self._services.extensions_by(interface, plugin=self.plugin.info.id)

    def client(self, rules: Collection[str] = (), *, name: str = "tester") -> httpx.AsyncClient:
        """A client on the plugin's routes, as somebody called `name` who holds just these access rules."""
        declared = {
            name: rule for one in self._lifecycle.alive() for name, rule in one.registry.rules.items()
        }
        app = create_app(self._runtime, self._lifecycle.plugins, _AnyToken(declared))
        return in_process_client(app, " ".join((name, *sorted(rules))))

    def _end(self, session: NoSession, kept: bool) -> None:
        if not kept:
            undone = [id(one) for one in session.written]
            self.statements[:] = [one for one in self.statements if id(one) not in undone]
        self._log.end(session, kept)
        self._queue.end(session, kept)


def _takes(group: AnyGroup, hook: Hook[Any]) -> bool:
    if isinstance(group, WorkGroup):
        return group.hook.name == hook.name
    return hook.stored and group.wants(hook.name)


def _any(event: Event[Any]) -> AnyEvent:
    """The event as a group for the events of many hooks gets it."""
    told = {field.name: getattr(event, field.name) for field in fields(AnyEvent)}
    return AnyEvent(**told | {"payload": json.loads(event.payload.model_dump_json(by_alias=True))})


class _AnyToken(Access):
    """Access in which a token is "name rule rule …", and is believed."""

    def __init__(self, rules: Mapping[str, AccessRule]) -> None:
        self.rules = dict(rules)

    async def identify(self, secret: str) -> Identity | None:
        name, *rules = secret.split(" ")
        return Identity(name, Principal(name, frozenset(rules)))
