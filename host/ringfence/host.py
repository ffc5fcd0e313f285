"""One instance of Ringfence: database, event log tailer, plugins and web application, started and stopped as one."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, nullcontext
from functools import partial
from typing import Any

import structlog
from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from ringfence import housekeeping
from ringfence.access import Access, Audit, Limits, Sessions, new_secret
from ringfence.access.audit import ACCESS_HOOKS, RETRY_SECONDS, token_narrowed, token_revoked
from ringfence.declaring import ObjectHolder, ObjectKind
from ringfence.delivery.hook_delivery import HookDelivery
from ringfence.delivery.resuming import tell_plugins
from ringfence.eventlog import (
    HISTORY_HOOKS,
    EventLog,
    EventLogResumed,
    EventLogSetBack,
    Heard,
    Membership,
    Tailer,
    Watching,
    Workers,
    event_log_resumed,
    event_log_set_back,
)
from ringfence.hooks import Event, Hook, HookBus, HookDirectory, Listener, Mode
from ringfence.jobs import CANCEL_CHANNEL, JobBoard, Worker
from ringfence.jobs import CHANNEL as JOBS
from ringfence.jobs.presence import mark
from ringfence.metrics import open_port
from ringfence.metrics.instance import InstanceMetrics
from ringfence.metrics.process import of_process
from ringfence.metrics.runs import of_runs
from ringfence.metrics.scraping import Collect, Scraping
from ringfence.pages.site import Site
from ringfence.plugins.blocked_loop import no_hold_ups, telling_of_holdups
from ringfence.plugins.discovery import Plugin, discover
from ringfence.plugins.lifecycle import Lifecycle, LoadedPlugin
from ringfence.plugins.runtime import Runtime
from ringfence.plugins.services import ServiceDirectory
from ringfence.process import settings_file
from ringfence.redaction import describe
from ringfence.sandbox.launch.kept import KEPT
from ringfence.settings import HostSettings, unknown
from ringfence.slow_start import watched
from ringfence.storage.answering import answer_within
from ringfence.storage.database import Database
from ringfence.storage.datadir import ADMIN_TOKEN, DataDir, DataDirError
from ringfence.storage.embedded import EmbeddedPostgres
from ringfence.storage.migrating import HOST_MIGRATIONS, MigrationBranch, behind, migrate
from ringfence.storage.usable import wait_until_usable
from ringfence.tasks import OwnedTasks
from ringfence.web.app import create_app
from ringfence.web.counted import Requests
from ringfence.web.host_routes import HOST_RULES
from ringfence.web.server import listen, listening_at, serving, url_of

ANSWER_SECONDS = 5.0
"""How long the database may take over what an instance has to write outside of its start."""
_HOST = "host"
_log = structlog.get_logger("ringfence.host")


class Host:
    """A running instance. `async with Host(settings) as host:` starts everything and, at the end, stops it all.

    `plugins` are those to run instead of the installed ones. Raises what the parts raise: `DataDirError`,
    `EmbeddedPostgresError`, `DatabaseError`, `PluginError`; whatever had been started is stopped again.
    """

    records_access = True
    """Whether who comes, and what becomes of tokens, is written to the event log; only tests have it otherwise."""

    def __init__(self, settings: HostSettings, *, plugins: Sequence[Plugin] | None = None) -> None:
        self.settings = settings
        self.instance_id = uuid.uuid4()
        self.data_dir = DataDir(settings.data_dir)
        KEPT.add(*filter(None, (settings.data_dir, settings_file.source())))
        self._wanted = plugins
        self._stack = AsyncExitStack()
        self.runtime: Runtime
        self.database: Database
        self.app: FastAPI
        self.access: Access
        self._lifecycle: Lifecycle
        self._membership: Membership
        self._jobs: Worker
        self.scraping: Scraping

    @property
    def plugins(self) -> list[LoadedPlugin]:
        """Every plugin and how far it has come."""
        return self._lifecycle.plugins

    async def __aenter__(self) -> Host:
        async with AsyncExitStack() as stack:
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self, stack: AsyncExitStack) -> None:
        services = ServiceDirectory()
        services.declare_point(ObjectKind, plugin=_HOST)
        services.declare_point(ObjectHolder, plugin=_HOST)
        wanted = discover() if self._wanted is None else self._wanted
        self._lifecycle = Lifecycle(wanted, services, seconds=self.settings.start_seconds)
        # From here on: what is imported and declared before is waited for in any case, and watched over by itself.
        hold_ups = no_hold_ups()
        stack.enter_context(telling_of_holdups(hold_ups))
        for one in unknown(os.environ, (setting.variable for setting in self._lifecycle.settings())):
            _log.warning(str(one))
        self.data_dir.create()
        url = await self._database_url(stack)
        await wait_until_usable(url, seconds=self.settings.database_wait_seconds)
        self.database = database = Database(url)
        stack.push_async_callback(database.close)
        await self._migrate(database.url)

        bus = HookBus()
        tasks = OwnedTasks()
        directory = HookDirectory()
        directory.add(_HOST, (*ACCESS_HOOKS, *HISTORY_HOOKS))
        workers = Workers(
            database.work_sessions,
            tasks,
            instance=self.instance_id,
            heard=self._heard,
            directory=directory,
        )
        log = EventLog(database.autocommit)
        delivery = HookDelivery(bus, self.instance_id, log, tasks=tasks, wake=workers.wake)
        board = JobBoard()
        self._jobs = Worker(database.sessions, database.job_sessions, board, instance=self.instance_id)
        tailer = Tailer(
            database.libpq_url,
            delivery.deliver,
            resumed=self._resumed,
            delivered=lambda record: workers.wake_of_many(record.hook),
            alarms={JOBS: self._jobs.wake, CANCEL_CHANNEL: self._jobs.look},
            mark=(mark(self.instance_id), self._jobs.marked),
        )
        # From here on nothing is missed: a plugin that reads its state later hears of every change after this point.
        await tailer.start_at_end()
        self.runtime = Runtime(
            self.settings,
            self.instance_id,
            database,
            tailer,
            bus,
            delivery,
            services,
            tasks,
            hooks=directory,
            board=board,
            hold_ups=hold_ups,
        )
        self._membership = Membership(
            database.sessions,
            instance=self.instance_id,
            bus=bus,
            workers=workers,
            cursor=lambda: tailer.cursor,
            told=database.note_trouble,
        )
        stack.push_async_callback(self.runtime.tasks.cancel, _HOST)
        stack.push_async_callback(self._lifecycle.stop, self.runtime)
        await self._lifecycle.start(self.runtime)
        watching = Watching(database.sessions, partial(delivery.emit, _HOST))
        housekeeping.declare(board, database.sessions, self.settings, watching)
        await self._jobs.settle([_HOST, *(one.info.id for one in self._lifecycle.alive())])
        stack.push_async_callback(self._jobs.stop)
        # Only now is it known which plugins take part: the rules of one that was left out are nobody's.
        rules = (rule for one in self._lifecycle.alive() for rule in one.registry.rules.values())
        self.access = Access(
            database.sessions, [*HOST_RULES, *rules], emit=self._record, may_know=self._follows_the_log
        )
        hours = 3600.0
        limits = Limits(self.settings.session_idle_hours * hours, self.settings.session_hours * hours)
        sessions = Sessions(database.sessions, limits, emit=self._record)
        site = Site()
        await self._lifecycle.add_pages(site, self.access.rules, self.runtime)
        await self._ensure_admin_token()
        for hook in (token_narrowed, token_revoked):
            bus.connect(Listener(_HOST, hook, Mode.BROADCAST, self._tokens_changed))
        bus.connect(Listener(_HOST, event_log_resumed, Mode.INSTANCE_LOCAL, self._tokens_changed))
        audit = Audit(self._record)
        self.runtime.tasks.supervise(audit.run, plugin=_HOST, name="record of access")
        self.runtime.tasks.supervise(tailer.run, plugin=_HOST, name="event log tailer")
        self.runtime.tasks.supervise(self._membership.run, plugin=_HOST, name="fleet membership")
        self.runtime.tasks.supervise(self._jobs.run, plugin=_HOST, name="jobs")
        self.runtime.tasks.spawn(
            self.runtime.drain.run(
                self._bring_to_an_end,
                seconds=self.settings.drain_seconds,
                linger_seconds=self.settings.drain_linger_seconds,
            ),
            plugin=_HOST,
            name="drain",
        )
        requests = Requests()
        own = InstanceMetrics(self.runtime, self._lifecycle.plugins, self._jobs, requests, database.pools)
        self.scraping = Scraping(partial(self._with_metrics, own))
        self.app = create_app(
            self.runtime,
            self._lifecycle.plugins,
            self.access,
            audit,
            sessions=sessions,
            site=site,
            scraping=self.scraping,
            requests=requests,
        )
        _log.info(
            "host ready",
            instance=str(self.instance_id),
            plugins=[one.info.id for one in self._lifecycle.alive()],
        )

    async def _migrate(self, url: str) -> None:
        own = MigrationBranch(_HOST, HOST_MIGRATIONS)
        with watched(_HOST, "migrations"):
            left = await behind(url, [own, *self._lifecycle.branches()])
            if own in left:
                await migrate(url, [own])
        await self._lifecycle.migrate(lambda branch: migrate(url, [branch]), left)

    def _with_metrics(self, own: InstanceMetrics) -> Mapping[str, Collect]:
        """Whom a scrape asks: the host's parts first, so that no plugin takes a name of theirs."""
        lifecycle = self._lifecycle
        return {
            "host": own.of_instance,
            "host-runs": of_runs,
            "host-database": own.of_database,
            "host-process": of_process,
            **{plugin: partial(lifecycle.metrics_of, plugin) for plugin in lifecycle.with_metrics()},
        }

    async def _bring_to_an_end(self, seconds: float) -> None:
        self._jobs.take_no_more()
        await self._membership.give_up()
        await self._lifecycle.drain(seconds)
        await self._jobs.at_rest()

    def _heard(self, plugin: str) -> Heard:
        """How far a plugin has heard the log."""
        head = self.runtime.tailer.head
        waiting = self.runtime.delivery.lanes.first_waiting(plugin)
        up_to = 0 if head is None else head.position
        return Heard(up_to if waiting is None else min(up_to, waiting - 1), head)

    def _follows_the_log(self) -> bool:
        """Whether a token that ends elsewhere is heard of at once."""
        delivery = self.runtime.delivery
        return (
            self.runtime.tailer.live and _HOST not in delivery.missed and _HOST not in delivery.lanes.behind
        )

    async def _tokens_changed(self, _: Event[Any]) -> None:
        self.access.forget()

    async def _record(
        self, hook: Hook[Any], payload: BaseModel, *, session: Any = None, actor: str | None = None
    ) -> None:
        if not self.records_access:
            return
        await self.runtime.delivery.emit(
            _HOST, hook, payload, session=session, standalone=session is None, actor=actor
        )

    async def _resumed(self, what: EventLogResumed) -> None:
        self.access.forget()
        await tell_plugins(self.runtime.bus, self.runtime.delivery, what)
        if what.set_back:
            self.runtime.tasks.spawn(
                self._tell_of_set_back(what), plugin=_HOST, name="record of a database that was set back"
            )
            await self._follow_the_set_back(what.resumed_after)

    async def _tell_of_set_back(self, what: EventLogResumed) -> None:
        fact = EventLogSetBack(
            read_up_to=what.read_up_to, resumed_after=what.resumed_after, instance=self.instance_id
        )
        while True:
            try:
                await self.runtime.delivery.emit(
                    _HOST, event_log_set_back, fact, session=None, standalone=True
                )
            except (SQLAlchemyError, OSError) as error:
                _log.warning(
                    "cannot record that the database was set back; trying again", error=describe(error)
                )
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _follow_the_set_back(self, position: int) -> None:
        self._membership.set_back(position)
        try:
            # What was restored may be older than this instance's first start.
            await answer_within(ANSWER_SECONDS, self._ensure_admin_token(), name="the administrator's token")
        except (SQLAlchemyError, OSError) as error:
            _log.error(
                "cannot see to the administrator's token: it may not be in the database that was set back. "
                "Starting this instance again puts it there",
                error=describe(error),
            )

    async def _database_url(self, stack: AsyncExitStack) -> str:
        if self.settings.database_url is not None:
            return self.settings.database_url
        server = EmbeddedPostgres(self.data_dir.postgres_path)
        await server.start()
        stack.push_async_callback(server.stop)
        return server.url

    async def _ensure_admin_token(self) -> None:
        path = self.data_dir.admin_token_path
        if not path.exists():
            self.data_dir.write_private(ADMIN_TOKEN, new_secret() + "\n")
        secret = path.read_text().strip()
        if not secret:
            raise DataDirError(f"{path} is empty: remove it, and a new administrator's token is made")
        await self.access.ensure_admin(secret)


