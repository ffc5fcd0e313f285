"""A recorder that stands in for the hooks: one plugin alone, with no database, in milliseconds.

The plugin lives through its real phases, and what it does wrongly is refused with the host's own errors. Only the event
log is a list, the services that it calls are the fakes it is given, and the plugins that it requires are stand-ins.
"""

from __future__ import annotations

import datetime as dt
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import httpx
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence.access import Access, AccessRule, Identity, Principal
from ringfence.eventlog import Appended, Source, Tailer, Written, WrongExpectedVersionError
from ringfence.hooks import Event, Hook, HookBus, HookError, Mode, P
from ringfence.hooks.delivery import HookDelivery
from ringfence.plugins.discovery import Plugin
from ringfence.plugins.lifecycle import Lifecycle
from ringfence.plugins.runtime import Runtime
from ringfence.plugins.services import Interface, ServiceDirectory
from ringfence.settings import HostSettings
from ringfence.storage.configs import ConfigWrite
from ringfence.storage.database import Database
from ringfence.tasks import OwnedTasks
from ringfence.testing.hosts import in_process_client
from ringfence.testing.standin import StandIn
from ringfence.web.app import create_app

T = TypeVar("T")
_FAKES = "test-fakes"


class NoDatabaseError(RuntimeError):
    """The plugin used the database, and there is none here."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a plugin listens to, and how. `worker_group` is None but in work-queue mode."""

    hook: str
    mode: Mode
    worker_group: str | None = None


