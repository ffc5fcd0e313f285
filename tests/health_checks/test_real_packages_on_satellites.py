"""What people import works in checks on satellites: from real registries, and carried to a host that reaches none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest
from ringfence.scripts.packages.lock import LockedFile
from ringfence.storage.embedded import EmbeddedPostgres
from ringfence.testing import PluginFactory
from ringfence_health_checks.plugin import HealthChecksPlugin
from ringfence_satellite.plugin import SatellitePlugin
from ringfence_script_packages.addresses import PACKAGES
from ringfence_script_packages.packages.errors import PackagesError, Why
from ringfence_script_packages.packages.resolving.registries import RegistrySettings
from ringfence_script_packages.packages.resolving.resolver import RegistryPackages
from ringfence_script_packages.plugin import ScriptPackagesPlugin
from ringfence_secrets.plugin import SecretsPlugin

from tests.health_checks.conftest import Checking, StartInstance, agent
from tests.jobs.conftest import own_server
from tests.primitives import requires
from tests.satellite.instances import Instance, Registered
from tests.script_packages.packages.conftest import Packages
from tests.waiting import in_time

__all__ = ["own_server"]

pytestmark = [pytest.mark.slow, requires("relay", "node", "user namespaces")]

IN_PYTHON = {
    "requests": 'import requests; print(requests.Request("GET", "http://a").url)',
    "pydantic": "import pydantic; print(pydantic.TypeAdapter(int).validate_python('3'))",
    "psycopg[binary]": "import psycopg; assert psycopg.pq.__impl__ == 'binary'",
    "numpy": "import numpy; assert numpy.arange(4).sum() == 6",
    "dnspython": "import dns.name; print(dns.name.from_text('a.b'))",
}
IN_MODULES = {
    "zod": ('import { z } from "zod";', 'z.string().parse("a") === "a"'),
    "pg": ('import pg from "pg";', 'typeof pg.Client === "function"'),
    "@noble/hashes": (
        'import { sha256 } from "@noble/hashes/sha2.js";',
        "sha256(new Uint8Array()).length === 32",
    ),
}
IMPORTED = "import idna; assert idna.__version__ == '3.6'"
INLINE = f"# /// script\n# dependencies = ['idna==3.6']\n# ///\n{IMPORTED}"
VERSIONS = {"older": "3.6", "newer": "3.7"}


class Unreachable(RegistryPackages):
    """A registry that nobody reaches."""

    async def resolve(self, *_: Any, **__: Any) -> Any:
        """Nobody is asked."""
        raise PackagesError(Why.UNREACHABLE, "no registry can be reached here")

    async def fetch(self, file: LockedFile) -> AsyncGenerator[bytes, None]:
        """Nobody is asked."""
        raise PackagesError(Why.UNREACHABLE, f"no registry can be reached here: {file.filename}")
        yield b""


@pytest.fixture
def plugins_under_test() -> PluginFactory:
    return lambda: plugins(ScriptPackagesPlugin())


def plugins(packages: ScriptPackagesPlugin) -> list[Any]:
    return [packages, SatellitePlugin(), SecretsPlugin(), HealthChecksPlugin()]


async def installed(packages: Packages, name: str, wanted: Sequence[str], **more: Any) -> None:
    await packages.allow(*wanted, set=name, **more)
    state = await packages.install(name)
    if state["state"] == "failed" and "reach" in state["error"]:
        pytest.skip(f"the registries of this machine cannot be reached: {state['error']}")
    assert state["state"] == "current", state


async def seen_healthy(checking: Checking, check: dict[str, Any], satellite: Registered) -> None:
    """The check has been healthy on the satellite, and never been anything else but not ready."""
    results: list[dict[str, Any]] = []
    async with in_time(lambda: f"{check['name']} is healthy; it is {results[:1]}"):
        while not results or results[0]["status"] != "healthy":
            results = await checking.results(check)
            await asyncio.sleep(0.1)
    assert {one["ranOn"] for one in results} == {satellite.id}
    for one in results:
        assert one["status"] == "healthy" or "packages are not ready here" in str(one), one


async def test_checks_on_a_satellite_import_what_people_use(
    instance: Instance,
    checking: Checking,
    start_instance: StartInstance,
    own_server: EmbeddedPostgres,
    open_directory: Path,
) -> None:
    packages = Packages(instance.api)
    await installed(packages, "python", list(IN_PYTHON))
    await installed(packages, "modules", list(IN_MODULES), ecosystem="npm")
    for name, version in VERSIONS.items():
        await installed(packages, name, [f"idna=={version}"])
    # Of a name that several sets have, the entry of the default one counts for what scripts say themselves.
    await packages.allow("idna")
    on = {"tags": ["edge"]}
    wanted: list[dict[str, Any]] = [
        *({"kind": "python", "script": script, "packages": "python"} for script in IN_PYTHON.values()),
        *(
            {
                "kind": "esm",
                "script": f'{imports} export default () => ({{ status: {holds} ? "healthy" : "unhealthy" }});',
                "packages": "modules",
            }
            for imports, holds in IN_MODULES.values()
        ),
        *(
            {
                "kind": "python",
                "script": f"import idna; assert idna.__version__ == '{version}'",
                "packages": name,
            }
            for name, version in VERSIONS.items()
        ),
        {"kind": "python", "script": INLINE},
    ]
    satellite = await instance.register(tags=["edge"])
    async with agent(instance.url, satellite, open_directory):
        checks = [
            await checking.create(
                name=f"check-{n}", runsOn=on, intervalSeconds=1, timeoutSeconds=30, **fields
            )
            for n, fields in enumerate(wanted)
        ]
        for check in checks:
            await seen_healthy(checking, check, satellite)

    carried = (await instance.api.get(f"{PACKAGES}/sets/older/archive")).content
    offline = await start_instance(
        database_url=own_server.url,
        plugins=plugins(
            ScriptPackagesPlugin(
                resolver=Unreachable(RegistrySettings()), fetcher=Unreachable(RegistrySettings())
            )
        ),
    )
    answer = await offline.api.post(f"{PACKAGES}/import", content=carried)
    assert answer.status_code == 200, answer.text
    there = await offline.register(tags=["edge"])
    directory = open_directory / "offline"
    directory.mkdir()
    directory.chmod(0o755)
    async with agent(offline.url, there, directory):
        one = Checking(offline.api)
        check = await one.create(kind="python", script=IMPORTED, packages="older", runsOn=on)
        await seen_healthy(one, check, there)
