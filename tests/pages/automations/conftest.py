"""A host with automations, and browsers at it: one who may do everything, one who only reads, one who may nothing."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from ringfence.host import Host
from ringfence.testing import RunHost, client, eventually, installed

from tests.pages.conftest import Browse, Browser

READ, MANAGE, RUN = (f"automations.automation.{name}" for name in ("read", "manage", "run"))


@dataclass(frozen=True)
class World:
    """The host and its browsers."""

    host: Host
    api: httpx.AsyncClient
    boss: Browser
    reader: Browser
    nobody: Browser

    async def apply(self, *texts: str) -> None:
        """Have definitions hold."""
        answer = await self.api.post("/api/automations/apply", json={"text": "---\n".join(texts)})
        assert answer.status_code == 200, answer.text

    async def run(self, name: str, **inputs: Any) -> str:
        """Start a run by hand."""
        path = f"/api/automations/automations/{name}/runs"
        answer = await self.api.post(path, json={"inputs": inputs})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def ended(self, run: str) -> str:
        """The state in which a run ends."""
        answer = await self.api.get(f"/api/automations/runs/{run}", params={"wait": 50}, timeout=60)
        assert answer.json()["endedAt"] is not None
        return str(answer.json()["status"])

    async def shows(self, path: str, words: str, *, browser: Browser | None = None) -> str:
        """The page, once it has these words."""
        page = ""

        async def there() -> bool:
            nonlocal page
            page = (await (browser or self.boss).get(path)).text
            return words in page

        await eventually(there)
        return page


@pytest.fixture
async def world(run_host: RunHost, browse: Browse) -> AsyncIterator[World]:
    host = await run_host(plugins=installed("automations", "notifications"))
    async with client(host) as api:
        yield World(
            host,
            api,
            boss=await browse(host),
            reader=await browse(host, rules=[READ]),
            nobody=await browse(host, rules=["host.plugin.read"]),
        )


def run_in(answer: httpx.Response) -> str:
    """The run that an answer leads to."""
    found = re.fullmatch(r"/runs/([0-9a-f-]{36})", answer.headers["location"])
    assert found is not None, answer.headers["location"]
    return found[1]
