"""Too much memory, in one process or split over many, seen and unseen."""

from __future__ import annotations

import pytest
from ringfence.scripts import Stopped

from tests.escapes.conftest import Supervisor

MiB = 1024 * 1024
LIMIT = 64 * MiB
POLICY = {"resources": {"memoryBytes": LIMIT}}


def test_one_process_cannot_have_more(supervisor: Supervisor) -> None:
    result = supervisor.run("python", "x = bytearray(200 * 2**20); print('had it')", policy=POLICY)
    assert "had it" not in result.stdout
    assert "MemoryError" in result.stderr or result.stopped is Stopped.MEMORY


SPLIT = """
import os, time
for _ in range(12):
    if os.fork() == 0:
        block = bytearray(20 * 2**20)
        time.sleep(1000)
time.sleep(1000)
"""
SHARED_ANONYMOUS = """
import mmap, time
block = mmap.mmap(-1, 200 * 2**20)
for offset in range(0, len(block), 4096):
    block[offset] = 1
time.sleep(1000)
"""


@pytest.mark.parametrize("script", [SPLIT, SHARED_ANONYMOUS], ids=["over processes", "shared and anonymous"])
def test_the_whole_run_is_stopped(supervisor: Supervisor, script: str) -> None:
    result = supervisor.run("python", script, policy=POLICY, timeout_ms=15_000)
    assert result.stopped is Stopped.MEMORY
    assert result.exit_code == -9


def test_memory_that_is_shared_by_forking_counts_once(supervisor: Supervisor) -> None:
    script = """
import os, time
block = bytearray(30 * 2**20)
for _ in range(10):
    if os.fork() == 0:
        time.sleep(0.8)
        os._exit(0)
for _ in range(10):
    os.wait()
print('all fine')
"""
    assert supervisor.run("python", script, policy=POLICY).stdout == "all fine\n"


def test_shared_memory_is_bounded_with_scratch(supervisor: Supervisor) -> None:
    script = """
try:
    with open('/dev/shm/block', 'wb') as file:
        for _ in range(64):
            file.write(bytes(2**20))
    print('had it')
except OSError as error:
    print(error.strerror)
"""
    policy = {"resources": {"maxScratchBytes": 8 * MiB}}
    assert supervisor.run("python", script, policy=policy).stdout == "No space left on device\n"


def test_memory_without_a_process_cannot_be_made(supervisor: Supervisor) -> None:
    script = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
try:
    os.memfd_create('x')
    print('memfd')
except OSError:
    pass
if libc.shmget(0, 1 << 20, 0o1600) >= 0:
    print('segment')
"""
    assert supervisor.run("python", script).stdout == ""
