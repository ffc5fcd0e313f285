"""What a run gets of packages: its set's tree, read-only and for as long as it runs; or a refusal that says why not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, ProviderAlreadySet, overlay
from ringfence.scripts import (
    NotReady,
    PackageTree,
    RunnerSettings,
    RunResult,
    ScriptKind,
    ScriptRequest,
    clear_package_provider,
    set_package_provider,
)
from ringfence.scripts.packages.trees import Trees, tree_key
from ringfence.scripts.running.runner import Runner

from tests.packages.archives import Registry, npm, wheel
from tests.packages.machines import DEBIAN
from tests.primitives import requires
from tests.waiting import until

pytestmark = requires("user namespaces")


class Sets:
    """A provider of sets that are made from real archives."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.trees = Trees(directory / "here", Registry(directory / "blobs").blobs)
        self._locks: dict[str, str] = {}
        self.not_ready: NotReady | None = None

    def add(self, name: str, registry: Registry) -> None:
        """A set, whose tree is made."""
        self.trees.make(registry.lock, DEBIAN)
        self._locks[name] = registry.lock.hash

    def registry(self) -> Registry:
        """An empty lock, with the blobs of all."""
        return Registry(self._directory / "blobs")

    def key(self, name: str) -> str:
        """What the tree of a set is called."""
        return tree_key(self._locks[name], DEBIAN)

    async def provide(self, name: str) -> PackageTree | NotReady | None:
        """The provider."""
        if self.not_ready is not None:
            return self.not_ready
        if name not in self._locks:
            return None if name == "default" else NotReady(f"there is no set {name}")
        pin = self.trees.pin(self._locks[name], DEBIAN)
        return PackageTree(name, self._locks[name], pin) if pin else NotReady.fetching(0, 40 * 1024**2)


@pytest.fixture
def sets(open_directory: Path) -> Iterator[Sets]:
    """Sets that runs can reach, and their provider."""
    made = Sets(open_directory)
    set_package_provider(made.provide)
    yield made
    clear_package_provider()


@pytest.fixture
def greetings(sets: Sets) -> Sets:
    """The default set, with a package of each kind."""
    registry = sets.registry()
    registry.python("greeting", wheel("greeting", {"greeting/__init__.py": "WORD = 'hello'\n"}))
    module = {"module.mjs": "export const word = 'hello from a module';\n"}
    exports = {".": {"import": "./module.mjs", "require": "./index.js"}}
    registry.node("node_modules/zod", npm("zod", module, exports=exports))
    registry.node("node_modules/@s/x", npm("@s/x", {"index.js": "module.exports = require('deep');\n"}))
    registry.node("node_modules/@s/x/node_modules/deep", npm("deep"))
    sets.add("default", registry)
    return sets


@pytest.fixture
async def runner() -> AsyncIterator[Runner]:
    made = Runner(RunnerSettings(max_concurrent_runs=4, warm_sandboxes=0))
    yield made
    for left in made.pool.clear():
        await asyncio.wrap_future(left)


async def run(
    runner: Runner, kind: str, script: str, *, policy: dict[str, Any] | None = None, **given: Any
) -> RunResult:
    snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, policy or {}))
    return await runner.run(snapshot, ScriptRequest(ScriptKind(kind), script, **given))


async def test_a_python_script_imports_from_its_set_and_the_result_says_which_that_was(
    greetings: Sets, runner: Runner
) -> None:
    script = "import greeting, importlib.metadata as m\nresult = [greeting.WORD, m.version('greeting')]"
    result = await run(runner, "python", script)
    assert (result.value, result.stderr) == (["hello", "1.0"], "")
    told = result.model_dump(mode="json", by_alias=True)["packages"]
    assert told["set"] == "default"
    assert greetings.key("default") == tree_key(told["lock"], DEBIAN)
    assert RunResult.model_validate(result.model_dump(mode="json", by_alias=True)).packages == result.packages


@requires("node")
@pytest.mark.parametrize(
    ("kind", "name", "script", "value"),
    [
        ("esm", "", "import { word } from 'zod'; export default word", "hello from a module"),
        ("esm", "check.js", "import { word } from 'zod'; export default word", "hello from a module"),
        ("esm", "", "import x from '@s/x'; export default x", "deep"),
        ("esm", "", "export default (await import('@s/x')).default", "deep"),
        (
            "esm",
            "",
            "import { createRequire } from 'node:module';"
            " export default createRequire(import.meta.url)('zod')",
            "zod",
        ),
    ],
)
async def test_a_module_imports_by_bare_names(
    greetings: Sets, runner: Runner, kind: str, name: str, script: str, value: str
) -> None:
    result = await run(runner, kind, script, name=name)
    assert (result.value, result.stderr) == (value, "")
    assert result.packages is not None


