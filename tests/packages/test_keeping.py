"""Sets come to a machine, change, and stay while their source is away."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from ringfence.scripts.packages.keeping import KeptTrees, SetState, SetStatus
from ringfence.scripts.packages.lock import Lock, LockedFile
from ringfence.scripts.packages.platform import Platform
from ringfence.scripts.packages.provider import NotReady, PackageTree

from tests.packages.archives import Registry, wheel
from tests.packages.machines import DEBIAN
from tests.waiting import until


class Source:
    """Locks and files of a registry, which can be away, wrong, or stop in the middle."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.locks: dict[str, Lock] = {}
        self.away = False
        self.stops_after: int | None = None
        self.asked: list[int] = []

    def add(self, version: str) -> str:
        """A lock with one package of that version, and its hash."""
        registry = Registry(self._directory)
        code = {"greeting.py": f"WORD = {version!r}\n", "filling.txt": os.urandom(5000).hex()}
        registry.python("greeting", wheel("greeting", code, version=version), version)
        self.locks[registry.lock.hash] = registry.lock
        return registry.lock.hash

    async def lock(self, hash: str) -> Lock:
        if self.away:
            raise ConnectionError("it is away")
        return self.locks[hash]

    async def blob(self, file: LockedFile, *, offset: int) -> AsyncIterator[bytes]:
        self.asked.append(offset)
        content = (self._directory / file.sha256).read_bytes()[offset:]
        for at in range(0, len(content), 100):
            if self.stops_after is not None and offset + at >= self.stops_after:
                raise ConnectionError("it is cut off")
            yield content[at : at + 100]


async def debian() -> Platform:
    return DEBIAN


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path / "registry")


def kept(source: Source, tmp_path: Path, told: list[tuple[str, SetStatus]] | None = None) -> KeptTrees:
    seen: list[tuple[str, SetStatus]] = [] if told is None else told
    return KeptTrees(
        tmp_path / "here", source, debian, told=lambda name, status: seen.append((name, status)), grace_s=0
    )


async def word(trees: KeptTrees, name: str = "default") -> str:
    """What the set's tree says, or why there is none."""
    answer = await trees.provide(name)
    if answer is None:
        return "none"
    if isinstance(answer, NotReady):
        return answer.reason
    with answer.pin:
        return (answer.pin.path / "python/greeting.py").read_text().split("'")[1]


async def test_a_wanted_set_comes_and_says_how_far_it_is(source: Source, tmp_path: Path) -> None:
    told: list[tuple[str, SetStatus]] = []
    trees = kept(source, tmp_path, told)
    assert await word(trees) == "it is not known yet which packages there are"
    trees.want({})
    assert await word(trees) == "none"
    assert await word(trees, "ml") == "there is no set ml here"
    trees.want({"default": source.add("1.0")})
    assert await word(trees) == "0 of 0 MiB"
    assert await trees.reconcile()
    assert await word(trees) == "1.0"
    states = [status.state for _, status in told]
    assert (states[0], states[-1]) == (SetState.SYNCING, SetState.READY)
    haves = [status.have for _, status in told if status.state is SetState.SYNCING]
    assert haves == sorted(haves)
    assert haves[-1] == told[-1][1].wanted > 0


async def test_the_last_good_tree_is_used_until_the_next_one_is_whole(source: Source, tmp_path: Path) -> None:
    trees = kept(source, tmp_path)
    trees.want({"default": source.add("1.0")})
    assert await trees.reconcile()
    source.stops_after = 300
    trees.want({"default": source.add("2.0")})
    assert not await trees.reconcile()
    assert trees.status["default"].state is SetState.ERROR
    assert await word(trees) == "1.0"
    source.stops_after = None
    assert await trees.reconcile()
    assert await word(trees) == "2.0"
    # It went on where it was cut off.
    assert source.asked[-1] == 300
    answer = await trees.provide("default")
    assert isinstance(answer, PackageTree)
    answer.pin.close()
    assert answer.lock == trees.status["default"].lock
    assert len(list((tmp_path / "here/trees").iterdir())) == 1


async def test_a_machine_that_starts_without_its_source_goes_on_with_what_it_has(
    source: Source, tmp_path: Path
) -> None:
    before = kept(source, tmp_path)
    lock = source.add("1.0")
    before.want({"default": lock})
    assert await before.reconcile()
    source.away = True
    after = kept(source, tmp_path)
    assert await word(after) == "1.0"
    after.want({"default": lock, "other": source.add("2.0")})
    assert not await after.reconcile()
    assert await word(after) == "1.0"
    assert await word(after, "other") == "it is away"


async def test_another_lock_than_the_one_that_is_wanted_is_not_used(source: Source, tmp_path: Path) -> None:
    trees = kept(source, tmp_path)
    wanted, other = source.add("1.0"), source.add("2.0")
    source.locks[wanted] = source.locks[other]
    trees.want({"default": wanted})
    assert not await trees.reconcile()
    assert await word(trees) == "another lock has come than the one that was asked for"


async def test_a_lock_that_does_not_fit_says_so(source: Source, tmp_path: Path) -> None:
    lock = Lock(python=source.locks[source.add("1.0")].python, requires_python=">=3.12")
    source.locks[lock.hash] = lock
    trees = kept(source, tmp_path)
    trees.want({"default": lock.hash})
    assert not await trees.reconcile()
    assert await word(trees) == "python: the lock is for Python >=3.12, not 3.11.2"


async def test_what_is_wanted_while_it_runs_comes_at_once(source: Source, tmp_path: Path) -> None:
    trees = kept(source, tmp_path)
    trees.want({})
    running = asyncio.create_task(trees.run())
    try:
        for version in ("1.0", "2.0"):
            trees.want({"default": source.add(version)})
            await until(lambda: trees.status["default"].state is SetState.READY, "the set has come")
            assert await word(trees) == version
    finally:
        running.cancel()
        await asyncio.wait([running])


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk, in a mount namespace of its own")
async def test_a_full_disk_is_told_and_room_is_enough_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    worker = [
        sys.executable,
        "-m",
        "tests.packages.full_disk_worker",
        str(tmp_path / "files"),
        str(tmp_path / "disk"),
    ]
    process = await asyncio.create_subprocess_exec(
        "unshare", "--mount", *worker, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    no_file, no_tree, whole = json.loads(out)
    for said in (no_file, no_tree):
        assert said.startswith("error, 0 made: ")
        assert "No space left on device" in said
        assert "make room" in said
    assert whole == "ready, 1 made: None"
