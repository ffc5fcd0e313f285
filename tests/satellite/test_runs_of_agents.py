"""Runs of real agents, with real scripts, while processes are killed and connections are cut."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from ringfence_satellite.server.runs import states

from tests.primitives import requires
from tests.satellite.conftest import StartInstance
from tests.satellite.fleet import gateway
from tests.satellite.instances import RUNS, Instance, Registered
from tests.satellite.test_agent_process import agent, end_sleep, until_running
from tests.satellite.test_fleet_state import events_of, killable
from tests.shared_hosts import OWN, SHARED
from tests.waiting import PATIENCE_SECONDS, until, until_it

pytestmark = [SHARED, requires("user namespaces")]


def port_of(instance: Instance) -> int:
    return int(instance.url.rpartition(":")[2])


async def asked(instance: Instance, satellite: Registered, script: str, **fields: Any) -> dict[str, Any]:
    answer = await instance.ask(satellite, script=script, timeoutMs=60_000, **fields)
    assert answer.status_code == 201, answer.text
    run: dict[str, Any] = answer.json()
    return run


async def running(instance: Instance, run: dict[str, Any], mark: str) -> None:
    await instance.run_until(run, lambda shown: shown["state"] == "running")
    await until_running(mark, wanted=True)


@asynccontextmanager
async def command(instance: Instance, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`ringfence run --satellite edge-1 …` as a process."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ringfence", "run", "--satellite", "edge-1", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            "RINGFENCE_URL": instance.url,
            "RINGFENCE_TOKEN": instance.api.headers["authorization"].removeprefix("Bearer "),
        },
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def the_run(instance: Instance) -> dict[str, Any]:
    """The one run that was asked for."""

    async def found() -> dict[str, Any] | None:
        runs: list[dict[str, Any]] = (await instance.api.get(RUNS)).json()["runs"]
        return runs[0] if runs else None

    run = await until_it(found, "a run is asked for")
    assert run is not None
    return run


async def test_a_cancelled_run_is_ended_where_it_runs_with_all_its_processes(
    instance: Instance, tmp_path: Path
) -> None:
    satellite, mark = await instance.register(), f"41{os.getpid()}.5"
    async with agent(instance, satellite, tmp_path):
        run = await asked(instance, satellite, f"setsid sleep {mark} & sleep {mark}; echo never")
        await running(instance, run, mark)
        answer = await instance.api.delete(f"{RUNS}/{run['id']}", params={"wait": 60}, timeout=90)
        assert (answer.status_code, answer.json()["outcome"]) == (200, "cancelled")
        await until_running(mark, wanted=False)
        # And the satellite goes on.
        assert (await instance.run(satellite))["outcome"] == "finished"


@OWN
@pytest.mark.slow
async def test_a_run_goes_on_while_its_satellite_moves_and_is_run_once(
    start_instance: StartInstance, tmp_path: Path
) -> None:
    one, two = await start_instance(), await start_instance()
    satellite, mark = await one.register(), f"42{os.getpid()}.5"
    async with gateway([port_of(one)]) as front:
        url = f"http://127.0.0.1:{front.port}"
        async with agent(one, satellite, tmp_path, urls=(url,)):
            await one.until(satellite, lambda shown: shown["appliedRevision"] == 0)
            run = await asked(two, satellite, f"echo begun; sleep {mark}; echo done")
            await running(one, run, mark)
            front.backends[:] = [port_of(two)]
            front.cut(1.0)
            await one.until(satellite, lambda shown: shown["instance"] == str(two.host.instance_id))
            await end_sleep(mark)
            ended = await one.ended(run)
            assert (ended["outcome"], ended["result"]["stdout"]) == ("finished", "begun\ndone\n")
            await until(lambda: not list(tmp_path.glob("runs-*/*.json")), "the result is acknowledged")
    assert (await events_of(one, satellite)).count("satellite-run-finished") == 1


@pytest.mark.slow
async def test_a_result_that_comes_while_there_is_no_connection_waits_for_the_next_one(
    instance: Instance, tmp_path: Path
) -> None:
    satellite, mark = await instance.register(), f"43{os.getpid()}.5"
    async with gateway([port_of(instance)]) as front:
        url = f"http://127.0.0.1:{front.port}"
        async with agent(instance, satellite, tmp_path, urls=(url,)):
            run = await asked(instance, satellite, f"sleep {mark}; echo kept")
            await running(instance, run, mark)
            front.backends.clear()
            front.cut(1.0)
            await instance.until(satellite, lambda shown: shown["instance"] is None)
            await end_sleep(mark)
            await until(lambda: list(tmp_path.glob("runs-*/*.json")), "the result is kept")
            front.backends.append(port_of(instance))
            assert (await instance.ended(run))["result"]["stdout"] == "kept\n"


@pytest.mark.slow
async def test_a_run_of_an_agent_that_was_killed_is_lost_and_not_run_again(
    instance: Instance, tmp_path: Path
) -> None:
    satellite, mark = await instance.register(), f"44{os.getpid()}.5"
    async with agent(instance, satellite, tmp_path) as process:
        run = await asked(instance, satellite, f"sleep {mark}")
        await running(instance, run, mark)
        process.kill()
        await process.wait()
        await until_running(mark, wanted=False)
    assert (await instance.api.get(f"{RUNS}/{run['id']}")).json()["state"] == "running"
    async with agent(instance, satellite, tmp_path):
        ended = await instance.ended(run)
        assert (ended["outcome"], ended["reason"]) == ("lost", states.STARTED_ANEW)
        assert (await instance.run(satellite))["outcome"] == "finished"
        await until_running(mark, wanted=False)
    assert (await events_of(instance, satellite)).count("satellite-run-finished") == 2


@OWN
@pytest.mark.slow
async def test_a_run_goes_on_when_the_instance_is_killed_that_holds_its_satellite(
    start_instance: StartInstance, tmp_path: Path
) -> None:
    one = await start_instance()
    satellite, mark = await one.register(), f"45{os.getpid()}.5"
    async with killable(one, tmp_path) as (process, other), gateway([port_of(other)]) as front:
        url = f"http://127.0.0.1:{front.port}"
        async with agent(one, satellite, tmp_path, urls=(url,)):
            await one.until(satellite, lambda shown: shown["status"] == "online")
            run = await asked(one, satellite, f"sleep {mark}; echo done")
            await running(one, run, mark)
            front.backends[:] = [port_of(one)]
            process.kill()
            await process.wait()
            await end_sleep(mark)
            assert (await one.ended(run))["result"]["stdout"] == "done\n"


@pytest.mark.slow
async def test_a_run_goes_on_when_the_command_is_killed_that_asked_for_it(
    instance: Instance, tmp_path: Path
) -> None:
    satellite, mark = await instance.register(), f"46{os.getpid()}.5"
    async with agent(instance, satellite, tmp_path):
        async with command(instance, "-c", f"sleep {mark}; echo done") as process:
            run = await the_run(instance)
            await until_running(mark, wanted=True)
            process.kill()
            await process.wait()
        await end_sleep(mark)
        assert (await instance.ended(run))["result"]["stdout"] == "done\n"


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
async def test_a_command_that_is_interrupted_ends_the_run_where_it_runs_and_says_so(
    instance: Instance, tmp_path: Path, number: signal.Signals
) -> None:
    satellite, mark = await instance.register(), f"47{os.getpid()}.5"
    async with agent(instance, satellite, tmp_path), command(instance, "-c", f"sleep {mark}") as process:
        run = await the_run(instance)
        await running(instance, run, mark)
        process.send_signal(number)
        _, told = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
        assert process.returncode == 130
        assert b"the run was cancelled on edge-1" in told
        await until_running(mark, wanted=False)
        assert (await instance.ended(run))["outcome"] == "cancelled"


async def test_a_command_waits_for_its_run_and_shows_the_result(instance: Instance, tmp_path: Path) -> None:
    satellite = await instance.register()
    async with (
        agent(instance, satellite, tmp_path),
        command(instance, "--json", "-c", "echo out; echo err >&2; exit 7") as process,
    ):
        out, _ = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
        result = json.loads(out)
    assert (process.returncode, result["stdout"], result["stderr"]) == (7, "out\n", "err\n")
