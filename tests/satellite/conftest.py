"""A real host with the satellite plugin, served over real HTTP, and peers that speak to it frame by frame."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from ringfence.sandbox import clear_policy_provider
from ringfence.scripts import clear_package_provider
from ringfence.testing import PluginFactory, RunHost, TestPostgres
from ringfence_satellite.plugin import SatellitePlugin
from ringfence_script_packages.plugin import ScriptPackagesPlugin

from tests.satellite.instances import SATELLITES, Instance, serve_host
from tests.shared_hosts import host_on, only_provider, running_host, shares

StartInstance = Callable[..., Awaitable[Instance]]


@pytest.fixture(scope="module")
def plugins_under_test() -> PluginFactory:
    return lambda: [ScriptPackagesPlugin(), SatellitePlugin()]


@pytest.fixture
async def start_instance(monkeypatch: pytest.MonkeyPatch, run_host: RunHost) -> AsyncIterator[StartInstance]:
    """Start an instance on the test's database; several make a fleet."""
    only_provider(monkeypatch)
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Instance:
            # The provider is one per process, but here several instances share one; no test here runs a
            # script in this process.
            clear_policy_provider()
            clear_package_provider()
            host = await run_host(**settings)
            return await stack.enter_async_context(serve_host(host))

        yield start


@asynccontextmanager
async def shared_instance(
    postgres: TestPostgres, directories: pytest.TempPathFactory, plugins: PluginFactory
) -> AsyncIterator[Instance]:
    clear_policy_provider()
    clear_package_provider()
    async with (
        running_host(postgres, directories.mktemp("shared"), plugins) as host,
        serve_host(host) as one,
    ):
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(
    postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory, plugins_under_test: PluginFactory
) -> AsyncIterator[Instance]:
    """The instance that the tests of a file share."""
    async with shared_instance(postgres, tmp_path_factory, plugins_under_test) as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def other(
    shared: Instance, tmp_path_factory: pytest.TempPathFactory, plugins_under_test: PluginFactory
) -> AsyncIterator[Instance]:
    """Another instance beside the shared one, on the same database."""
    clear_policy_provider()
    clear_package_provider()
    url, directory = shared.host.database.url, tmp_path_factory.mktemp("other")
    async with host_on(url, directory, plugins_under_test) as host, serve_host(host) as one:
        yield one


@pytest_asyncio.fixture(loop_scope="module")
async def emptied(shared: Instance) -> AsyncIterator[Instance]:
    """The shared instance; after the test its satellites are gone, and so are their runs."""
    yield shared
    await without_satellites(shared)


async def without_satellites(instance: Instance) -> None:
    """Delete all satellites; the next one is edge-1 again."""
    for one in (await instance.api.get(SATELLITES, params={"limit": 500})).json()["satellites"]:
        await instance.api.delete(f"{SATELLITES}/{one['id']}")
    instance.numbers = itertools.count(1)


@pytest.fixture
async def own(start_instance: StartInstance) -> Instance:
    """An instance of the test's own."""
    return await start_instance()


@pytest.fixture
def instance(request: pytest.FixtureRequest) -> Instance:
    """The instance that the tests of a file share, where they share its loop, too; otherwise one of the test's own."""
    found: Instance = request.getfixturevalue("emptied" if shares(request) else "own")
    return found
