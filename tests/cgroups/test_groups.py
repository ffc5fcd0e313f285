"""One cgroup by itself: what it limits without any other limit beside it, how it ends, and what is left of it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ringfence.sandbox.limits.cgroups import delegation
from ringfence.sandbox.limits.cgroups.unified import UnifiedGroup, sweep

from tests.cgroups import units
from tests.waiting import PATIENCE_SECONDS, next_line, wait_until

MiB = 1024 * 1024


@pytest.fixture
def subtree() -> Iterator[Path]:
    with units.unit() as unit:
        delegation.make_ready(unit)
        yield unit


@contextlib.contextmanager
def running(group: UnifiedGroup, command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A program that starts when it is in `group`; `command` finds the end of its input there."""
    waiting = ["sh", "-c", 'read go; exec "$@"', "waiting", *command]
    with subprocess.Popen(waiting, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        group.take([process.pid])
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.close()
        yield process


def alive(group: UnifiedGroup) -> list[str]:
    return (group.path / "cgroup.procs").read_text().split()


def test_a_group_has_what_it_was_asked_for(subtree: Path) -> None:
    group = UnifiedGroup(subtree, memory_bytes=48 * MiB, processes=5)
    names = ("memory.max", "memory.oom.group", "pids.max")
    assert [(group.path / name).read_text().strip() for name in names] == [str(48 * MiB), "1", "5"]
    if group.limits_swap:
        assert (group.path / "memory.swap.max").read_text() == "0\n"
    group.close()
    assert not group.path.exists()


BOMB = """
import os, time
for _ in range(6):
    try:
        os.fork()
    except OSError:
        print('full', flush=True)
        break
else:
    print('free', flush=True)
time.sleep(1000)
"""


def test_a_fork_bomb_of_many_generations_stays_within_the_cap(subtree: Path) -> None:
    group = UnifiedGroup(subtree, memory_bytes=256 * MiB, processes=5)
    with running(group, [sys.executable, "-IS", "-c", BOMB]) as process:
        assert next_line(process.stdout, "that it is full") == "full\n"
        assert (group.path / "pids.current").read_text() == "5\n"
        group.close()
    assert not group.path.exists()


SURVIVORS = """
sleep 1000 & setsid sleep 1000 & (setsid sleep 1000 &) &
sleep 1000 & kill -STOP $!
(trap '' TERM INT HUP; exec setsid sleep 1000) &
wait %3
echo started
exec sleep 1000
"""


def test_a_kill_ends_daemons_sessions_and_stopped_processes_at_once(subtree: Path) -> None:
    group = UnifiedGroup(subtree, memory_bytes=256 * MiB, processes=50)
    with running(group, ["sh", "-c", SURVIVORS]) as process:
        assert next_line(process.stdout, "that all have started") == "started\n"
        wait_until(lambda: len(alive(group)) == 6)
        group.kill()
        wait_until(lambda: not alive(group))
        group.close()
    assert not group.path.exists()


def test_out_of_memory_ends_the_innocent_too(subtree: Path) -> None:
    group = UnifiedGroup(subtree, memory_bytes=24 * MiB, processes=50)
    hungry = f"sleep 1000 & exec {sys.executable} -IS -c 'x = bytearray(64 << 20)'"
    with running(group, ["sh", "-c", hungry]) as process:
        assert process.wait(PATIENCE_SECONDS) == -9
        wait_until(lambda: not alive(group))
        assert group.ran_out_of_memory()
        group.close()


def test_a_sweep_removes_what_nobody_holds_and_nothing_else(subtree: Path) -> None:
    held = UnifiedGroup(subtree, memory_bytes=48 * MiB, processes=5)
    left = subtree / "run-of-a-supervisor-that-was-killed"
    left.mkdir()
    with subprocess.Popen(["sleep", "1000"]) as orphan:
        (left / "cgroup.procs").write_text(str(orphan.pid))
        sweep(subtree)
        assert orphan.wait(PATIENCE_SECONDS) == -9
    assert units.runs_in(subtree) == [held.path]
    held.close()


def test_a_limit_that_cannot_be_set_leaves_no_directory(subtree: Path) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        UnifiedGroup(subtree, memory_bytes=48 * MiB, processes=-1)
    assert units.runs_in(subtree) == []


def test_a_limit_beyond_what_a_kernel_can_have_is_as_good_as_none(subtree: Path) -> None:
    group = UnifiedGroup(subtree, memory_bytes=2**53 - 1, processes=2**53 - 1)
    assert int((group.path / "pids.max").read_text()) == 4 * 1024**2
    group.close()
