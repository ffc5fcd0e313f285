"""Hosts whose pages are tried in a browser."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser
from ringfence.host import Host
from ringfence.plugins.discovery import discover
from ringfence.testing import RunHost, TestPostgres

from tests.browser.filling import Filled, fill
from tests.browser.opening import browsing
from tests.browser.tried import TriedPlugin
from tests.browser.worlds import World, world_of
from tests.pages.own.probe import Probe


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One browser for all tests that share a loop; each opens contexts of its own in it."""
    async with browsing() as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def full(
    postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory, browser: Browser
) -> AsyncIterator[World]:
    """A host with every built-in plugin and the tests' own. A process has one at a time, as it has one policy."""
    directory = tmp_path_factory.mktemp("full")
    async with world_of(postgres, directory, browser, [*discover(), TriedPlugin(), Probe()]) as world:
        yield world


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def filled(full: World) -> Filled:
    """What that host is filled with."""
    return await fill(full)


@pytest.fixture
def tried() -> TriedPlugin:
    return TriedPlugin()


@pytest.fixture
async def host(run_host: RunHost, tried: TriedPlugin) -> Host:
    """A host with the tests' own plugin alone."""
    return await run_host(plugins=[tried], records_access=True)
