"""What a host needs for satellites, results and runs: processor time, memory and disk: `python -m benchmarks.sizing`.

A real host on a real PostgreSQL with its usual durability, and satellites in a process of their own, each of which
reports one result after another and waits until the host has it. Told is processor time, which a busy machine changes
little, beside results in a second, which it does. The disk is what the tables of results and their indexes have grown
by, and the run is the shipped default policy around a shell script that does nothing, in a sandbox that was waiting.

Usage: python -m benchmarks.sizing [--satellites N] [--results N] [--runs N] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import gc
import json
import logging
import os
import resource
import shutil
import sys
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg
import structlog
from ringfence.host import Host
from ringfence.scripts import ScriptKind, ScriptRequest
from ringfence.scripts import run as run_script
from ringfence.settings import HostSettings
from ringfence.testing import make_reachable_directory
from ringfence.web.server import listen, serving, url_of
from ringfence_health_checks.plugin import HealthChecksPlugin
from ringfence_satellite.plugin import SatellitePlugin
from ringfence_satellite.protocol import Authenticate, CheckResult
from ringfence_script_packages.plugin import ScriptPackagesPlugin
from ringfence_secrets.plugin import SecretsPlugin
from websockets.asyncio.client import ClientConnection, connect

from benchmarks._relay_servers import resident_bytes
from benchmarks.assignments import fill
from benchmarks.relay import WEBSOCKET, database, register

CHECKS = 10
OUTPUT = "disk /dev/sda1: 41% used, 120 GiB free; the fullest directory is /var/lib with 14 GiB"
_TABLES = """
    SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'health_checks_%'
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured. Processor time in milliseconds."""

    satellites: int
    kilobytes_each: float
    results: int
    results_a_second: float
    host_ms_each_result: float
    database_ms_each_result: float
    bytes_each_result: float
    runs: int
    ms_each_run: float


def result_of(check: str, number: int) -> tuple[str, str]:
    """A result as an agent reports it: its id, and the frame."""
    id = str(uuid.uuid4())
    frame = CheckResult(
        config_id=check,
        system_id="system-1",
        status="healthy",
        latency_ms=12.5,
        result={"format": "exit", "exitCode": 0, "stdout": f"{OUTPUT} {number}", "message": OUTPUT},
        executed_at=dt.datetime.now(dt.UTC).isoformat(),
        result_id=id,
    )
    return id, frame.encode()


async def satellite(url: str, id: str, token: str, checks: list[str], results: int) -> int:
    """Report results, each once the one before is acknowledged; answers how many were taken."""
    taken = 0
    async with connect(url, compression=None, max_size=None) as socket:
        await socket.send(Authenticate(client_id=id, token=token).encode())
        await socket.recv()  # it is let in
        print("connected", flush=True)
        await begins.wait()
        for number in range(results):
            waiting, frame = result_of(checks[number % len(checks)], number)
            await socket.send(frame)
            taken += await acknowledged(socket, waiting)
    return taken


async def acknowledged(socket: ClientConnection, result: str) -> bool:
    """Whether the host has taken the result."""
    async for message in socket:
        frame = json.loads(message)
        if frame["type"] == "result_ack" and frame["resultId"] == result:
            return bool(frame["accepted"])
    raise RuntimeError("the host has ended the connection")


begins = asyncio.Event()


async def be_satellites(url: str, credentials: Path, checks: list[str], results: int) -> None:
    """The process of the satellites: they connect, begin when a line comes, and say how many results were taken."""
    async with asyncio.TaskGroup() as group:
        told = [
            group.create_task(satellite(url, id, token, checks, results))
            for id, token in json.loads(credentials.read_text())
        ]
        await asyncio.to_thread(sys.stdin.readline)
        begins.set()
    print(json.dumps(sum(one.result() for one in told)), flush=True)


def cpu_of(pids: list[int]) -> float:
    """The processor time of processes and of those that they have waited for, in seconds (proc(5), stat)."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(map(int, fields[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


def database_processes(url: str) -> list[int]:
    """The processes of the server: its first one, and its children."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        first = parent_of(connection.info.backend_pid)
    others = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [first, *(pid for pid in others if parent_of(pid) == first)]


def parent_of(pid: int) -> int:
    """The parent of a process; 0 if it has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


