"""One host for many tests, where each of them has names of its own and so meets no other.

A start costs a test a third of a second of a processor; what is shared is started once for a file. Its tests run on
the file's loop (`pytestmark = SHARED`), but for those that need a host of their own (`@OWN`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from ringfence.host import Host
from ringfence.plugins.lifecycle import Lifecycle
from ringfence.plugins.services import ServiceDirectory
from ringfence.sandbox.policy import provider as policy_provider
from ringfence.scripts.packages import provider as package_provider
from ringfence.settings import HostSettings
from ringfence.storage.migrating import HOST_MIGRATIONS, MigrationBranch
from ringfence.testing import PluginFactory, TestPostgres

SHARED = pytest.mark.asyncio(loop_scope="module")
OWN = pytest.mark.asyncio(loop_scope="function")


def shares(request: pytest.FixtureRequest) -> bool:
    """Whether the test that asks for a fixture runs on the loop of its file."""
    marker = request.node.get_closest_marker("asyncio")
    return marker is not None and marker.kwargs.get("loop_scope") == "module"


def only_provider(patch: pytest.MonkeyPatch) -> None:
    """Let another host answer in this process for the policy and for packages, as long as the patch lasts."""
    patch.setattr(policy_provider, "_provider", None)
    patch.setattr(package_provider, "_provider", None)


@asynccontextmanager
async def running_host(
    postgres: TestPostgres, directory: Path, plugins: PluginFactory, **settings: object
) -> AsyncIterator[Host]:
    """A host with these plugins on a database of its own, as the fixture `run_host` starts one for one test."""
    alive = Lifecycle(plugins(), ServiceDirectory()).alive()
    branches = [one.registry.branch for one in alive if one.registry.branch is not None]
    url = await postgres.lend([MigrationBranch("host", HOST_MIGRATIONS), *branches])
    try:
        async with host_on(url, directory, plugins, **settings) as host:
            yield host
    finally:
        await postgres.give_back(url)


@asynccontextmanager
async def host_on(
    url: str, directory: Path, plugins: PluginFactory, **settings: object
) -> AsyncIterator[Host]:
    """A host on a database that there is."""
    values = {"data_dir": directory, "database_url": url, **settings}
    host = Host(HostSettings.model_validate(values), plugins=plugins())
    host.records_access = False
    async with host:
        yield host
