"""Which processes have one memory together, as the kernel tells."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ringfence.sandbox.limits.counting.families import families

from tests.waiting import wait_until

FIRST_THREAD_ENDS = """
import ctypes, platform, threading, time
threading.Thread(target=time.sleep, args=[1000]).start()
ctypes.CDLL(None).syscall({'x86_64': 60, 'aarch64': 93}[platform.machine()], 0)
"""


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def start(processes: list[subprocess.Popen[str]]) -> int:
    """A process that is about to end its first thread."""
    process = subprocess.Popen(
        [sys.executable, "-ISc", FIRST_THREAD_ENDS], stdout=subprocess.DEVNULL, text=True
    )
    processes.append(process)
    return process.pid


def test_those_whose_first_thread_has_ended_are_no_family(started: list[subprocess.Popen[str]]) -> None:
    """The kernel would say that they have the same memory: none."""
    pids = [start(started) for _ in range(3)]
    wait_until(lambda: all(b"zombie" in Path(f"/proc/{pid}/status").read_bytes() for pid in pids))
    assert families(pids) == []
