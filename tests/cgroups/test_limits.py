"""What the kernel counts against a run's limits, much of which no sum over its processes would show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ringfence.scripts import Stopped

from tests.cgroups import units
from tests.cgroups.conftest import Start
from tests.escapes.conftest import Supervisor

MiB = 1024 * 1024
POLICY = {"resources": {"memoryBytes": 48 * MiB, "maxScratchBytes": 512 * MiB}}

ONE = """
import mmap
block = mmap.mmap(-1, 128 << 20)
for _ in range(len(block) >> 20):
    block.write(bytes(1 << 20))
print('had it')
"""
SPLIT = """
import os, time
for _ in range(8):
    if os.fork() == 0:
        block = bytearray(16 << 20)
        time.sleep(1000)
time.sleep(1000)
"""
GIVEN_BACK = """
import mmap
block = mmap.mmap(-1, 128 << 20)
for start in range(0, len(block), 1 << 20):
    block.write(bytes(1 << 20))
    block.madvise(mmap.MADV_DONTNEED, start, 1 << 20)
print('had it')
"""
SCRATCH = """
block = bytes(1 << 20)
with open('file', 'wb') as file:
    for _ in range(128):
        file.write(block)
print('had it')
"""
SHARED_MEMORY = SCRATCH.replace("'file'", "'/dev/shm/block'")
SOCKETS = """
import socket
held = []
for _ in range(250):
    for end in (pair := socket.socketpair()):
        end.setblocking(False)
        try:
            while True:
                end.send(bytes(65536))
        except BlockingIOError:
            pass
    held.append(pair)
print('had it')
"""

BUSY = """
import os, time
first, began = os.getpid(), time.process_time()
for _ in range(2):
    if os.getpid() == first and os.fork() == 0:
        os.setsid()
if os.getpid() != first:
    began = 0
while time.process_time() - began < 0.5:
    pass
if os.getpid() == first:
    os.wait(), os.wait()
print(time.process_time() - began)
"""

WAYS = {
    "one mapping": ONE,
    "over processes": SPLIT,
    "given back but not freed": GIVEN_BACK,
    "files in scratch": SCRATCH,
    "shared memory": SHARED_MEMORY,
    "buffers of sockets": SOCKETS,
}
UNSEEN = ("files in scratch", "shared memory")
LOOKED_AT = "buffers of sockets"
"""What the supervisor finds by looking, too."""
REFUSED = "given back but not freed"
"""What would be unseen too, and needs memory of a kind that can be had only where it is counted."""


@pytest.mark.usefixtures("leaves_nothing")
@pytest.mark.parametrize("way", WAYS)
def test_memory_of_every_kind_is_counted_and_ends_the_run_as_a_whole(
    supervisor: Supervisor, way: str
) -> None:
    result = supervisor.run("python", WAYS[way], policy=POLICY, timeout_ms=60_000)
    assert (result.stopped, result.exit_code) == (Stopped.MEMORY, -9), result.stdout + result.stderr


def test_without_a_cgroup_the_unseen_kinds_are_not_counted(start: Start) -> None:
    """It is the cgroup that the tests above show at work."""
    with units.unit(delegate=False) as unit, start(unit) as process:
        plain = Supervisor(process, 0, warm=False)
        for way in UNSEEN:
            result = plain.run("python", WAYS[way], policy=POLICY, timeout_ms=60_000)
            assert result.stdout == "had it\n", way
        looked_at = plain.run("python", WAYS[LOOKED_AT], policy=POLICY, timeout_ms=60_000)
        assert looked_at.stopped is Stopped.MEMORY
        assert "PermissionError" in plain.run("python", WAYS[REFUSED], policy=POLICY).stderr


def test_what_is_within_the_limit_runs(supervisor: Supervisor, warm_supervisor: Supervisor) -> None:
    for each in (supervisor, warm_supervisor):
        result = each.run("python", ONE.replace("128", "24"), policy=POLICY)
        assert (result.stdout, result.stopped) == ("had it\n", None)


def test_nothing_is_swapped_out_to_make_room(supervisor: Supervisor) -> None:
    swap = Path("/proc/swaps").read_text().splitlines()[1:]
    before = [line.split()[3] for line in swap]
    result = supervisor.run("python", ONE.replace("128", "64"), policy=POLICY, timeout_ms=60_000)
    assert result.stopped is Stopped.MEMORY
    assert [line.split()[3] for line in Path("/proc/swaps").read_text().splitlines()[1:]] == before


def test_the_processor_time_of_the_whole_tree_is_accounted_for(
    supervisor: Supervisor, warm_supervisor: Supervisor
) -> None:
    for each in (supervisor, warm_supervisor):
        busy = each.run("python", BUSY, timeout_ms=60_000)
        idle = each.run("python", "import time; time.sleep(1)", timeout_ms=60_000)
        assert busy.timing.cpu_ms is not None
        assert idle.timing.cpu_ms is not None
        # What each of the three has measured of itself, of which the report cannot tell less.
        measured = [float(line) for line in busy.stdout.splitlines()]
        assert len(measured) == 3
        assert busy.timing.cpu_ms >= int(1000 * sum(measured))
        # And it is the processor's time, not the clock's: one second of the run was spent asleep.
        assert idle.timing.cpu_ms <= idle.duration_ms - 500


def test_the_report_names_the_kernels_limits(supervisor: Supervisor) -> None:
    report = supervisor.run("shell", "true").sandbox
    assert "memory.max of the run's own cgroup" in report.mechanisms["memoryBytes"]
    assert "pids.max of its own cgroup" in report.mechanisms["maxProcesses"]
    assert report.enforced.resources


@pytest.mark.usefixtures("leaves_nothing")
def test_runs_at_the_same_time_have_limits_of_their_own(supervisor: Supervisor) -> None:
    fine, greedy = ONE.replace("128", "24"), ONE
    orders = [supervisor.order("python", script, policy=POLICY) for script in (fine, greedy, fine, fine)]
    results = supervisor.run_all(orders)
    assert [result.stopped for result in results] == [None, Stopped.MEMORY, None, None]


BOMB = """
import os, time
started = 0
try:
    while started < 1000:
        if os.fork() == 0:
            time.sleep(1000)
        started += 1
except OSError:
    pass
print(started)
"""


def test_processes_are_capped_for_the_run_as_a_whole(supervisor: Supervisor) -> None:
    result = supervisor.run("python", BOMB, policy={"resources": {"maxProcesses": 20}})
    assert int(result.stdout) == 19


LIFT = """
import glob, json, os
tried = {}
for group in glob.glob('/sys/fs/cgroup/**/run-*', recursive=True):
    for name, value in (('memory.max', 'max'), ('pids.max', 'max'), ('../supervisor/cgroup.procs', '0')):
        try:
            with open(os.path.join(group, name), 'w') as file:
                file.write(value)
            tried[name] = 'written'
        except OSError as error:
            tried[name] = error.strerror
print(json.dumps(tried))
"""


def test_a_script_that_sees_the_hosts_files_cannot_lift_its_limits(supervisor: Supervisor) -> None:
    policy = {"filesystem": {"mode": "off"}, "privilege": {"mode": "inherit"}}
    tried = json.loads(supervisor.run("python", LIFT, policy=policy).stdout)
    assert tried == dict.fromkeys(
        ("memory.max", "pids.max", "../supervisor/cgroup.procs"), "Read-only file system"
    )
