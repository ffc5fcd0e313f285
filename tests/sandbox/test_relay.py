"""The life of a relay: whose it is, what it may have, and that it never outlives its run nor takes the run along."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
from pathlib import Path
from typing import Any

import pytest
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, overlay
from ringfence.sandbox.capabilities.probe import probe
from ringfence.sandbox.egress import LinkFailed, Relay, attach_relay
from ringfence.sandbox.egress.relaying.orders import Orders
from ringfence.sandbox.identities.identity import Identity
from ringfence.scripts import RunnerSettings, RunResult, ScriptKind, ScriptRequest, run_under
from ringfence.scripts.running.runner import Runner, runner

from tests.primitives import requires
from tests.sandbox.processes import descendants, descriptors, marked_processes
from tests.waiting import until

pytestmark = requires("user namespaces")

LISTED = {"network": {"allow": ["203.0.113.1:80"]}}


async def run(script: str, policy: dict[str, Any] = LISTED, **request: Any) -> RunResult:
    snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, policy))
    return await run_under(snapshot, ScriptRequest(ScriptKind.SHELL, script, **request))


def relays() -> set[int]:
    """The pids of relays: forks of a process that was started through the relay's script."""
    forks = [pid for pid in descendants() if b"relay_main.py" in _read(pid, "cmdline")]
    return {pid for pid in forks if _parent(pid) in forks}


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _parent(pid: int) -> int:
    status = _read(pid, "stat")
    return int(status.rpartition(b")")[2].split()[1]) if status else 0


async def test_a_relay_has_the_runs_own_uid_and_limits() -> None:
    running = asyncio.create_task(run("exec sleep 61"))
    await until(lambda: relays() and marked_processes("sleep\0" + "61"))
    try:
        (script,) = marked_processes("sleep\0" + "61")
        # Others wait for the next runs, with uids of theirs.
        owners = {os.stat(f"/proc/{pid}").st_uid: pid for pid in relays()}
        assert os.stat(f"/proc/{script}").st_uid in owners
        relay = owners[os.stat(f"/proc/{script}").st_uid]
        rows = {
            line[:25].strip(): line[26:].split()[:2] for line in _read(relay, "limits").decode().splitlines()
        }
        assert rows["Max data size"] == [str(512 * 1024**2)] * 2
        assert rows["Max open files"] == ["8192", "8192"]
        status = dict(
            line.split(":\t", 1) for line in _read(relay, "status").decode().splitlines() if ":\t" in line
        )
        assert int(status["CapEff"], 16) == 0 or os.geteuid() != 0
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_relay_that_dies_under_a_script_is_reported_and_nothing_is_let_through() -> None:
    script = "while [ -e /tmp/scratch/never ]; do :; done; read line; bash -c 'echo >/dev/tcp/203.0.113.1/80'; exit 0"
    running = asyncio.create_task(run(f"echo begun; sleep 62; {script}", timeout_ms=60_000))
    await until(lambda: marked_processes("sleep\0" + "62") or running.done())
    (sleeping,) = marked_processes("sleep\0" + "62")

    for pid in relays():
        os.kill(pid, signal.SIGKILL)
    os.kill(sleeping, signal.SIGKILL)

    result = await running
    assert result.egress is None
    assert "refused" in result.stderr
    assert any("the link went away while the script ran" in note.note for note in result.sandbox.notes)


async def test_a_sandbox_whose_relay_has_died_while_it_waited_is_not_used() -> None:
    own = Runner(RunnerSettings(max_concurrent_runs=1, warm_sandboxes=1))
    snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, LISTED))
    request = ScriptRequest(ScriptKind.SHELL, "bash -c 'echo >/dev/tcp/198.51.100.1/9'")
    for _ in range(3):
        await own.run(snapshot, request)
    await until(lambda: len(own.pool) > 0 and relays(), "a sandbox to wait")

    def all_killed() -> bool:
        found = relays()
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                ended = os.pidfd_open(pid)
                signal.pidfd_send_signal(ended, signal.SIGKILL)
                # Before it has ended, it has no command line any more, but its descriptors (pidfd_open(2)).
                select.select([ended], [], [])
                os.close(ended)
        return not found

    # What was being made in that moment has its relay a moment later.
    await until(all_killed, "no relay to be left")

    # A pool that was being filled then has another one that waits, with a relay that lives.
    result = await own.run(snapshot, request)
    for left in own.pool.clear():
        await asyncio.wrap_future(left)

    assert result.egress is not None
    assert [each.address for each in result.egress.refused] == ["198.51.100.1"]


async def test_a_run_and_its_relay_end_together() -> None:
    for left in runner().pool.clear():
        await asyncio.wrap_future(left)
    await run("sleep 60", timeout_ms=100)

    for left in runner().pool.clear():
        await asyncio.wrap_future(left)
    await until(lambda: not relays(), "no relay to be left")


async def test_a_cancelled_run_takes_its_relay_along() -> None:
    task = asyncio.create_task(run("sleep 60"))
    await until(relays)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    for left in runner().pool.clear():
        await asyncio.wrap_future(left)
    await until(lambda: not relays(), "no relay to be left")


async def test_runs_with_relays_leave_no_descriptor_open_in_the_supervisor() -> None:
    await run(":")
    before = await descriptors()

    for _ in range(3):
        await run(":")

    for left in runner().pool.clear():
        await asyncio.wrap_future(left)
    assert await descriptors() <= before


async def test_many_runs_at_once_each_have_their_own() -> None:
    results = await asyncio.gather(*(run(f"bash -c 'echo >/dev/tcp/198.51.100.{n}/9'") for n in range(1, 7)))

    for n, result in enumerate(results, 1):
        assert result.egress is not None
        assert [each.address for each in result.egress.refused] == [f"198.51.100.{n}"]


async def test_a_relay_never_serves_the_supervisors_own_network() -> None:
    owner = Identity(65532, 65532) if os.geteuid() == 0 else Identity(os.geteuid(), os.getegid())

    # Who may look into it at all is told that it is the own one; a uid of runs may not even do that.
    with pytest.raises(LinkFailed, match=r"not in a network namespace of its own|Permission denied"):
        await asyncio.to_thread(attach_relay, Relay(Orders()), os.getpid(), owner)


def test_this_machine_has_a_relay() -> None:
    assert probe().relay.available
