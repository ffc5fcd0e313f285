"""Checks on satellites import from the set that they name, and never tell anything of a system without it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from ringfence.scripts.packages.lock import LockedFile
from ringfence.testing import PluginFactory
from ringfence_health_checks.plugin import HealthChecksPlugin
from ringfence_satellite.plugin import SatellitePlugin
from ringfence_script_packages.plugin import ScriptPackagesPlugin
from ringfence_secrets.plugin import SecretsPlugin

from tests.health_checks.conftest import Checking, agent
from tests.packages.archives import wheel
from tests.primitives import requires
from tests.satellite.instances import Instance
from tests.script_packages.packages.conftest import Packages
from tests.script_packages.packages.registry import Registry

WHEEL = wheel("greeting", {"greeting/__init__.py": "WORD = 'hello'\n"})


class Wheels(Registry):
    """A registry whose one package can really be imported."""

    def file(self, name: str, version: str, size: int) -> LockedFile:
        return LockedFile(
            filename=f"{name}-{version}-py3-none-any.whl", sha256=hashlib.sha256(WHEEL).hexdigest(), size=size
        )

    async def fetch(self, file: LockedFile) -> AsyncIterator[bytes]:
        yield WHEEL


@pytest.fixture
def plugins_under_test() -> PluginFactory:
    registry = Wheels({"greeting": [("1.0", len(WHEEL))]})
    return lambda: [
        ScriptPackagesPlugin(resolver=registry, fetcher=registry),
        SatellitePlugin(),
        SecretsPlugin(),
        HealthChecksPlugin(),
    ]


@pytest.mark.slow
@requires("user namespaces")
async def test_a_check_on_a_satellite_waits_for_its_set_and_then_imports_from_it(
    instance: Instance, checking: Checking, open_directory: Path
) -> None:
    packages = Packages(instance.api)
    await packages.allow("greeting", set="forms")
    await packages.install("forms")
    satellite = await instance.register(tags=["edge"])
    async with agent(instance.url, satellite, open_directory):
        check = await checking.create(
            kind="python",
            script="import greeting; print(greeting.WORD)",
            packages="forms",
            runsOn={"tags": ["edge"]},
        )
        found = await checking.until(check, lambda results: results and results[0]["status"] == "healthy")
    for one in found:
        if one["status"] != "healthy":
            assert one["status"] == "unknown", one
            assert "packages are not ready here" in str(one), one
