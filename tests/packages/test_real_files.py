"""Real files of the registries that this machine's own tools are set up for: what people import works."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.utils import parse_wheel_filename
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot
from ringfence.sandbox.capabilities.found import Python
from ringfence.sandbox.capabilities.probe import probe
from ringfence.scripts import (
    PackageTree,
    ScriptKind,
    ScriptRequest,
    clear_package_provider,
    run_under,
    set_package_provider,
)
from ringfence.scripts.packages.platform import Platform
from ringfence.scripts.packages.trees import Trees

from tests.packages.archives import Registry
from tests.primitives import requires

pytestmark = [pytest.mark.slow, requires("user namespaces", "node")]

PYTHON = """
import dns.name, numpy, psycopg, pydantic, requests
class Model(pydantic.BaseModel):
    x: int
result = [requests.Request("GET", "http://a").url, Model(x="3").x, int(numpy.arange(4).sum()), psycopg.pq.__impl__,
          str(dns.name.from_text("a.b"))]
"""
MODULE = """
import { z } from "zod";
import is from "@sindresorhus/is";
import pg from "pg";
export default [z.string().parse("a"), is.string("x"), typeof pg.Client];
"""


def fetched(words: list[str], directory: Path) -> None:
    got = subprocess.run(words, cwd=directory, capture_output=True, text=True, timeout=300)
    if got.returncode != 0:
        # Whether one can be is no property of this machine.
        pytest.skip("no registry can be reached")


async def test_real_packages_are_unpacked_and_imported(open_directory: Path, tmp_path: Path) -> None:
    capabilities = probe()
    assert isinstance(capabilities.python, Python)
    version = ".".join(capabilities.python.version.split(".")[:2])
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:", "--dest", "."]
    wheels = ["requests", "pydantic", "numpy", "psycopg[binary]", "dnspython"]
    fetched([*words, "--python-version", version, *wheels], tmp_path)
    fetched(["npm", "install", "--silent", "--ignore-scripts", "zod", "pg", "@sindresorhus/is"], tmp_path)

    registry = Registry(open_directory / "blobs")
    for wheel in tmp_path.glob("*.whl"):
        name, number, _, _ = parse_wheel_filename(wheel.name)
        registry.real_python(name, str(number), wheel)
    locked = json.loads((tmp_path / "package-lock.json").read_text())["packages"]
    for path, package in locked.items():
        if path:
            place = path.rpartition("node_modules/")[2]
            words = ["npm", "pack", "--silent", f"{place}@{package['version']}"]
            (tmp_path / "packed").mkdir(exist_ok=True)
            fetched(words, tmp_path / "packed")
            (tarball,) = (tmp_path / "packed").iterdir()
            registry.node(path, tarball.read_bytes())
            tarball.unlink()

    platform = Platform.of(capabilities)
    trees = Trees(open_directory / "here", registry.blobs)
    trees.make(registry.lock, platform)

    async def provide(name: str) -> PackageTree | None:
        pin = trees.pin(registry.lock.hash, platform)
        return None if pin is None else PackageTree(name, registry.lock.hash, pin)

    set_package_provider(provide)
    try:
        snapshot = PolicySnapshot(DEFAULT_POLICY)
        python = await run_under(snapshot, ScriptRequest(ScriptKind.PYTHON, PYTHON))
        module = await run_under(snapshot, ScriptRequest(ScriptKind.ESM, MODULE))
    finally:
        clear_package_provider()
    assert (python.value, python.stderr) == (["http://a", 3, 6, "binary", "a.b."], "")
    assert (module.value, module.stderr) == (["a", True, "function"], "")