@asynccontextmanager
async def serve(
    settings: HostSettings, *, plugins: Sequence[Plugin] | None = None
) -> AsyncIterator[tuple[Host, str]]:
    """Run an instance and serve it over HTTP; yields it and its URL. Binds first, so that a taken port costs nothing.

    Holds the data directory's lock and leaves a note in it for the command line. Raises as `Host` does, and
    `ListenError`.
    """
    data_dir = DataDir(settings.data_dir)
    with ExitStack() as held:
        listeners = [held.enter_context(listen(settings.host, settings.port))]
        if settings.socket is not None:
            listeners.append(held.enter_context(listening_at(settings.socket)))
        metrics = None
        if settings.metrics_address is not None:
            address = open_port.address_of(settings.metrics_address)
            metrics = held.enter_context(
                listen(*address, instead="choose another with RINGFENCE_METRICS_ADDRESS")
            )
        held.enter_context(data_dir.locked())
        async with (
            Host(settings, plugins=plugins) as host,
            nullcontext() if metrics is None else open_port.serving(metrics, host.scraping.text),
            serving(host.app, *listeners, trusted_proxies=settings.trusted_proxies),
        ):
            url = url_of(listeners[0])
            data_dir.write_instance_note(url=url)
            try:
                yield host, url
            finally:
                data_dir.remove_instance_note()
