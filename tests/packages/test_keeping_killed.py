"""Machines that are killed while they fetch, unpack, swap and collect packages: what they have is whole or absent."""

from __future__ import annotations

import os
import random
import select
import subprocess
import sys
from pathlib import Path

import pytest
from ringfence.scripts.packages.keeping import SetState
from ringfence.scripts.packages.trees import tree_key

from tests.packages.archives import Registry, wheel
from tests.packages.keeping_worker import MODULES, kept, problem
from tests.packages.machines import DEBIAN

ROUNDS = int(os.environ.get("RINGFENCE_KILLS", "8"))


@pytest.mark.slow
async def test_whatever_a_kill_leaves_is_whole_or_absent_and_goes_on(tmp_path: Path) -> None:
    """`RINGFENCE_KILLS` says how many kills."""
    files, here = tmp_path / "files", tmp_path / "here"
    locks, names = {}, []
    for number in range(3):
        registry = Registry(files)
        code: dict[str, bytes | str] = {f"m{at}.py": f"WORD = '{number}.0'\n" for at in range(MODULES)}
        registry.python(
            "greeting",
            wheel("greeting", {**code, "filling": os.urandom(60_000)}, version=f"{number}.0"),
            f"{number}.0",
        )
        locks[registry.lock.hash] = registry.lock
        names.append(tmp_path / f"{number}.json")
        names[-1].write_text(registry.lock.model_dump_json(by_alias=True))
    chance = random.Random(7)
    for _ in range(ROUNDS):
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.packages.keeping_worker", files, here, *names],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert worker.stdout is not None
        said = [worker.stdout.readline() for _ in range(chance.randrange(2, 40))]
        # Somewhere in the middle of what comes next, which most often is unpacking.
        select.select([], [], [], chance.uniform(0, 0.1))
        worker.kill()
        rest, _ = worker.communicate()
        assert "" not in said, "it has ended by itself"
        assert not [line for line in [*said, rest] if "wrong" in line]
        # As it starts again: with what it had, and without its source.
        after = kept(here, files, {})
        for name in ("default", "other"):
            assert await problem(after, name, locks) is None
    trees = kept(here, files, locks)
    wanted = dict(zip(("default", "other"), locks, strict=False))
    trees.want(wanted)
    assert await trees.reconcile()
    assert {status.state for status in trees.status.values()} == {SetState.READY}
    for name, lock in wanted.items():
        answer = await trees.provide(name)
        assert answer is not None
        answer.pin.close()  # type: ignore[union-attr]
        assert answer.lock == lock  # type: ignore[union-attr]
        assert await problem(trees, name, locks) is None
    # Nothing is left of what was wanted before, or was half done.
    assert {path.name for path in (here / "trees").iterdir()} == {
        tree_key(lock, DEBIAN) for lock in wanted.values()
    }
    assert list((here / "drafts").iterdir()) == []
    assert list((here / "blobs").iterdir()) == []
    keys = {path.name for path in (here / "trees").iterdir()}
    assert {path.name for path in (here / "locks").iterdir()} == {f"{key}.pin" for key in keys}
    allowed = {"trees", "drafts", "blobs", "locks", "sets.json", "sets.json.draft"}
    assert {path.name for path in here.iterdir()} <= allowed
