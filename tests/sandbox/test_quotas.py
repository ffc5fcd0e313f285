"""What the kernel counts per user is each run's own: one that takes all of it is noticed by no other."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, overlay
from ringfence.scripts import RunResult, ScriptKind, ScriptRequest, run_under

from tests.primitives import requires
from tests.waiting import until

pytestmark = requires("root", "user namespaces")

NAME = f"hoard{os.getpid() % 10**7}"
"""What a run calls itself when it has taken everything: the host can see that."""

HOARD = (
    f"""
NAME = {NAME!r}
"""
    + """
import ctypes, os, select, signal, socket, time
libc = ctypes.CDLL(None, use_errno=True)
kept = []
def all_of(take, most=10**6):
    try:
        for _ in range(most):
            kept.append(take())
    except OSError as error:
        return error.errno
def under_way():
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for _ in range(4):
        socket.send_fds(near, [b"x"], [0] * 250)
    return near, far
def timer():
    number = ctypes.c_int()
    if libc.timer_create(1, None, ctypes.byref(number)) != 0:
        raise OSError(ctypes.get_errno(), "timer_create")
def queued():
    if libc.sigqueue(os.getpid(), 40, ctypes.c_void_p(None)) != 0:
        raise OSError(ctypes.get_errno(), "sigqueue")
def pipe():
    ends = os.pipe()
    return ends
def watches():
    reading, _ = os.pipe()
    copies = [os.dup(reading) for _ in range(100)]
    polls = []
    for _ in range(200):
        polls.append(select.epoll())
        for copy in copies:
            polls[-1].register(copy, 0)
    return polls
def process():
    child = os.fork()
    if child == 0:
        os.closerange(3, 1024)
        all_of(pipe)
        time.sleep(1000)
    return child
def main(_):
    signal.pthread_sigmask(signal.SIG_BLOCK, [40])
    taken = [all_of(under_way, 50), all_of(timer), all_of(queued), all_of(watches, 1)]
    all_of(process)
    libc.prctl(15, NAME.encode(), 0, 0, 0)
    time.sleep(1000)
"""
)

ORDINARY = """
import asyncio, ctypes, fcntl, os, select, signal, socket, subprocess, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def descriptors():
    near, far = socket.socketpair(socket.AF_UNIX)
    socket.send_fds(near, [b"x"], [0] * 10)
def timers():
    for _ in range(50):
        number = ctypes.c_int()
        if libc.timer_create(1, None, ctypes.byref(number)) != 0:
            raise OSError(ctypes.get_errno(), "timer_create")
def signals():
    signal.pthread_sigmask(signal.SIG_BLOCK, [40])
    for _ in range(50):
        if libc.sigqueue(os.getpid(), 40, ctypes.c_void_p(None)) != 0:
            raise OSError(ctypes.get_errno(), "sigqueue")
def pipes():
    for _ in range(20):
        reading, writing = os.pipe()
        if fcntl.fcntl(reading, 1032) != 65536:
            raise OSError(0, "a small pipe")
def loops():
    async def work():
        process = await asyncio.create_subprocess_exec("true")
        await process.wait()
    asyncio.run(work())
def processes():
    for _ in range(10):
        subprocess.run(["true"], check=True)
    threads = [threading.Thread(target=time.sleep, args=(0.01,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
def main(_):
    failed = {}
    for work in (descriptors, timers, signals, pipes, loops, processes):
        try:
            work()
        except (OSError, RuntimeError) as error:
            failed[work.__name__] = str(error)
    return failed
"""

ROOM = {"resources": {"memoryBytes": 2 * 1024**3, "maxOpenFiles": 1024}}


async def run(script: str, policy: dict[str, Any], **how: Any) -> RunResult:
    """Run a script under the shipped default, with room, and with that policy over it."""
    snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, {**ROOM, **policy}))
    return await run_under(snapshot, ScriptRequest(ScriptKind.PYTHON, script, **how))


def has_hoarded() -> bool:
    """Whether the run that takes everything has done so."""
    for process in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if process.read_bytes() == f"{NAME}\n".encode():
                return True
    return False


@contextlib.asynccontextmanager
async def hoarding(policy: dict[str, Any]) -> Any:
    """While a run holds all that it could take."""
    hoarder = asyncio.create_task(run(HOARD, policy, timeout_ms=300_000))
    try:
        await until(lambda: hoarder.done() or has_hoarded(), "a run to take what it can")
        assert not hoarder.done(), hoarder.result()
        yield
        assert not hoarder.done(), hoarder.result()
    finally:
        hoarder.cancel()
        await asyncio.gather(hoarder, return_exceptions=True)


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param({}, id="shipped"),
        pytest.param({"onUnavailable": "degrade"}, id="degrade", marks=pytest.mark.slow),
    ],
)
async def test_a_run_that_takes_all_that_is_counted_per_user_is_noticed_by_no_other(
    policy: dict[str, Any],
) -> None:
    async with hoarding(policy):
        results = await asyncio.gather(*(run(ORDINARY, policy) for _ in range(3)))
        shell = await run_under(
            PolicySnapshot(overlay(DEFAULT_POLICY, policy)), ScriptRequest(ScriptKind.SHELL, "echo ran")
        )

    assert [(result.value, result.stderr) for result in results] == [({}, "")] * 3
    assert [result.sandbox.downgrades for result in results] == [()] * 3
    assert shell.stdout == "ran\n"


async def test_runs_that_share_a_uid_notice_it_which_is_what_the_report_says() -> None:
    shared = {"privilege": {"uid": 61_183}}
    async with hoarding(shared):
        result = await run(ORDINARY, shared)

    assert isinstance(result.value, dict), result.stderr
    assert {"signals", "timers", "pipes"} <= set(result.value)
    assert any("runs share uid 61183" in note.note for note in result.sandbox.notes)
