"""A host with packages, and a registry of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from ringfence.host import Host
from ringfence.sandbox import clear_policy_provider
from ringfence.scripts import clear_package_provider
from ringfence.testing import PluginFactory, RunHost, client
from ringfence_script_packages.addresses import PACKAGES
from ringfence_script_packages.plugin import ScriptPackagesPlugin

from tests.script_packages.packages.registry import Registry
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
async def host(run_host: RunHost) -> Host:
    return await run_host()


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
async def packages(host: Host) -> AsyncIterator[Packages]:
    async with client(host) as http:
        yield Packages(http)
