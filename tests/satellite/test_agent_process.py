"""`ringfence agent` as a real process against a real instance.

It runs real scripts, in real sandboxes, under the pushed policy.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.primitives import requires
from tests.satellite.instances import SATELLITES, Instance, Registered
from tests.shared_hosts import OWN, SHARED
from tests.waiting import PATIENCE_SECONDS, in_time, until

pytestmark = SHARED


@asynccontextmanager
async def agent(
    instance: Instance,
    satellite: Registered,
    directory: Path,
    *,
    urls: Sequence[str] = (),
    options: Sequence[str] = (),
) -> AsyncIterator[asyncio.subprocess.Process]:
    """An agent's process, stopped with the block if it is still there. It is told of `urls`, or of the instance's."""
    token = directory / f"token-{satellite.id}"
    token.write_text(satellite.token)
    token.chmod(0o600)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ringfence", "agent"),
        *("--client-id", satellite.id, "--token-file", str(token), *options),
        env={
            **os.environ,
            "RINGFENCE_HEARTBEAT_SECONDS": "0.5",
            "RINGFENCE_AGENT_URL": " ".join(urls or (instance.url,)),
        },
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), PATIENCE_SECONDS)


@OWN
@requires("user namespaces")
async def test_a_change_governs_the_next_script_on_the_satellite(instance: Instance, tmp_path: Path) -> None:
    satellite = await instance.register()
    async with agent(instance, satellite, tmp_path):
        shown = await instance.until(satellite, lambda one: one["appliedRevision"] == 0)
        assert shown["enforced"]["network"]
        assert shown["downgrades"] == []
        assert shown["capabilities"]["userNamespaces"]["available"]

        first = (await instance.run(satellite, script="ulimit -t; id -u"))["result"]
        assert first["exitCode"] == 0, first
        assert first["stdout"].splitlines()[0] == "60"
        assert first["sandbox"]["origin"] == {"source": "default", "revision": 0, "reason": None}
        assert first["sandbox"]["enforced"]["network"]

        revision = await instance.set_policy({"resources": {"cpuSeconds": 7}})
        await instance.until(satellite, lambda one: one["appliedRevision"] == revision)
        second = (await instance.run(satellite, script="ulimit -t"))["result"]
        assert second["stdout"] == "7\n"
        assert second["sandbox"]["origin"]["revision"] == revision


@requires("user namespaces")
async def test_python_gives_its_value_back_and_a_timeout_is_told(instance: Instance, tmp_path: Path) -> None:
    satellite = await instance.register()
    async with agent(instance, satellite, tmp_path):
        await instance.until(satellite, lambda one: one["appliedRevision"] == 0)
        answer = (
            await instance.run(satellite, kind="python", script="print(context['a'])", context={"a": 5})
        )["result"]
        assert answer["stdout"] == "5\n", answer
        slow = (await instance.run(satellite, script="sleep 60", timeoutMs=300))["result"]
        assert slow["timedOut"]


async def test_an_agent_serves_its_metrics_where_it_is_told_to(instance: Instance, tmp_path: Path) -> None:
    satellite = await instance.register()
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    async with agent(instance, satellite, tmp_path, options=("--metrics-address", f"127.0.0.1:{port}")):
        await instance.until(satellite, lambda one: one["appliedRevision"] == 0)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as anybody:
            told = (await anybody.get("/metrics")).text.splitlines()
    assert "ringfence_agent_connected 1.0" in told
    assert "ringfence_agent_policy_revision 0.0" in told
    assert 'ringfence_agent_spool_results{spool="checks"} 0.0' in told
    assert "ringfence_runs_running 0.0" in told


@requires("user namespaces")
async def test_a_stopped_agent_says_goodbye_exits_cleanly_and_leaves_no_script_behind(
    instance: Instance, tmp_path: Path
) -> None:
    satellite = await instance.register()
    mark = f"3{os.getpid()}.5"
    async with agent(instance, satellite, tmp_path) as process:
        await instance.until(satellite, lambda one: one["appliedRevision"] == 0)
        running = asyncio.create_task(instance.run(satellite, script=f"sleep {mark}", timeoutMs=60_000))
        await until_running(mark, wanted=True)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), PATIENCE_SECONDS) == 0
        told = await running
        assert (told["outcome"], told["reason"]) == ("lost", "the satellite's agent was stopped")
        await until_running(mark, wanted=False)
        await instance.until(satellite, lambda one: one["status"] == "offline")


@pytest.mark.slow
async def test_an_agent_whose_token_was_rotated_comes_back_with_the_new_one(
    instance: Instance, tmp_path: Path
) -> None:
    satellite = await instance.register()
    async with agent(instance, satellite, tmp_path):
        await instance.until(satellite, lambda one: one["status"] == "online")
        rotated = (await instance.api.post(f"{SATELLITES}/{satellite.id}/rotate-token")).json()["token"]
        await instance.until(satellite, lambda one: one["status"] == "offline")
        await asyncio.to_thread((tmp_path / f"token-{satellite.id}").write_text, rotated)
        await until_online_again(instance, satellite)


async def test_an_agent_without_a_token_says_what_is_missing(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ringfence", "agent", "--url", "http://127.0.0.1:1"),
        *("--client-id", "a", "--token-file", str(tmp_path / "none")),
        stderr=asyncio.subprocess.PIPE,
    )
    _, stderr = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    assert process.returncode == 2
    assert b"token file" in stderr
    assert b"Traceback" not in stderr


async def until_running(mark: str, *, wanted: bool) -> None:
    """Return once a process with `mark` in its command line is there, or is not."""
    await until(lambda: bool(_running(mark)) is wanted)


async def end_sleep(mark: str) -> None:
    """Have the script that sleeps for `mark` go on."""
    for sleeping in await until(lambda: _running(mark)):
        os.kill(sleeping, signal.SIGTERM)


def _running(mark: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if arguments[:1] == [b"sleep"] and mark.encode() in arguments:
                found.append(int(entry.name))
    return found


async def until_online_again(instance: Instance, satellite: Registered) -> None:
    """The agent's pause after a refusal is up to fifteen seconds."""
    async with in_time("it is online again"):
        while (await instance.show(satellite))["status"] != "online":
            await asyncio.sleep(0.05)