@dataclass(frozen=True, slots=True)
class Statement:
    """A write that a plugin made in one transaction: its SQL, and its parameters."""

    sql: str
    parameters: Any


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
        self._log = _RecordingLog(self.events)
        self._services = ServiceDirectory()
        self._fakes = StandIn(_FAKES, services=services, extensions=extensions)
        self._points = tuple(extensions or ())
        self._settings = settings
        self._bus = HookBus()
        self._lifecycle: Lifecycle
        self._runtime: Runtime

    async def __aenter__(self) -> Recorder:
        requires = [StandIn(id) for id in self.plugin.info.requires]
        self._lifecycle = Lifecycle([self._fakes, *requires, self.plugin], self._services)
        for one in self._lifecycle.plugins:
            # Whose services the fakes stand for, nobody knows here.
            one.registry.requires |= {_FAKES}
        for point in self._points:
            self._services.declare_missing_point(point, plugin=_FAKES)
        instance = uuid.uuid4()
        settings = {"data_dir": Path(tempfile.gettempdir()) / "no-such-data", **self._settings}
        self._runtime = Runtime(
            HostSettings.model_validate(settings),
            instance,
            cast("Database", _NoDatabase(self._end, self.statements)),
            cast("Tailer", _EndOfLog()),
            self._bus,
            _RecordingDelivery(self._bus, instance, self._log, self.events),
            self._services,
            OwnedTasks(),
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
            Subscription(group.hook.name, Mode.WORK_QUEUE, group.name)
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
        groups = [
            one for one in self._bus.groups().values() if one.plugin == id and one.hook.name == hook.name
        ]
        if not listeners and not groups:
            raise HookError(f"{id} does not listen to {hook.name}")
        for listener in listeners:
            await listener(event)
        for group in groups:
            async with self._runtime.database.sessions.begin() as session:
                await group(event, session)

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

    def _end(self, session: _NoSession, kept: bool) -> None:
        if not kept:
            undone = [id(one) for one in session.written]
            self.statements[:] = [one for one in self.statements if id(one) not in undone]
        self._log.end(cast("AsyncSession", session), kept)


class _RecordingLog:
    """The event log as a list, with versions and expectations kept as in the database."""

    def __init__(self, events: list[Event[Any]]) -> None:
        self._events = events
        self._open: list[tuple[AsyncSession, Event[Any]]] = []

    async def append(
        self,
        session: AsyncSession | None,
        stream: str,
        written: Written,
        source: Source,
        *,
        expected_version: int | None = None,
    ) -> Appended:
        """Append to the list."""
        version = max((event.version for event in self._events if event.stream == stream), default=0)
        if expected_version is not None and expected_version != version:
            raise WrongExpectedVersionError(stream, expected=expected_version, current=version)
        position = 1 + max((event.position for event in self._events), default=0)
        appended = Appended(position, version + 1, dt.datetime.now(dt.UTC))
        event = Event(
            payload=written.payload,
            hook=source.hook,
            plugin=source.plugin,
            position=position,
            stream=stream,
            version=appended.version,
            actor=source.actor,
            reason=source.reason,
            occurred_at=appended.occurred_at,
        )
        self._events.append(event)
        if session is not None:
            self._open.append((session, event))
        return appended

    async def append_all(
        self, session: AsyncSession | None, facts: Sequence[tuple[str, Written]], source: Source
    ) -> None:
        """Append one by one."""
        for stream, written in facts:
            await self.append(session, stream, written, source)

    async def append_with_config(
        self, stream: str, written: Written, source: Source, *, expected_version: int, config: ConfigWrite
    ) -> Appended | None:
        """Append to the list. The config goes nowhere, as nothing that is written here does."""
        try:
            return await self.append(None, stream, written, source, expected_version=expected_version)
        except WrongExpectedVersionError:
            return None

    def end(self, session: AsyncSession, kept: bool) -> None:
        """A transaction has ended: what was emitted in one that was rolled back was never emitted."""
        mine = [id(event) for emitter, event in self._open if emitter is session]
        self._open = [one for one in self._open if one[0] is not session]
        if not kept:
            self._events[:] = [event for event in self._events if id(event) not in mine]


class _RecordingDelivery(HookDelivery):
    """Remembers what is never stored, too."""

    def __init__(
        self, bus: HookBus, instance: uuid.UUID, log: _RecordingLog, events: list[Event[Any]]
    ) -> None:
        super().__init__(bus, instance, log)
        self._events = events

    async def emit(self, plugin: str, hook: Hook[P], payload: P, **more: Any) -> Event[P]:
        """Emit, and remember."""
        event = await super().emit(plugin, hook, payload, **more)
        if not hook.stored:
            self._events.append(event)
        return event


class _EndOfLog:
    """Stands for the tailer: everything has been delivered already."""

    live = True
    cursor = 0

    async def wait_for(self, position: int) -> None:
        """Nothing to wait for."""


class _NoDatabase:
    """Stands for the database: transactions begin and end, and what is written in between is noted."""

    def __init__(self, end: Callable[[_NoSession, bool], None], statements: list[Statement]) -> None:
        self.sessions = _NoSessions(end, statements)


class _NoSessions:
    def __init__(self, end: Callable[[_NoSession, bool], None], statements: list[Statement]) -> None:
        self._end = end
        self._statements = statements

    def __call__(self) -> _NoSession:
        return _NoSession(self._end, self._statements)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[_NoSession]:
        async with self() as session, session.begin():
            yield session


class _NoSession:
    """A session that takes part in transactions, notes what is written, and cannot answer anything."""

    def __init__(self, end: Callable[[_NoSession, bool], None], statements: list[Statement]) -> None:
        self.written: list[Statement] = []
        self._end = end
        self._statements = statements
        self._begun = False

    async def execute(self, statement: object, parameters: object = None) -> None:
        """Note a write. Raises `NoDatabaseError` for a statement that must answer something."""
        words = str(statement).upper().split()
        if not words or words[0] not in {"INSERT", "UPDATE", "DELETE"} or "RETURNING" in words:
            raise _no_database(f"ran {str(statement).strip()!r}, which must answer something")
        self._begun = True
        noted = Statement(str(statement), parameters)
        self.written.append(noted)
        self._statements.append(noted)

    async def __aenter__(self) -> _NoSession:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._begun:
            await self.rollback()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[_NoSession]:
        self._begun = True
        try:
            yield self
        except BaseException:
            await self.rollback()
            raise
        await self.commit()

    def in_transaction(self) -> bool:
        return self._begun

    async def commit(self) -> None:
        self._begun = False
        self._end(self, True)
        self.written.clear()

    async def rollback(self) -> None:
        self._begun = False
        self._end(self, False)
        self.written.clear()

    def __getattr__(self, name: str) -> NoReturn:
        raise _no_database(f"used session.{name}")


def _no_database(use: str) -> NoDatabaseError:
    return NoDatabaseError(f"the plugin {use}, but a recorder has no database: test this with run_host")


class _AnyToken(Access):
    """Access in which a token is "name rule rule …", and is believed."""

    def __init__(self, rules: Mapping[str, AccessRule]) -> None:
        self.rules = dict(rules)

    async def identify(self, secret: str) -> Identity | None:
        name, *rules = secret.split(" ")
        return Identity(name, Principal(name, frozenset(rules)))
