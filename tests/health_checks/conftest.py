"""A real host with checks, secrets and satellites, and what tests ask of it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from ringfence.testing import PluginFactory
from ringfence_health_checks.plugin import HealthChecksPlugin
from ringfence_satellite.plugin import SatellitePlugin
from ringfence_script_packages.plugin import ScriptPackagesPlugin
from ringfence_secrets.plugin import SecretsPlugin
from sqlalchemy import text

from tests.satellite.conftest import (
    StartInstance,
    instance,
    other,
    own,
    shared,
    start_instance,
    without_satellites,
)
from tests.satellite.instances import Instance, Registered
from tests.waiting import PATIENCE_SECONDS, until_it

__all__ = ["StartInstance", "instance", "other", "own", "shared", "start_instance"]

CHECKS = "/api/health-checks/checks"
SECONDS = PATIENCE_SECONDS


@pytest.fixture(scope="module")
def plugins_under_test() -> PluginFactory:
    return lambda: [ScriptPackagesPlugin(), SatellitePlugin(), SecretsPlugin(), HealthChecksPlugin()]


@pytest_asyncio.fixture(loop_scope="module")
async def emptied(shared: Instance, request: pytest.FixtureRequest) -> AsyncIterator[Instance]:
    """The shared instance; after the test its checks and satellites are gone, and both instances know it."""
    yield shared
    while checks := (await shared.api.get(CHECKS)).json()["checks"]:
        for check in checks:
            await shared.api.delete(f"{CHECKS}/{check['id']}")
    await without_satellites(shared)
    async with shared.host.runtime.database.sessions() as session:
        last = (await session.execute(text("SELECT coalesce(max(position), 0) FROM events"))).scalar_one()
    beside = [request.getfixturevalue("other")] if "other" in request.fixturenames else []
    for one in (shared, *beside):
        await one.plugin._context.wait_for_event(last, by_every_plugin=True)


def definition(**fields: Any) -> dict[str, Any]:
    """A check that an administrator might write."""
    return {
        "name": "disk",
        "system": "web-1",
        "kind": "shell",
        "script": "echo fine",
        "intervalSeconds": 0.2,
        "timeoutSeconds": 10,
        "runsOn": {"core": True},
        **fields,
    }


@dataclass(slots=True)
class Checking:
    """The API of checks, as administrators use it."""

    api: httpx.AsyncClient

    async def create(self, **fields: Any) -> dict[str, Any]:
        answer = await self.api.post(CHECKS, json=definition(**fields))
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def change(self, check: dict[str, Any], **fields: Any) -> dict[str, Any]:
        answer = await self.api.patch(f"{CHECKS}/{check['id']}", json=fields)
        assert answer.status_code == 200, answer.text
        changed: dict[str, Any] = answer.json()
        return changed

    async def delete(self, check: dict[str, Any]) -> None:
        assert (await self.api.delete(f"{CHECKS}/{check['id']}")).status_code == 204

    async def set_secret(self, name: str, value: str) -> None:
        answer = await self.api.put(f"/api/secrets/secrets/{name}", json={"value": value})
        assert answer.status_code == 200, answer.text

    async def run(self, check: dict[str, Any], on: str | None = None) -> list[dict[str, Any]]:
        answer = await self.api.post(f"{CHECKS}/{check['id']}/run", json={"on": on}, timeout=60)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["results"]
        return found

    async def results(self, check: dict[str, Any], **query: Any) -> list[dict[str, Any]]:
        """The results, newest first."""
        answer = await self.api.get(f"{CHECKS}/{check['id']}/results", params={"limit": 1000, **query})
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["results"]
        return found

    async def until(
        self, check: dict[str, Any], holds: Callable[[list[dict[str, Any]]], object]
    ) -> list[dict[str, Any]]:
        """The results, once `holds` is true of them."""

        async def found() -> list[dict[str, Any]]:
            results = await self.results(check)
            return results if holds(results) else []

        return await until_it(found, "the results are as wanted", pause=0.05)


@pytest.fixture
def checking(instance: Instance) -> Checking:
    return Checking(instance.api)


@asynccontextmanager
async def agent(
    url: str, satellite: Registered, directory: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """An agent's real process, stopped with the block if it is still there. Its log is in `agent.log`."""
    token = directory / f"token-{satellite.id}"
    token.write_text(satellite.token)
    token.chmod(0o600)
    with (directory / "agent.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ringfence", "agent", "--url", url),
            *("--client-id", satellite.id, "--token-file", str(token)),
            env={**os.environ, "RINGFENCE_HEARTBEAT_SECONDS": "0.5", "RINGFENCE_LOG_LEVEL": "debug"},
            stderr=log,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), SECONDS)


def spooled(directory: Path) -> list[dict[str, Any]]:
    """The results that wait on an agent's disk, oldest first."""
    found = []
    for path in sorted(directory.glob("results-*/*.json")):
        try:
            found.append(json.loads(path.read_text()))
        except FileNotFoundError:
            continue  # It was delivered in the meantime.
    return found
