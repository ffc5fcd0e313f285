"""Hosts whose pages are tried in a browser."""

from __future__ import annotations

import pytest
from ringfence.host import Host
from ringfence.plugins.discovery import discover
from ringfence.testing import RunHost, client

from tests.browser.filling import fill
from tests.browser.tried import TriedPlugin


@pytest.fixture
async def full_host(run_host: RunHost) -> Host:
    """A host with every built-in plugin and the tests' own, and something of everything."""
    host = await run_host(plugins=[*discover(), TriedPlugin()], records_access=True)
    async with client(host) as admin:
        await fill(admin)
    return host


@pytest.fixture
def tried() -> TriedPlugin:
    return TriedPlugin()


@pytest.fixture
async def host(run_host: RunHost, tried: TriedPlugin) -> Host:
    """A host with the tests' own plugin alone."""
    return await run_host(plugins=[tried], records_access=True)
