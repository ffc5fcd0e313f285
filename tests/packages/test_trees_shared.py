"""Trees that several processes use at once, some of which are killed: whole ones, or none; and none is pulled away."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest
from ringfence.scripts.packages.trees import Trees, tree_key

from tests.packages.archives import Registry, wheel
from tests.packages.machines import DEBIAN

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def place(tmp_path: Path) -> tuple[Trees, list[Registry], list[Path]]:
    """Three locks whose trees have 30, 31 and 32 modules, with their blobs in one directory."""
    registries, files = [], []
    for number in range(3):
        registry = Registry(tmp_path / "blobs")
        modules = {f"alpha/m{each}.py": "x = 1\n" * 200 for each in range(30 + number)}
        registry.python("alpha", wheel("alpha", modules))
        file = tmp_path / f"lock{number}.json"
        file.write_text(registry.lock.model_dump_json(by_alias=True))
        registries.append(registry)
        files.append(file)
    return Trees(tmp_path / "here", registries[0].blobs), registries, files


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def one(what: str, files: list[Path]) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "tests.packages.tree_worker", what]
        words += [str(tmp_path / "blobs"), str(tmp_path / "here"), *map(str, files)]
        root = Path(__file__).parents[2]
        worker = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)
        started.append(worker)
        return worker

    yield one
    for worker in started:
        worker.kill()
        worker.communicate()


def line(stream: IO[str] | None) -> str:
    """The next line that a process writes, which it does within a minute."""
    assert stream is not None
    assert select.select([stream], [], [], 60)[0], "nothing was written"
    return stream.readline().strip()


def check(trees: Trees, registries: list[Registry]) -> None:
    """Every tree that is there is whole."""
    expected = {
        tree_key(registry.lock.hash, DEBIAN): 30 + number for number, registry in enumerate(registries)
    }
    for key in trees.made():
        registry = next(each for each in registries if tree_key(each.lock.hash, DEBIAN) == key)
        pin = trees.pin(registry.lock.hash, DEBIAN)
        if pin is None:
            # Somebody has collected it meanwhile.
            continue
        with pin:
            modules = sorted(pin.path.rglob("*.py"))
            assert len(modules) == expected[key]
            assert {len(module.read_text()) for module in modules} == {1200}


def test_a_tree_that_is_pinned_by_another_process_is_not_collected_until_that_one_ends(
    place: tuple[Trees, list[Registry], list[Path]], start: Start
) -> None:
    trees, registries, files = place
    worker = start("once", files)
    assert line(worker.stdout) == "pinned"
    assert trees.collect([], 0) == 2
    assert trees.made() == {tree_key(registries[2].lock.hash, DEBIAN)}
    check(trees, registries)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    assert trees.collect([], 0) == 1
    assert trees.made() == frozenset()


def test_a_tree_is_kept_while_one_of_its_pins_is(place: tuple[Trees, list[Registry], list[Path]]) -> None:
    trees, registries, _ = place
    lock = registries[0].lock
    assert trees.pin(lock.hash, DEBIAN) is None
    trees.make(lock, DEBIAN)
    first = trees.pin(lock.hash, DEBIAN)
    assert first is not None
    second, third = first.again(), trees.pin(lock.hash, DEBIAN)
    assert second is not None
    assert third is not None
    for pin in (first, third, second):
        assert trees.collect([], 0) == 0
        pin.close()
        pin.close()
    assert trees.collect([], 0) == 1
    assert first.again() is None


def test_a_tree_goes_when_nobody_wants_it_and_its_time_is_over(
    place: tuple[Trees, list[Registry], list[Path]],
) -> None:
    trees, registries, _ = place
    lock = registries[0].lock
    trees.make(lock, DEBIAN)
    assert trees.collect([], 3600) == 0
    assert trees.collect([tree_key(lock.hash, DEBIAN)], 0) == 0
    assert trees.collect([], 0) == 1
    assert trees.pin(lock.hash, DEBIAN) is None
    assert trees.make(lock, DEBIAN).is_dir()


def test_what_dead_makers_left_is_removed_and_what_a_living_one_makes_is_not(
    place: tuple[Trees, list[Registry], list[Path]], tmp_path: Path
) -> None:
    from ringfence.scripts.packages import locking

    trees, registries, _ = place
    trees.make(registries[0].lock, DEBIAN)
    for key in ("a" * 64, "b" * 64):
        (tmp_path / "here/drafts" / f"{key}.0" / "python").mkdir(parents=True)
    with locking.locked(tmp_path / "here/locks" / f"{'a' * 64}.make"):
        trees.collect([], 3600)
        assert os.listdir(tmp_path / "here/drafts") == [f"{'a' * 64}.0"]
    trees.collect([], 3600)
    assert os.listdir(tmp_path / "here/drafts") == []
    assert [name for name in os.listdir(tmp_path / "here/locks") if name.endswith(".make")] == []


def test_locks_that_dead_makers_and_collectors_left_are_removed(
    place: tuple[Trees, list[Registry], list[Path]], tmp_path: Path
) -> None:
    trees, registries, _ = place
    kept = trees.make(registries[0].lock, DEBIAN).name
    locks = tmp_path / "here/locks"
    # Of one whose tree is gone, or was to come; of one whose tree has its name already.
    for name in (f"{'a' * 64}.pin", f"{'b' * 64}.make", f"{kept}.make"):
        (locks / name).touch()
    assert trees.collect([kept], 3600) == 0
    assert sorted(os.listdir(locks)) == sorted([f"{kept}.pin", f"{'a' * 64}.pin"])
    assert trees.collect([kept], 0) == 0
    assert os.listdir(locks) == [f"{kept}.pin"]


def test_two_processes_that_want_one_tree_at_once_make_it_once(
    place: tuple[Trees, list[Registry], list[Path]], start: Start, tmp_path: Path
) -> None:
    trees, registries, files = place
    workers = [start("once", files) for _ in range(3)]
    assert [line(worker.stdout) for worker in workers] == ["pinned"] * 3
    check(trees, registries)
    assert len(trees.made()) == 3
    assert os.listdir(tmp_path / "here/drafts") == []


def storm(place: tuple[Trees, list[Registry], list[Path]], start: Start, rounds: int) -> None:
    """Kill two processes that make, swap and collect at once, again and again."""
    trees, registries, files = place
    for _ in range(rounds):
        workers = [start("churn", files), start("churn", files)]
        assert [line(worker.stdout) for worker in workers] == ["begun"] * 2
        for worker in workers:
            moment = time.monotonic() + random.uniform(0, 0.3)
            while time.monotonic() < moment:
                check(trees, registries)
            worker.send_signal(signal.SIGKILL)
        for worker in workers:
            said, _ = worker.communicate()
            assert (said, worker.returncode) == ("", -signal.SIGKILL)
        check(trees, registries)
        trees.make(registries[0].lock, DEBIAN)
    trees.collect([tree_key(registries[0].lock.hash, DEBIAN)], 0)
    assert trees.made() == {tree_key(registries[0].lock.hash, DEBIAN)}
    check(trees, registries)


@pytest.mark.slow
def test_killed_at_any_moment_no_half_tree_is_seen_and_the_next_process_goes_on(
    place: tuple[Trees, list[Registry], list[Path]], start: Start
) -> None:
    storm(place, start, 4)


@pytest.mark.slow
def test_hundreds_of_kills_leave_whole_trees(
    place: tuple[Trees, list[Registry], list[Path]], start: Start
) -> None:
    """`RINGFENCE_KILLS` says how many rounds, each with two kills."""
    storm(place, start, int(os.environ.get("RINGFENCE_KILLS", "100")))
