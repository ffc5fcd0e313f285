"""Every test here is about the script-packages plugin alone, on a real host."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from ringfence.host import Host
from ringfence.testing import PluginFactory, RunHost, TestPostgres
from ringfence.testing.hosts import in_process_client
from ringfence_script_packages.plugin import ScriptPackagesPlugin

from tests.shared_hosts import only_provider, running_host, shares


@pytest.fixture(scope="module")
def plugins_under_test() -> PluginFactory:
    return lambda: [ScriptPackagesPlugin()]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_host(
    postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory, plugins_under_test: PluginFactory
) -> AsyncIterator[Host]:
    """The host that the tests of a file share."""
    async with running_host(postgres, tmp_path_factory.mktemp("shared"), plugins_under_test) as host:
        yield host


@pytest.fixture
async def own_host(monkeypatch: pytest.MonkeyPatch, run_host: RunHost) -> Host:
    """A host of the test's own."""
    only_provider(monkeypatch)
    return await run_host()


@pytest.fixture
def host(request: pytest.FixtureRequest) -> Host:
    """The host that the tests of a file share, where they share its loop, too; otherwise one of the test's own."""
    found: Host = request.getfixturevalue("shared_host" if shares(request) else "own_host")
    return found


@pytest.fixture
def http(host: Host) -> httpx.AsyncClient:
    """An administrator's client, in this process."""
    return in_process_client(host.app, host.data_dir.admin_token_path.read_text().strip())
