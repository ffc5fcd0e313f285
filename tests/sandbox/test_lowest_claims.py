"""Runs have the lowest claims on the machine, whatever their supervisor's are, and cannot raise them."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from typing import Any

import pytest
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot
from ringfence.scripts import RunnerSettings, ScriptKind, ScriptRequest, run_under
from ringfence.scripts.running.runner import Runner

from tests.primitives import requires
from tests.sandbox import claiming
from tests.sandbox.processes import descendants, settled
from tests.sandbox.test_plain import run_degraded

CLAIMS = """
import ctypes, os, resource
libc = ctypes.CDLL(None)
IOPRIO_GET = {"x86_64": 252, "aarch64": 31}[os.uname().machine]
def refused(attempt):
    try:
        attempt()
    except (OSError, ValueError):
        return True
def main(_):
    return {
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "scheduler": os.sched_getscheduler(0),
        "io class": libc.syscall(IOPRIO_GET, 1, 0) >> 13,
        "oom": int(open("/proc/self/oom_score_adj").read()),
        "real time": resource.getrlimit(resource.RLIMIT_RTPRIO),
        "better": resource.getrlimit(resource.RLIMIT_NICE),
        "signals": resource.getrlimit(resource.RLIMIT_SIGPENDING)[1] <= 1024,
        "queues": resource.getrlimit(resource.RLIMIT_MSGQUEUE)[1] <= 256 * 1024,
        "locked": resource.getrlimit(resource.RLIMIT_MEMLOCK)[1] <= 64 * 1024,
        "core": resource.getrlimit(resource.RLIMIT_CORE)[1] <= 1,
        "dumped": int(open("/proc/self/coredump_filter").read(), 16),
        "kept": all(map(refused, (
            lambda: os.nice(-1),
            lambda: os.setpriority(os.PRIO_PROCESS, 0, 0),
            lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
            lambda: resource.setrlimit(resource.RLIMIT_NICE, (40, 40)),
            lambda: resource.setrlimit(resource.RLIMIT_SIGPENDING, (10000, 10000)),
        ))),
    }
"""

LOWEST = {
    "nice": 19,
    "scheduler": os.SCHED_BATCH,
    "io class": 3,
    "oom": 1000,
    "real time": [0, 0],
    "better": [0, 0],
    "signals": True,
    "queues": True,
    "locked": True,
    "core": True,
    "dumped": 0,
    "kept": True,
}


def found_under(how: str, run: str) -> Any:
    """What a run finds whose supervisor has such claims."""
    done = subprocess.run(
        [sys.executable, "-m", claiming.__name__, how, run, CLAIMS],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return json.loads(done.stdout)


@requires("user namespaces")
@pytest.mark.in_turn("run")
@pytest.mark.parametrize("run", claiming.RUNS)
@pytest.mark.parametrize(
    "how",
    [
        "ordinary",
        pytest.param("at nice -5", marks=requires("root")),
        pytest.param("in real time", marks=requires("root")),
        pytest.param("in real time for itself", marks=requires("root")),
        "nice",
    ],
)
def test_the_claims_of_a_run_are_the_lowest_whatever_the_supervisors_are(how: str, run: str) -> None:
    assert found_under(how, run) == LOWEST


@requires("root", "user namespaces")
async def test_what_starts_runs_keeps_ordinary_claims_so_that_no_run_can_starve_it() -> None:
    assert (await run_degraded("shell", ":")).exit_code == 0
    assert (
        await run_under(PolicySnapshot(DEFAULT_POLICY), ScriptRequest(ScriptKind.SHELL, ":"))
    ).exit_code == 0
    await settled()
    spawners = [pid for pid in descendants() if b"spawner_main" in _words(pid)]
    assert len(spawners) >= 2
    assert {os.getpriority(os.PRIO_PROCESS, pid) for pid in spawners} == {os.getpriority(os.PRIO_PROCESS, 0)}
    assert os.getsid(0) not in {os.getsid(pid) for pid in spawners}


def _words(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


async def test_a_supervisor_has_as_many_descriptors_as_it_may() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        Runner(RunnerSettings(max_concurrent_runs=1, warm_sandboxes=0))
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
