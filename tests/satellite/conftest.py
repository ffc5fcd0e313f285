"""A real host with the satellite plugin, served over real HTTP, and peers that speak to it frame by frame."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from ringfence.sandbox import clear_policy_provider
from ringfence.scripts import clear_package_provider
from ringfence.testing import PluginFactory, RunHost
from ringfence_satellite.plugin import SatellitePlugin
from ringfence_script_packages.plugin import ScriptPackagesPlugin

from tests.satellite.instances import Instance, serve_host

StartInstance = Callable[..., Awaitable[Instance]]


@pytest.fixture
def plugins_under_test() -> PluginFactory:
    return lambda: [ScriptPackagesPlugin(), SatellitePlugin()]


@pytest.fixture
async def start_instance(run_host: RunHost) -> AsyncIterator[StartInstance]:
    """Start an instance on the test's database; several make a fleet."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Instance:
            # The provider is one per process, but here several instances share one; no test here runs a
            # script in this process.
            clear_policy_provider()
            clear_package_provider()
            host = await run_host(**settings)
            return await stack.enter_async_context(serve_host(host))

        yield start


@pytest.fixture
async def instance(start_instance: StartInstance) -> Instance:
    return await start_instance()
