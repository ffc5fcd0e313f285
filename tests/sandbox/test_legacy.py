"""A cgroup v1 of a run's own, on the real hierarchies: what it limits, how it ends, and what is left of it."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, overlay
from ringfence.sandbox.capabilities.found import Cgroup
from ringfence.sandbox.capabilities.model import Capabilities
from ringfence.sandbox.capabilities.probe import probe
from ringfence.sandbox.limits.cgroups import delegation, groups, legacy
from ringfence.sandbox.limits.cgroups.legacy import LegacyGroup, sweep
from ringfence.sandbox.limits.cgroups.place import LegacySubtree
from ringfence.scripts import RunResult, ScriptKind, ScriptRequest, Stopped, run_under

from tests.cgroups.test_limits import BUSY, POLICY, REFUSED, WAYS
from tests.primitives import lacking, requires
from tests.waiting import wait_until

pytestmark = requires("cgroup v1", "user namespaces")

MiB = 1024 * 1024


def mounted(controller: str) -> Path:
    places = (Path(mount) for mount in legacy.mounts() if Path(mount).name == controller)
    return next(places, None) or lacking(f"a hierarchy of cgroup v1 that is mounted as {controller}")


@pytest.fixture
def named() -> Iterator[Path]:
    """A directory in the memory hierarchy, with those of the same name where they are needed."""
    name = f"ringfence-test-{secrets.token_hex(4)}"
    places = [mounted(controller) / name for controller in ("memory", "pids", "cpuacct")]
    for place in places:
        place.mkdir()
    yield places[0]
    for place in places:
        with contextlib.suppress(FileNotFoundError):
            place.rmdir()


@pytest.fixture
def subtree(named: Path) -> LegacySubtree:
    return legacy.find(str(named))


@pytest.fixture
def host(named: Path) -> Capabilities:
    """This host, where somebody has named that directory."""
    return replace(probe(), cgroup=Cgroup(groups.find(str(named))))


async def run(host: Capabilities, kind: ScriptKind, script: str, **policy: object) -> RunResult:
    snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, policy))
    request = ScriptRequest(kind, script, timeout_ms=60_000)
    result = await run_under(snapshot, request, capabilities=host)
    assert not result.refused, result.sandbox.downgrades
    return result


@contextlib.contextmanager
def running(group: LegacyGroup, command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A program that starts when it is in `group`; `command` finds the end of its input there."""
    waiting = ["sh", "-c", 'read go; exec "$@"', "waiting", *command]
    with subprocess.Popen(waiting, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        group.take([process.pid])
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.close()
        yield process


def until_alive(group: LegacyGroup, number: int) -> None:
    def alive() -> list[str]:
        return (group.path / "cgroup.procs").read_text().split()

    wait_until(lambda: len(alive()) == number, f"there are {number} processes in the cgroup")


def left(subtree: LegacySubtree) -> list[Path]:
    return [path for place in subtree.directories for path in place.glob("run-*")]


def test_a_group_has_what_it_was_asked_for_and_leaves_nothing(subtree: LegacySubtree) -> None:
    group = LegacyGroup(subtree, memory_bytes=48 * MiB, processes=5)
    assert (group.path / "memory.limit_in_bytes").read_text().strip() == str(48 * MiB)
    if group.limits_swap:
        assert (group.path / "memory.memsw.limit_in_bytes").read_text().strip() == str(48 * MiB)
    assert (subtree.pids / group.path.name / "pids.max").read_text() == "5\n"
    assert len(left(subtree)) == 3
    group.close()
    assert left(subtree) == []


def test_the_name_of_a_subtree_says_all_of_it(subtree: LegacySubtree) -> None:
    assert str(subtree) == "v1:" + ":".join(map(str, subtree.directories))
    assert {subtree.memory, subtree.pids} <= set(subtree.directories)


SURVIVORS = """
sleep 1000 & setsid sleep 1000 & (setsid sleep 1000 &) &
sleep 1000 & kill -STOP $!
(trap '' TERM INT HUP; exec setsid sleep 1000) &
wait %3
exec sleep 1000
"""


def test_a_kill_ends_daemons_sessions_and_stopped_processes(subtree: LegacySubtree) -> None:
    group = LegacyGroup(subtree, memory_bytes=256 * MiB, processes=50)
    with running(group, ["sh", "-c", SURVIVORS]):
        until_alive(group, 6)
        group.kill()
        until_alive(group, 0)
    group.close()
    assert left(subtree) == []


BOMB = """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""


def test_a_fork_bomb_stays_within_the_cap_and_ends(subtree: LegacySubtree) -> None:
    group = LegacyGroup(subtree, memory_bytes=256 * MiB, processes=20)
    with running(group, [sys.executable, "-IS", "-c", BOMB]):
        until_alive(group, 20)
        group.close()
    assert left(subtree) == []


def test_a_sweep_removes_what_nobody_holds_and_nothing_else(subtree: LegacySubtree) -> None:
    held = LegacyGroup(subtree, memory_bytes=48 * MiB, processes=5)
    for place in subtree.directories:
        (place / "run-of-a-supervisor-that-was-killed").mkdir()
    with subprocess.Popen(["sleep", "1000"]) as orphan:
        for place in subtree.directories:
            (place / "run-of-a-supervisor-that-was-killed" / "cgroup.procs").write_text(str(orphan.pid))
        sweep(subtree)
        assert orphan.wait(10) == -9
    assert {path.name for path in left(subtree)} == {held.path.name}
    held.close()


def test_a_limit_that_cannot_be_set_leaves_no_directory(subtree: LegacySubtree) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        LegacyGroup(subtree, memory_bytes=48 * MiB, processes=-1)
    assert left(subtree) == []


def test_what_is_not_there_in_every_hierarchy_is_not_used(named: Path) -> None:
    (mounted("pids") / named.name).rmdir()
    with pytest.raises(delegation.NotDelegated, match=r"has no pids\.max"):
        legacy.find(str(named))
    with pytest.raises(delegation.NotDelegated, match="not in the memory hierarchy"):
        legacy.find(str(mounted("pids")))


@pytest.mark.parametrize("way", ["over processes", REFUSED, "files in scratch", "buffers of sockets"])
async def test_memory_of_every_kind_is_counted_and_ends_the_run_as_a_whole(
    host: Capabilities, subtree: LegacySubtree, way: str
) -> None:
    result = await run(host, ScriptKind.PYTHON, WAYS[way], **POLICY)
    assert (result.stopped, result.exit_code) == (Stopped.MEMORY, -9), result.stdout + result.stderr
    assert left(subtree) == []


async def test_what_is_within_the_limit_runs(host: Capabilities) -> None:
    result = await run(host, ScriptKind.PYTHON, WAYS["one mapping"].replace("128", "24"), **POLICY)
    assert (result.stdout, result.stopped) == ("had it\n", None)


async def test_a_process_that_the_kernel_kills_takes_the_run_with_it(host: Capabilities) -> None:
    """Where the kernel ends one process, the others do not live on."""
    script = "sleep 1000 & head -c 100000000 /dev/zero >/dev/shm/block; sleep 1000"
    result = await run(host, ScriptKind.SHELL, script, **POLICY)
    assert result.stopped is Stopped.MEMORY


async def test_the_processor_time_of_the_whole_tree_is_accounted_for(host: Capabilities) -> None:
    busy = await run(host, ScriptKind.PYTHON, BUSY)
    assert busy.timing.cpu_ms is not None
    assert busy.timing.cpu_ms >= 1000


async def test_the_report_tells_of_this_version(host: Capabilities) -> None:
    report = (await run(host, ScriptKind.SHELL, "true")).sandbox
    assert "memory.limit_in_bytes of the run's own cgroup (v1)" in report.mechanisms["memoryBytes"]
    assert "pids.max of its own cgroup" in report.mechanisms["maxProcesses"]
    assert report.enforced.resources


def test_nothing_of_the_host_is_left_in_use(subtree: LegacySubtree) -> None:
    """Nobody was moved but runs."""
    before = Path("/proc/self/cgroup").read_text()
    legacy.make_ready(subtree)
    assert Path("/proc/self/cgroup").read_text() == before
    assert os.getpid() not in map(int, (subtree.memory / "cgroup.procs").read_text().split())
