"""What the authors of plugins test with: a pytest plugin that comes with the distribution.

`pytest_plugins = ["ringfence.testing"]` in the top `conftest.py` is the way in. Two ways to run a plugin:

`record` runs it alone, without a database: what does it emit, what does it listen to, and what does it do then?
`run_host` starts a real host with just the plugins that a test is about, on a real PostgreSQL.

Plugins that those require are taken from what is installed (`installed`), or replaced by fakes (`StandIn`).
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import pytest
import structlog

from ringfence.host import Host
from ringfence.plugins.discovery import Plugin, discover
from ringfence.plugins.lifecycle import Lifecycle
from ringfence.plugins.services import ServiceDirectory
from ringfence.settings import HostSettings
from ringfence.storage.embedded import EmbeddedPostgres
from ringfence.storage.errors import MigrationError
from ringfence.storage.migrating import HOST_MIGRATIONS, MigrationBranch
from ringfence.testing.databases import TEST_SERVER_OPTIONS, TestPostgres, make_reachable_directory
from ringfence.testing.hosts import PATIENCE_SECONDS, client, eventually, served, signed_in
from ringfence.testing.no_database import NoDatabaseError, Statement
from ringfence.testing.recorder import Recorder, Subscription
from ringfence.testing.standin import StandIn, installed

__all__ = [
    "PATIENCE_SECONDS",
    "TEST_SERVER_OPTIONS",
    "Host",
    "NoDatabaseError",
    "PluginFactory",
    "Record",
    "Recorder",
    "RunHost",
    "StandIn",
    "Statement",
    "Subscription",
    "TestPostgres",
    "client",
    "eventually",
    "installed",
    "make_reachable_directory",
    "served",
    "signed_in",
]


def pytest_configure() -> None:
    """Have errors logged as Python writes them: pretty ones, with every local variable, take seconds to draw."""
    if not structlog.is_configured():
        plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
        structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])


PluginFactory = Callable[[], Sequence[Plugin]]


class RunHost(Protocol):
    """What the fixture `run_host` is."""

    async def __call__(
        self,
        *,
        plugins: Sequence[Plugin] | None = None,
        may_fail: bool = False,
        records_access: bool = False,
        **settings: object,
    ) -> Host:
        """Start an instance with `plugins` (by default, those under test) and `settings` beside the test's own.

        Raises `PluginError` for any plugin that fails, unless optional ones `may_fail`: they are left out then.
        Its event log holds what the test is about: who signs in is recorded only with `records_access`.
        """


class Record(Protocol):
    """What the fixture `record` is."""

    async def __call__(
        self,
        plugin: Plugin,
        *,
        services: Mapping[type, object] | None = None,
        extensions: Mapping[type, Sequence[object]] | None = None,
        **settings: object,
    ) -> Recorder:
        """Start `plugin` alone. See `Recorder`."""


@pytest.fixture(scope="session")
def postgres() -> Iterator[TestPostgres]:
    """One real PostgreSQL server for the whole session."""
    directory = make_reachable_directory()
    server = EmbeddedPostgres(directory / "postgres", options=TEST_SERVER_OPTIONS)
    databases = TestPostgres(server)
    try:
        asyncio.run(server.start())
        yield databases
    finally:
        databases.close()
        asyncio.run(server.stop())
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def plugins_under_test() -> PluginFactory:
    """Makes the plugins that a test is about: every installed one, unless overridden."""
    return discover


class _Borrowed:
    """The one database of a test, borrowed when it is first asked for."""

    def __init__(self, postgres: TestPostgres) -> None:
        self._postgres = postgres
        self.url: str | None = None

    async def borrow(self, lifecycle: Lifecycle) -> str:
        """Its URL; if this is the first use, migrated for the plugins of `lifecycle`."""
        if self.url is None:
            host = MigrationBranch("host", HOST_MIGRATIONS)
            try:
                self.url = await self._postgres.lend([host, *lifecycle.branches()])
            except MigrationError:
                # What becomes of a plugin whose migrations fail is for the host to say.
                self.url = await self._postgres.lend([host])
        return self.url


class _HostUnderTest(Host):
    """A host on the test's own database, unless its settings name another."""

    def __init__(self, settings: HostSettings, plugins: Sequence[Plugin], borrowed: _Borrowed) -> None:
        super().__init__(settings, plugins=plugins)
        self._borrowed = borrowed

    def raise_what_failed(self) -> None:
        """Raise `PluginError` for an optional plugin that has failed, as for any other."""
        self._lifecycle.raise_what_failed()

    async def _database_url(self, stack: AsyncExitStack) -> str:
        url = self.settings.database_url or await self._borrowed.borrow(self._lifecycle)
        self.settings = self.settings.model_copy(update={"database_url": url})
        return url


@pytest.fixture
async def _borrowed(postgres: TestPostgres) -> AsyncIterator[_Borrowed]:
    borrowed = _Borrowed(postgres)
    yield borrowed
    if borrowed.url is not None:
        await postgres.give_back(borrowed.url)


@pytest.fixture
async def database_url(_borrowed: _Borrowed, plugins_under_test: PluginFactory) -> str:
    """The test's own database, migrated for the plugins under test."""
    return await _borrowed.borrow(Lifecycle(plugins_under_test(), ServiceDirectory()))


@pytest.fixture
async def run_host(
    _borrowed: _Borrowed, tmp_path: Path, plugins_under_test: PluginFactory
) -> AsyncIterator[RunHost]:
    """Start instances on the test's own database: `host = await run_host(plugins=[MyPlugin()])`; all stop after it."""
    async with AsyncExitStack() as stack:
        count = 0

        async def run(
            *,
            plugins: Sequence[Plugin] | None = None,
            may_fail: bool = False,
            records_access: bool = False,
            **settings: object,
        ) -> Host:
            nonlocal count
            count += 1
            chosen = plugins_under_test() if plugins is None else plugins
            values = {"data_dir": tmp_path / f"instance-{count}", "database_url": None, **settings}
            host = _HostUnderTest(HostSettings.model_validate(values), chosen, _borrowed)
            host.records_access = records_access
            await stack.enter_async_context(host)
            if not may_fail:
                host.raise_what_failed()
            return host

        yield run


@pytest.fixture
async def record() -> AsyncIterator[Record]:
    """Run plugins alone, without a database: `recorder = await record(MyPlugin())`; all stop after the test."""
    async with AsyncExitStack() as stack:

        async def start(
            plugin: Plugin,
            *,
            services: Mapping[type, object] | None = None,
            extensions: Mapping[type, Sequence[object]] | None = None,
            **settings: object,
        ) -> Recorder:
            recorder = Recorder(plugin, services=services, extensions=extensions, **settings)
            return await stack.enter_async_context(recorder)

        yield start