@requires("node")
async def test_a_script_of_commonjs_requires_from_its_set_and_so_does_what_a_shell_starts(
    greetings: Sets, runner: Runner
) -> None:
    script = "console.log(require('zod'), require('@s/x'))"
    result = await run(runner, "auto", script, name="check.cjs")
    assert (result.stdout, result.stderr) == ("zod deep\n", "")
    result = await run(runner, "shell", f'node -e "{script}"')
    assert (result.stdout, result.stderr) == ("zod deep\n", "")


async def test_two_sets_have_two_versions_of_one_package_side_by_side(sets: Sets, runner: Runner) -> None:
    for version in ("1.0", "2.0"):
        code = {"greeting.py": f"WORD = '{version}'\n"}
        archive = wheel("greeting", code, version=version)
        sets.add(f"with-{version}", sets.registry().python("greeting", archive, version))
    script = "import greeting; result = greeting.WORD"
    results = await asyncio.gather(
        *(run(runner, "python", script, packages=f"with-{version}") for version in ("1.0", "2.0") * 3)
    )
    assert [result.value for result in results] == ["1.0", "2.0"] * 3
    assert [result.packages and result.packages.set for result in results] == ["with-1.0", "with-2.0"] * 3


async def test_without_packages_in_the_default_set_a_run_has_none_and_says_nothing(
    sets: Sets, runner: Runner
) -> None:
    result = await run(runner, "python", "import os; result = os.path.exists('/packages')")
    assert result.value is False
    assert "packages" not in result.model_dump(mode="json", by_alias=True)


async def test_a_run_whose_packages_are_under_way_is_refused_and_says_how_far_they_are(
    sets: Sets, runner: Runner
) -> None:
    sets.not_ready = NotReady.fetching(12 * 1024**2 + 5, 40 * 1024**2 - 5)
    for kind, script, named in (
        ("python", "print(1)", None),
        ("auto", "#!/usr/bin/env node\nrequire('zod')", None),
        ("shell", "echo 1", "ml"),
    ):
        result = await run(runner, kind, script, packages=named)
        assert (result.refused, result.stdout) == (True, "")
        (downgrade,) = result.sandbox.downgrades
        assert (downgrade.layer, downgrade.reason) == (
            "packages",
            "packages are not ready here: 12 of 40 MiB",
        )


async def test_a_shell_script_that_names_no_set_does_not_wait_for_packages(
    sets: Sets, runner: Runner
) -> None:
    sets.not_ready = NotReady.fetching(12 * 1024**2, 40 * 1024**2)
    result = await run(runner, "shell", "echo ran")
    assert result.stdout == "ran\n"
    assert [note.note for note in result.sandbox.notes if note.layer == "packages"] == [
        "packages are not ready here: 12 of 40 MiB"
    ]


async def test_a_set_that_cannot_be_shown_refuses_the_run_that_names_it_and_no_other(
    greetings: Sets, runner: Runner
) -> None:
    policy = {"filesystem": {"mode": "scratch-only"}}
    unnamed = await run(runner, "python", "result = 1", policy=policy)
    assert (unnamed.value, unnamed.packages) == (1, None)
    named = await run(runner, "python", "result = 1", policy=policy, packages="default")
    assert named.refused
    assert named.sandbox.downgrades[-1].reason == (
        "the set default cannot be shown to this run: the policy's filesystem.mode is scratch-only"
    )


async def test_a_set_that_nobody_knows_refuses_the_run(sets: Sets, runner: Runner) -> None:
    result = await run(runner, "python", "result = 1", packages="ml")
    assert result.sandbox.downgrades[-1].reason == "packages are not ready here: there is no set ml"
    clear_package_provider()
    result = await run(runner, "python", "result = 1", packages="ml")
    assert "nothing here provides the set ml" in result.sandbox.downgrades[-1].reason
    assert (await run(runner, "python", "result = 1")).value == 1
    with pytest.raises(ValueError, match="a set's name"):
        ScriptRequest(ScriptKind.PYTHON, "", packages="../default")


async def test_a_provider_that_fails_refuses_the_run_and_there_is_one(sets: Sets, runner: Runner) -> None:
    async def broken(_: str) -> None:
        raise ConnectionError("postgresql://name:secret@host")

    with pytest.raises(ProviderAlreadySet):
        set_package_provider(broken)
    clear_package_provider()
    set_package_provider(broken)
    result = await run(runner, "python", "result = 1")
    assert result.sandbox.downgrades[-1].reason == (
        "packages are not ready here: the package provider failed: ConnectionError"
    )


