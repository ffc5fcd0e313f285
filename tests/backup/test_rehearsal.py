"""A host is backed up, goes on, and is lost; another one runs on what was restored, and the satellite follows it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from ringfence import PluginContext
from ringfence.backup import archive, restoring, taking
from ringfence.backup.place import Place
from ringfence.host import Host
from ringfence.plugins.discovery import discover
from ringfence.plugins.without_a_host import branches_of, keys_of
from ringfence.sandbox import clear_policy_provider
from ringfence.scripts import clear_package_provider
from ringfence.storage.migrating import migrate
from ringfence.testing import PluginFactory, RunHost, TestPostgres
from ringfence_script_packages.packages.blobs import PostgresBlobs
from ringfence_secrets.keyring import Key

from tests.primitives import requires
from tests.satellite.instances import Instance, Registered, serve_host
from tests.satellite.test_agent_process import agent
from tests.satellite.test_set_back import address, port_of

POLICY_THEN = {"resources": {"memoryBytes": 300 << 20}}
CHECKS, AUTOMATIONS = "/api/health-checks/checks", "/api/automations"
SECRET = "what nobody is to read"
PACKAGE = b"the bytes of a package" * 100_000
DIGEST = hashlib.sha256(PACKAGE).hexdigest()
CHECK = {
    "name": "disk",
    "system": "edge",
    "kind": "shell",
    "script": 'test -n "$WORD" && echo fine',
    "secrets": ["WORD"],
    "intervalSeconds": 3600,
    "timeoutSeconds": 30,
}
AUTOMATION = """
name: answer
steps:
  - stop: {message: "as it was"}
"""


@pytest.fixture
def plugins_under_test() -> PluginFactory:
    return discover


@requires("user namespaces")
@pytest.mark.slow
async def test_a_lost_host_comes_back_from_its_backup_and_its_satellite_goes_on(
    run_host: RunHost, postgres: TestPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGFENCE_SECRETS_KEY", Key(b"k" * 32).text)
    old, new = await postgres.create([]), await postgres.create([])
    file = tmp_path / "the.backup"
    async with address() as place:
        first = await run_host(database_url=old)
        async with serve_host(first) as before:
            place.backend = port_of(before)
            satellite = await before.register()
            async with agent(Instance(first, place.url, before.api), satellite, tmp_path):
                await fill(before, first, satellite)
                await before.until(satellite, lambda one: one["appliedRevision"] == 1)
                await asyncio.to_thread(back_up, old, file, first)
                for number in (2, 3, 4):
                    assert await before.set_policy({"resources": {"cpuSeconds": number}}) == number
                await before.until(satellite, lambda one: one["appliedRevision"] == 4)

                await asyncio.to_thread(put_back, new, file, first)
                clear_policy_provider()
                clear_package_provider()
                second = await run_host(database_url=new)
                async with serve_host(second) as after:
                    place.backend = port_of(after)
                    for connection in before.plugin._relay.admitted():
                        assert connection._direct is not None
                        connection._direct.abort()
                    shown = await after.until(satellite, lambda one: one["appliedRevision"] == 1)
                    assert not shown["appliedUnknown"]
                    await check(after, second, satellite)
                    assert await after.set_policy({"resources": {"cpuSeconds": 7}}) == 2
                    await after.until(satellite, lambda one: one["appliedRevision"] == 2)
    await postgres.drop(old)
    await postgres.drop(new)


async def fill(instance: Instance, host: Host, satellite: Registered) -> None:
    """Keep something of every kind."""
    assert await instance.set_policy(POLICY_THEN) == 1
    await answered(instance.api.put("/api/secrets/secrets/WORD", json={"value": SECRET}))
    where = {"core": False, "satellites": [satellite.id]}
    await answered(instance.api.post(CHECKS, json={**CHECK, "runsOn": where}))
    await answered(instance.api.post(f"{AUTOMATIONS}/apply", json={"text": AUTOMATION}))

    async def pieces() -> AsyncIterator[bytes]:
        yield PACKAGE

    await blobs(host).put(DIGEST, len(PACKAGE), pieces())


async def check(instance: Instance, host: Host, satellite: Registered) -> None:
    """Everything is as it was kept, and works."""
    policy = (await instance.api.get("/api/script-packages/sandbox-policy")).json()
    assert (policy["revision"], policy["policy"]["resources"]["memoryBytes"]) == (1, 300 << 20)
    ran = await instance.run(satellite, script="echo here")
    assert ran["result"]["stdout"] == "here\n"
    [kept] = (await answered(instance.api.get(CHECKS)))["checks"]
    [result] = (
        await answered(instance.api.post(f"{CHECKS}/{kept['id']}/run", json={"on": "edge-1"}, timeout=60))
    )["results"]
    assert result["status"] == "healthy", result
    run = await answered(instance.api.post(f"{AUTOMATIONS}/automations/answer/runs", json={}))
    ended = await answered(instance.api.get(f"{AUTOMATIONS}/runs/{run['id']}", params={"wait": 20}))
    assert (ended["status"], ended["message"]) == ("succeeded", "as it was")
    assert b"".join([piece async for piece in blobs(host).open(DIGEST)]) == PACKAGE
    verified = await answered(instance.api.get("/api/script-packages/sandbox-policy/verify"))
    assert verified["intact"], verified


async def answered(asked: Any) -> Any:
    answer: httpx.Response = await asked
    assert answer.is_success, answer.text
    return answer.json()


def blobs(host: Host) -> PostgresBlobs:
    return PostgresBlobs(cast("PluginContext", SimpleNamespace(sessions=host.runtime.database.sessions)))


def back_up(url: str, file: Path, host: Host) -> None:
    manifest = taking.take(Place(url), file, keys_of(discover(), host.settings), include_keys=False)
    assert [key.rows for key in manifest.keys] == [1]
    content = file.read_bytes()
    assert SECRET.encode() not in content


def put_back(url: str, file: Path, host: Host) -> None:
    outside = keys_of(discover(), host.settings)
    branches = branches_of(discover())
    with file.open("rb") as opened:
        found = archive.opened(opened, file)
        assert restoring.check_schema(found, branches) == ()
        assert restoring.keys_of(found, outside).missing == ()
        program = restoring.program_for(found, 18, None)
        restoring.restore(Place(url), found, program, replace=False)
    asyncio.run(migrate(url, branches))
    assert restoring.unreadable(Place(url), outside) == {}
