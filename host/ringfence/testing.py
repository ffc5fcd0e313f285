"""Fixtures for the authors of plugins: a pytest plugin that comes with the distribution.

`postgres` is one real server per test session, `database_url` a fresh database per test, copied from a template in
which the migrations have run. `run_host` starts an instance with just the plugins that a test is about.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg import sql

from ringfence.database import HOST_MIGRATIONS, MigrationBranch, migrate
from ringfence.discovery import Plugin, discover
from ringfence.embedded import EmbeddedPostgres
from ringfence.host import Host
from ringfence.lifecycle import Lifecycle
from ringfence.services import ServiceDirectory
from ringfence.settings import HostSettings

TEST_SERVER_OPTIONS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
}
"""Durability is not what a test's database is for; atomicity and order are not touched by these."""


PluginFactory = Callable[[], Sequence[Plugin]]
RunHost = Callable[..., Awaitable[Host]]


class TestPostgres:
    """A real PostgreSQL for one test session, and cheap databases on it."""

    __test__ = False

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.server = server
        self._templates: dict[tuple[MigrationBranch, ...], str] = {}

    async def create(self, branches: Sequence[MigrationBranch]) -> str:
        """Make a database in which `branches` are migrated; answers its URL."""
        key = tuple(branches)
        if key not in self._templates:
            template = await self._create_database(None)
            await migrate(self.server.url_of(template), list(key))
            self._templates[key] = template
        return self.server.url_of(await self._create_database(self._templates[key]))

    async def drop(self, url: str) -> None:
        """Remove a database that `create` made, cutting whoever is connected."""
        name = url.partition("@/")[2].partition("?")[0]
        await self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    async def _create_database(self, template: str | None) -> str:
        name = f"test_{uuid.uuid4().hex}"
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {} STRATEGY file_copy").format(sql.Identifier(template))
        await self._execute(statement)
        return name

    async def _execute(self, statement: sql.Composed) -> None:
        url = self.server.url_of("postgres").replace("+psycopg", "")
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute(statement)


def make_reachable_directory() -> Path:
    """A temporary directory that other users can traverse, as the database's own user under root must."""
    directory = Path(tempfile.mkdtemp(prefix="ringfence-test-"))
    directory.chmod(0o711)
    return directory


@pytest.fixture(scope="session")
def postgres() -> Iterator[TestPostgres]:
    """One real PostgreSQL server for the whole session."""
    directory = make_reachable_directory()
    server = EmbeddedPostgres(directory / "postgres", options=TEST_SERVER_OPTIONS)
    try:
        asyncio.run(server.start())
        yield TestPostgres(server)
    finally:
        asyncio.run(server.stop())
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def plugins_under_test() -> PluginFactory:
    """Makes the plugins that `run_host` and `database_url` are about: every installed one, unless overridden."""
    return discover


@pytest.fixture
async def database_url(postgres: TestPostgres, plugins_under_test: PluginFactory) -> AsyncIterator[str]:
    """A fresh database, migrated for the plugins under test; gone after the test."""
    url = await postgres.create(_branches(plugins_under_test()))
    yield url
    await postgres.drop(url)


@pytest.fixture
async def run_host(
    database_url: str, tmp_path: Path, plugins_under_test: PluginFactory
) -> AsyncIterator[RunHost]:
    """Start instances on the test's database: `host = await run_host(plugins=[MyPlugin()])`; all stop after it."""
    async with AsyncExitStack() as stack:
        count = 0

        async def run(*, plugins: Sequence[Plugin] | None = None, **settings: object) -> Host:
            nonlocal count
            count += 1
            values = {"database_url": database_url, "data_dir": tmp_path / f"instance-{count}", **settings}
            return await stack.enter_async_context(
                Host(
                    HostSettings.model_validate(values),
                    plugins=plugins_under_test() if plugins is None else plugins,
                )
            )

        yield run


def client(host: Host, *, token: str | None = None) -> httpx.AsyncClient:
    """An HTTP client on the instance's application, in this process; by default with the administrator's token."""
    secret = token or host.data_dir.admin_token_path.read_text().strip()
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=host.app),
        base_url="http://ringfence.test",
        headers={"Authorization": f"Bearer {secret}"},
    )


def _branches(plugins: Sequence[Plugin]) -> list[MigrationBranch]:
    loaded = Lifecycle(plugins, ServiceDirectory()).plugins
    declared = [one.registry.branch for one in loaded if one.registry.branch is not None]
    return [MigrationBranch("host", HOST_MIGRATIONS), *declared]