async def test_a_tree_is_kept_while_a_run_imports_from_it(greetings: Sets, runner: Runner) -> None:
    begun = asyncio.Event()
    script = "import sys, time\nprint('begun', flush=True)\ntime.sleep(60)"
    snapshot = PolicySnapshot(DEFAULT_POLICY)
    request = ScriptRequest(ScriptKind.PYTHON, script, listen=lambda *_: begun.set())
    running = asyncio.create_task(runner.run(snapshot, request))
    await asyncio.wait_for(begun.wait(), 60)
    assert await asyncio.to_thread(greetings.trees.collect, [], 0) == 0
    running.cancel()
    await asyncio.wait([running])
    assert await asyncio.to_thread(greetings.trees.collect, [], 0) == 1


@pytest.mark.parametrize("kind", ["shell", "python"])
async def test_a_tree_is_kept_while_a_sandbox_waits_that_shows_it(greetings: Sets, kind: str) -> None:
    runner = Runner(RunnerSettings(max_concurrent_runs=4, warm_sandboxes=2))
    try:
        for _ in range(2):
            await run(runner, kind, "")
        await until(lambda: len(runner.pool) == 2, "two sandboxes wait")
        assert greetings.trees.collect([], 0) == 0
        result = await run(runner, kind, "")
        assert result.timing.warm
    finally:
        ended = [asyncio.wrap_future(each) for each in runner.pool.clear()]
    await asyncio.gather(*ended)
    await until(lambda: greetings.trees.collect([], 0) == 1, "nobody has the tree pinned")


async def test_another_lock_of_a_set_is_seen_by_the_next_run_and_not_by_a_waiting_sandbox(
    greetings: Sets,
) -> None:
    runner = Runner(RunnerSettings(max_concurrent_runs=4, warm_sandboxes=2))
    script = "import greeting; result = greeting.WORD"
    try:
        for _ in range(2):
            assert (await run(runner, "python", script)).value == "hello"
        await until(lambda: len(runner.pool) == 2, "two sandboxes wait")
        renewed = greetings.registry()
        renewed.python("greeting", wheel("greeting", {"greeting.py": "WORD = 'bye'\n"}, version="2.0"), "2.0")
        greetings.add("default", renewed)
        result = await run(runner, "python", script)
        assert (result.value, result.timing.warm) == ("bye", False)
    finally:
        for left in runner.pool.clear():
            await asyncio.wrap_future(left)


async def test_nothing_of_a_package_runs_unless_a_script_imports_it(sets: Sets, runner: Runner) -> None:
    evil = "open('/tmp/evil', 'a').write('ran')\n"
    registry = sets.registry()
    files = {
        "evil.pth": f"import sys; exec({evil!r})\n",
        "evil-nspkg.pth": "import evil\n",
        "evil.py": evil,
        "sitecustomize.py": evil,
        "usercustomize.py": evil,
        "evil-1.0.dist-info/entry_points.txt": "[console_scripts]\nevil = evil:main\n",
    }
    scripts = dict.fromkeys(("preinstall", "install", "postinstall", "prepare"), "touch /tmp/evil")
    registry.node("node_modules/evil", npm("evil", scripts=scripts, bin={"evil": "index.js"}))
    sets.add("default", registry.python("evil", wheel("evil", files)))
    look = "import os\nresult = [os.path.exists('/tmp/evil'), os.listdir('/packages/node_modules')]\n"
    for first in ("", "#!/usr/bin/env python3\n"):
        result = await run(runner, "python", first + look)
        assert (result.value, result.stderr) == ([False, ["evil"]], "")
    assert not Path("/tmp/evil").exists()
    imported = await run(runner, "python", "import evil\n" + look)
    assert imported.value is not None
    assert imported.value[0] is True


async def test_a_package_does_not_take_the_place_of_the_standard_library(sets: Sets, runner: Runner) -> None:
    code = {"json/__init__.py": "raise SystemExit('evil')\n", "fractions.py": "raise SystemExit('evil')\n"}
    sets.add("default", sets.registry().python("evil", wheel("evil", code)))
    result = await run(runner, "python", "import json, fractions; result = json.dumps([1])")
    assert (result.value, result.exit_code) == ("[1]", 0)


async def test_a_python_that_a_shell_starts_imports_if_the_script_says_where_from(
    greetings: Sets, runner: Runner
) -> None:
    script = "python3 -c 'import greeting' 2>/dev/null || echo none\n"
    script += "PYTHONPATH=/packages/python python3 -c 'import greeting; print(greeting.WORD)'"
    assert (await run(runner, "shell", script)).stdout == "none\nhello\n"
