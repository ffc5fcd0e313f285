"""What scripts may read beside the system: the managed package tree, the time zone, and an interpreter in reach."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, overlay
from ringfence.sandbox.capabilities import primitives
from ringfence.sandbox.capabilities.primitives import find_python
from ringfence.sandbox.faults import Unavailable
from ringfence.sandbox.identities.identity import Identity
from ringfence.scripts import RunnerSettings, RunResult, ScriptKind, ScriptRequest
from ringfence.scripts.running.runner import Runner

from tests.primitives import lacking, requires
from tests.sandbox.conftest import RunScript

pytestmark = requires("user namespaces")


@pytest.fixture
def packages(open_directory: Path) -> Path:
    """A package tree that the scripts' uid can reach."""
    tree = open_directory / "tree"
    for path, text in (
        ("python/greeting.py", "WORD = 'hello'\n"),
        ("node_modules/greeting/package.json", json.dumps({"name": "greeting", "main": "index.js"})),
        ("node_modules/greeting/index.js", "module.exports = 'hello';\n"),
    ):
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    return tree


async def run_with(packages: Path, kind: str, script: str, mode: str) -> RunResult:
    runner = Runner(RunnerSettings(max_concurrent_runs=1, warm_sandboxes=0, packages=str(packages)))
    policy: dict[str, Any] = {"filesystem": {"mode": mode}}
    snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, policy))
    return await runner.run(snapshot, ScriptRequest(ScriptKind(kind), script))


IMPORTS = {
    "python": "import greeting\nresult = greeting.WORD",
    "esm": "import word from 'greeting'; export default word",
}


@pytest.mark.parametrize("kind", [pytest.param("python"), pytest.param("esm", marks=requires("node"))])
async def test_packages_are_there_for_scratch_plus_ro_alone(packages: Path, kind: str) -> None:
    having = await run_with(packages, kind, IMPORTS[kind], "scratch-plus-ro")
    lacking_it = await run_with(packages, kind, IMPORTS[kind], "scratch-only")

    assert (having.value, having.stderr) == ("hello", "")
    assert (lacking_it.value, lacking_it.exit_code) == (None, 1)
    assert "greeting" in lacking_it.stderr


async def test_packages_cannot_be_changed_even_by_who_owns_them(packages: Path) -> None:
    uid = os.geteuid() or 65532
    for path in (packages, *packages.rglob("*")):
        os.chown(path, uid, uid)
    script = "cd /packages; for p in new python/new; do touch $p && echo made; done; rm -rf python; ls"

    result = await run_with(packages, "shell", script, "scratch-plus-ro")

    assert result.stdout.split() == ["node_modules", "python"]
    assert "Read-only file system" in result.stderr
    assert (packages / "python/greeting.py").exists()
    assert (await run_with(packages, "shell", "ls -d /packages", "scratch-only")).exit_code != 0


@requires("root")
async def test_packages_that_the_scripts_uid_cannot_reach_refuse_the_run_and_are_not_opened_up(
    packages: Path,
) -> None:
    packages.parent.chmod(0o700)

    result = await run_with(packages, "shell", "echo ran", "scratch-plus-ro")

    assert (result.refused, result.stdout) == (True, "")
    reason = result.sandbox.downgrades[-1].reason
    assert re.search(
        rf"the package tree: uid 20000[0-9]{{5}}, which scripts have, cannot reach {packages}: ", reason
    )
    assert f"it may not pass {packages.parent} (mode 0700, owner 0:0)" in reason
    assert f"chmod o+x {packages.parent}" in reason
    assert packages.parent.stat().st_mode & 0o777 == 0o700


async def test_the_time_zone_is_the_hosts(run_script: RunScript) -> None:
    if not Path("/etc/localtime").is_file():
        lacking("no /etc/localtime here")
    result = await run_script("shell", "sha256sum </etc/localtime")
    assert result.stdout.split()[:1] == [hashlib.sha256(Path("/etc/localtime").read_bytes()).hexdigest()]


@requires("node")
async def test_nodes_heap_has_a_cap_within_the_runs_memory(run_script: RunScript) -> None:
    script = "import v8 from 'node:v8'; export default v8.getHeapStatistics().heap_size_limit"
    policy = {"resources": {"memoryBytes": 512 * 1024**2}}
    result = await run_script("esm", script, policy=policy)
    assert isinstance(result.value, int), result.stderr
    assert 384 * 1024**2 <= result.value < 512 * 1024**2


@requires("root")
def test_a_python_that_the_scripts_uid_cannot_run_is_passed_over_and_not_opened_up(
    open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Identity(65532, 65532)
    system = find_python(target).path
    closed = open_directory / "closed"

    def refusing(*_: object) -> str:
        raise Unavailable("[Errno 13] Permission denied")

    closed.mkdir(0o700)
    for place in (closed, open_directory):
        (place / "python3").write_text(f'#!/bin/sh\nexec {system} "$@"\n')
        (place / "python3").chmod(0o755)

    monkeypatch.setenv("RINGFENCE_PYTHON", str(closed / "python3"))
    assert find_python(target).path == system
    assert closed.stat().st_mode & 0o777 == 0o700
    with monkeypatch.context() as without_others:
        without_others.setattr(primitives, "attempt", refusing)
        with pytest.raises(Unavailable, match=f"it may not pass {closed} .mode 0700, owner 0:0."):
            find_python(target)
    monkeypatch.setenv("RINGFENCE_PYTHON", str(open_directory / "python3"))
    assert find_python(target).path == str(open_directory / "python3")
