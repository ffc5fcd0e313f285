"""Packages that people use, from the registries that this machine's own tools are configured for."""

from __future__ import annotations

import hashlib

import pytest
from ringfence.scripts.packages.lock import Ecosystem, Lock, Requirement
from ringfence_script_packages.packages.errors import PackagesError, Why
from ringfence_script_packages.packages.resolving.registries import RegistrySettings
from ringfence_script_packages.packages.resolving.resolver import RegistryPackages

from tests.packages.machines import ALPINE, DEBIAN, RASPBERRY
from tests.primitives import requires

pytestmark = [pytest.mark.slow, requires("relay")]

FLEET = (DEBIAN, ALPINE, RASPBERRY)


async def resolved(packages: RegistryPackages, ecosystem: Ecosystem, *texts: str) -> Lock:
    requirements = [Requirement(ecosystem=ecosystem, text=text) for text in texts]
    try:
        return await packages.resolve(requirements, FLEET, lambda _: None)
    except PackagesError as error:
        if error.why is Why.UNREACHABLE:
            # Whether they can be is no property of this machine.
            pytest.skip(f"the registries of this machine cannot be reached: {error}")
        raise


async def test_packages_of_python_are_locked_for_every_platform_and_can_be_had() -> None:
    packages = RegistryPackages(RegistrySettings())
    lock = await resolved(packages, Ecosystem.PYPI, "requests", "pydantic")
    assert {"requests", "urllib3", "pydantic", "pydantic-core"} <= {each.name for each in lock.python}
    for platform in FLEET:
        assert isinstance(lock.files_for(platform), tuple)
    for file in lock.files_for(DEBIAN)[:3]:  # type: ignore[index]
        digest = hashlib.sha256()
        async for piece in packages.fetch(file):
            digest.update(piece)
        assert digest.hexdigest() == file.sha256


@requires("node")
async def test_packages_of_npm_are_locked_with_their_places_and_can_be_had() -> None:
    packages = RegistryPackages(RegistrySettings())
    lock = await resolved(packages, Ecosystem.NPM, "zod", "pg@^8", "@noble/hashes")
    paths = {each.path for each in lock.node}
    assert {"node_modules/zod", "node_modules/pg", "node_modules/@noble/hashes"} <= paths
    hashes = next(each for each in lock.node if each.name == "@noble/hashes")
    content = b"".join([piece async for piece in packages.fetch(hashes.file)])
    assert len(content) == hashes.file.size
