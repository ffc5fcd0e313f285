"""A real host with the secrets plugin, and one that asks it for secrets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from ringfence import PluginContext, PluginInfo, hookimpl
from ringfence.host import Host
from ringfence.testing import PluginFactory, RunHost, client
from ringfence_secrets.plugin import SecretsPlugin
from ringfence_secrets.service import KeptValues, Secrets, SecretStore


@dataclass
class OtherStore:
    """A store that another plugin brings."""

    values: dict[str, str] = field(default_factory=dict)

    async def get(self, names: Collection[str]) -> Mapping[str, str]:
        return {name: value for name, value in self.values.items() if name in names}


class AskingPlugin:
    """Uses secrets as any other plugin would."""

    info = PluginInfo(id="asking", version="1", requires=("secrets",))
    secrets: Secrets
    kept: KeptValues

    def __init__(self) -> None:
        self.store = OtherStore()

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        context.services.extend(SecretStore, self.store)

    @hookimpl
    async def after_plugins_ready(self, context: PluginContext) -> None:
        self.secrets = context.services.get(Secrets)
        self.kept = context.services.get(KeptValues)
        self.context = context


@dataclass
class Vaulted:
    """A running host, an administrator's client, and the plugin that asks."""

    host: Host
    api: httpx.AsyncClient
    asking: AskingPlugin

    async def set(self, name: str, value: str) -> httpx.Response:
        return await self.api.put(f"/api/secrets/secrets/{name}", json={"value": value})

    async def listed(self) -> list[dict[str, Any]]:
        answer = await self.api.get("/api/secrets/secrets")
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["secrets"]
        return found


StartVaulted = Callable[[], Awaitable[Vaulted]]


@pytest.fixture
def plugins_under_test() -> PluginFactory:
    return lambda: [SecretsPlugin(), AskingPlugin()]


@pytest.fixture
async def start_vaulted(run_host: RunHost) -> AsyncIterator[StartVaulted]:
    """Start an instance on the test's database."""
    async with AsyncExitStack() as stack:

        async def start() -> Vaulted:
            asking = AskingPlugin()
            host = await run_host(plugins=[SecretsPlugin(), asking])
            return Vaulted(host, await stack.enter_async_context(client(host)), asking)

        yield start


@pytest.fixture
async def vaulted(start_vaulted: StartVaulted) -> Vaulted:
    return await start_vaulted()
