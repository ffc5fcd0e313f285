"""A host with packages, and a registry of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio
from ringfence.host import Host
from ringfence.plugins.discovery import Plugin
from ringfence.sandbox import clear_policy_provider
from ringfence.scripts import clear_package_provider
from ringfence.testing import PluginFactory, RunHost, TestPostgres, client
from ringfence.testing.hosts import in_process_client
from ringfence_script_packages.addresses import PACKAGES
from ringfence_script_packages.plugin import ScriptPackagesPlugin
from sqlalchemy import text

from tests.script_packages.packages.registry import Registry
from tests.shared_hosts import only_provider, running_host, shares
from tests.waiting import until_it

ENTRIES = f"{PACKAGES}/entries"
SETS = f"{PACKAGES}/sets"


@pytest.fixture
def registry() -> Registry:
    return Registry({"alpha": [("1.0", 1000), ("2.0", 3000)], "beta": [("1.0", 500)]})


@pytest.fixture
def plugins_under_test(registry: Registry) -> PluginFactory:
    return lambda: [ScriptPackagesPlugin(resolver=registry, fetcher=registry)]


@pytest.fixture
async def own_host(run_host: RunHost, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host of the test's own."""
    only_provider(monkeypatch)
    return await run_host()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_host(
    postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Host]:
    """The host that the tests of a file share; its registry has nothing."""
    nothing = Registry({})

    def plugins() -> list[Plugin]:
        return [ScriptPackagesPlugin(resolver=nothing, fetcher=nothing)]

    async with running_host(postgres, tmp_path_factory.mktemp("shared"), plugins) as host:
        yield host


@pytest_asyncio.fixture(loop_scope="module")
async def emptied(shared_host: Host) -> AsyncIterator[Host]:
    """The shared host; after the test its sets and its files are gone."""
    yield shared_host
    async with client(shared_host) as http:
        for one in (await http.get(SETS)).json()["sets"]:
            await http.delete(f"{SETS}/{one['name']}")
    async with shared_host.runtime.database.sessions.begin() as session:
        for table in ("blobs", "uploads"):
            await session.execute(text(f"DELETE FROM script_packages_{table}"))


@pytest.fixture
def host(request: pytest.FixtureRequest) -> Host:
    """The host that the tests of a file share, where they share its loop, too; otherwise one of the test's own."""
    found: Host = request.getfixturevalue("emptied" if shares(request) else "own_host")
    return found


@pytest.fixture
def another(run_host: RunHost) -> Callable[[], Awaitable[Host]]:
    """Start one more instance on the same database. A process has one that answers for the policy."""

    async def start() -> Host:
        clear_policy_provider()
        clear_package_provider()
        return await run_host()

    return start


@dataclass(slots=True)
class Packages:
    """The API of packages, as administrators use it."""

    http: httpx.AsyncClient

    async def allow(self, *packages: str, **more: Any) -> dict[str, Any]:
        answer = await self.http.post(ENTRIES, json={"packages": packages, **more})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def ask(self, name: str = "default", **more: Any) -> dict[str, Any]:
        answer = await self.http.post(f"{SETS}/{name}/install", json=more)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    async def show(self, name: str = "default") -> dict[str, Any]:
        answer = await self.http.get(f"{SETS}/{name}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def ended(self, name: str = "default") -> dict[str, Any]:
        """The set, once nothing is installed in it."""

        async def look() -> dict[str, Any] | None:
            state = await self.show(name)
            return None if state["state"] == "installing" else state

        found = await until_it(look, f"the set {name} is installed, or cannot be")
        assert found is not None
        return found

    async def install(self, name: str = "default", **more: Any) -> dict[str, Any]:
        await self.ask(name, **more)
        return await self.ended(name)


@pytest.fixture
def packages(host: Host) -> Packages:
    return Packages(in_process_client(host.app, host.data_dir.admin_token_path.read_text().strip()))
