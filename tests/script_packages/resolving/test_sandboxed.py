"""A resolver is a script like any other: it has one door, and nothing beside it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from ringfence_script_packages.packages.errors import PackagesError, Why
from ringfence_script_packages.packages.resolving import sandboxed
from ringfence_script_packages.packages.resolving.client import RegistryClient
from ringfence_script_packages.packages.resolving.gateway import Gateway
from ringfence_script_packages.packages.resolving.sandboxed import run_resolver, shown

from tests.primitives import requires
from tests.script_packages.resolving.conftest import registries_for
from tests.script_packages.resolving.registry import Registry
from tests.waiting import next_line

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


_DIES = """
import asyncio, sys
from ringfence_script_packages.packages.resolving.sandboxed import shown

async def main():
    async with shown(sys.argv[1:]) as places:
        print(*places.values(), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@requires("root")
async def test_copies_of_a_resolver_that_a_killed_host_left_go_with_the_next_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, temporary = tmp_path / "closed" / "program", tmp_path / "tmp"
    for path, mode in ((program.parent, 0o700), (temporary, 0o755)):
        path.mkdir()
        path.chmod(mode)
    program.write_bytes(b"a program")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    killed = subprocess.Popen(
        [sys.executable, "-c", _DIES, str(program)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    try:
        left = Path((await asyncio.to_thread(next_line, killed.stdout, "where the copy is")).strip())
    finally:
        killed.kill()
        killed.communicate()
    assert left.read_bytes() == b"a program"
    async with shown([str(program)]) as places, shown([str(program)]) as others:
        assert not left.exists()
        for copy in (places[str(program)], others[str(program)]):
            assert await asyncio.to_thread(Path(copy).read_bytes) == b"a program"
    assert os.listdir(temporary) == []