async def measure(
    host: Host, url: str, wanted: argparse.Namespace, credentials: Path, checks: list[str]
) -> Figures:
    """Connect the satellites, have them report, and run scripts."""
    idle = resident_bytes()
    socket = url.replace("http", "ws", 1) + WEBSOCKET
    peers = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.sizing", "--be-satellites", socket, str(credentials)),
        *("--checks", ",".join(checks), "--results", str(wanted.results // wanted.satellites)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert peers.stdin is not None
    assert peers.stdout is not None
    for _ in range(wanted.satellites):
        assert await peers.stdout.readline() == b"connected\n"
    await asyncio.sleep(3)  # so that what connecting leaves to be done is not counted with the results
    each = (resident_bytes() - idle) / wanted.satellites
    size = await size_of(host)
    server = database_processes(host.database.url)
    began, host_began, server_began = time.perf_counter(), time.process_time(), cpu_of(server)
    peers.stdin.write(b"\n")
    taken = int(await peers.stdout.readline())
    seconds = time.perf_counter() - began
    host_cpu, server_cpu = time.process_time() - host_began, cpu_of(server) - server_began
    await peers.wait()
    assert taken > 0
    grown = await size_of(host) - size
    return Figures(
        wanted.satellites,
        round(each / 1000, 1),
        taken,
        round(taken / seconds, 1),
        round(host_cpu * 1000 / taken, 2),
        round(server_cpu * 1000 / taken, 2),
        round(grown / taken, 0),
        wanted.runs,
        round(await cpu_of_runs(wanted.runs) * 1000 / wanted.runs, 1),
    )


async def size_of(host: Host) -> int:
    """How large the tables of checks and results are."""
    async with host.database.autocommit() as driver:
        found = await (await driver.execute(_TABLES)).fetchone()
    assert found is not None
    return int(found[0])


async def cpu_of_runs(runs: int) -> float:
    """The processor time of the runner, and of the processes that it has waited for, in seconds."""

    def used() -> float:
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in usages)

    request = ScriptRequest(ScriptKind.SHELL, ":", timeout_ms=60_000)
    await run_script(request)
    began = used()
    for _ in range(runs):
        result = await run_script(request)
        assert result.exit_code == 0, result
    return used() - began


async def run(wanted: argparse.Namespace) -> Figures:
    directory = make_reachable_directory()
    file = directory / "credentials.json"

    def host() -> Host:
        plugins: list[Any] = [
            ScriptPackagesPlugin(),
            SatellitePlugin(),
            SecretsPlugin(),
            HealthChecksPlugin(),
        ]
        return Host(settings, plugins=plugins)

    try:
        async with database() as postgres:
            settings = HostSettings(database_url=postgres.url, data_dir=Path(directory / "instance"))
            async with host():
                pass  # so that the tables are there
            await register(postgres.url, wanted.satellites, file)
            await fill(postgres.url, CHECKS, 200)
            with psycopg.connect(postgres.url.replace("+psycopg", "")) as connection:
                checks = [str(id) for (id,) in connection.execute("SELECT id FROM health_checks_checks")]
            with listen("127.0.0.1", 0) as listener:
                async with host() as instance, serving(instance.app, listener):
                    gc.collect()
                    gc.freeze()  # as `ringfence up` does once it serves
                    return await measure(instance, url_of(listener), wanted, file, checks)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sizing", description="Measure what a host needs."
    )
    parser.add_argument("--satellites", type=int, default=50)
    parser.add_argument(
        "--results", type=int, default=5000, help="how many are reported, by all of them together"
    )
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--be-satellites", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--checks", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    logging.disable(logging.WARNING)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    if wanted.be_satellites:
        url, credentials = wanted.be_satellites
        asyncio.run(be_satellites(url, Path(credentials), wanted.checks.split(","), wanted.results))
        return
    figures = asyncio.run(run(wanted))
    if wanted.json:
        print(json.dumps(asdict(figures)))
        return
    for name, value in asdict(figures).items():
        print(f"{name.replace('_', ' '):<26}{value:>12,}")


if __name__ == "__main__":
    main()
