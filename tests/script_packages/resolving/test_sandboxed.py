"""A resolver is a script like any other: it has one door, and nothing beside it."""

from __future__ import annotations

import pytest
from ringfence_script_packages.packages.errors import PackagesError, Why
from ringfence_script_packages.packages.resolving import sandboxed
from ringfence_script_packages.packages.resolving.client import RegistryClient
from ringfence_script_packages.packages.resolving.gateway import Gateway
from ringfence_script_packages.packages.resolving.sandboxed import run_resolver

from tests.primitives import requires
from tests.script_packages.resolving.conftest import registries_for
from tests.script_packages.resolving.registry import Registry

pytestmark = [requires("relay"), requires("curl")]


async def test_a_resolver_reaches_its_door_and_neither_a_registry_nor_anything_else(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPM_TOKEN", "open-sesame")
    registry.offer("tea")
    client = RegistryClient(registries_for(registry))
    async with Gateway(client) as gateway:
        result = await run_resolver(
            f"""
            curl -sf -o /dev/null {gateway.python}tea/ && echo door
            curl -sf -m 5 -o /dev/null {registry.url}/simple/tea/ && echo registry
            curl -sf -m 5 -o /dev/null http://192.0.2.1/ && echo elsewhere
            curl -sf -m 5 -o /dev/null http://packages.example.com/ && echo name
            env | grep -c sesame
            cat
            """,
            name="resolver",
            port=gateway.port,
            paths=(),
            given="given",
        )
    await client.aclose()
    assert result.stdout == "door\n0\ngiven"


async def test_a_resolver_that_does_not_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandboxed, "TIMEOUT_SECONDS", 1)
    with pytest.raises(PackagesError) as raised:
        await run_resolver("while :; do :; done", name="resolver", port=1, paths=())
    assert raised.value.why is Why.TOO_LARGE
    assert "stopped" in raised.value.message
