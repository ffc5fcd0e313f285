"""How fast a policy change reaches every satellite of one instance, and what a satellite costs.

Run it with `python -m benchmarks.relay`.

Measured on a real host, a real PostgreSQL and real sockets, the peers in processes of their own:

* the time from the commit of a change until the last peer has read it, through the event log and the relay;
* the same through a plain FastAPI loop that keeps its sockets in a list and sends to each in turn, in the
same run; * the memory of the serving process per connection; * the time for all peers to reconnect and
authenticate after the instance has restarted.

It prints a table, or JSON with `--json`. On machines with few cores the peers compete with the instance for
them, so the figures are upper bounds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import shutil
import socket
import statistics
import sys
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg
from ringfence.storage.embedded import EmbeddedPostgres
from ringfence.storage.migrating import HOST_MIGRATIONS, MigrationBranch, migrate
from ringfence.testing import make_reachable_directory
from ringfence_satellite.server.tokens import digest, new_token

WEBSOCKET = "/api/ws/satellite"
CHANGES = 10
BRANCHES = [
    MigrationBranch("host", HOST_MIGRATIONS),
    MigrationBranch("satellite", "ringfence_migrations.satellite"),
]


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of one server with so many satellites. Times in milliseconds, or as the name says."""

    server: str
    satellites: int
    all_told_ms_median: float
    all_told_ms_best: float
    half_told_ms_median: float
    kilobytes_each: float
    all_connected_s: float
    all_reconnected_s: float | None


class Process:
    """A process that answers lines of JSON with lines of JSON."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout
        self.pid = process.pid

    async def hear(self) -> dict[str, Any]:
        line = await self._stdout.readline()
        if not line:
            raise RuntimeError("a process of the benchmark ended; its error is above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def ask(self, **asked: object) -> dict[str, Any]:
        self._stdin.write(json.dumps(asked).encode() + b"\n")
        return await self.hear()

    async def stop(self) -> None:
        self._stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(20):
                await self._process.wait()
        await self.kill()

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


async def start(module: str, *arguments: str) -> Process:
    pipe = asyncio.subprocess.PIPE
    program = ("-m", f"benchmarks.{module}", *arguments)
    return Process(await asyncio.create_subprocess_exec(sys.executable, *program, stdin=pipe, stdout=pipe))


async def measure(
    server_arguments: Sequence[str], credentials: Path, satellites: int, *, restart: bool
) -> Figures:
    """Connect all, change the policy `CHANGES` times, and maybe kill the server and let all come back."""
    port = free_port()
    arguments = [server_arguments[0], str(port), *server_arguments[1:]]
    server = await start("_relay_servers", *arguments)
    ready = await server.hear()
    peers = await start("_relay_peers", str(port), WEBSOCKET, str(credentials))
    try:
        began = time.time()
        connected = (await peers.ask(connect=True))["last"] - began
        await asyncio.sleep(
            2.0
        )  # so that what connecting leaves to be written is not measured with the changes
        each = ((await server.ask())["resident"] - ready["resident"]) / satellites
        last, half = [], []
        for number in range(1, CHANGES + 1):
            changed = await server.ask(change=number)
            told = await peers.ask(**{"await": changed["revision"]})
            last.append((told["last"] - changed["committed"]) * 1000)
            half.append((told["median"] - changed["committed"]) * 1000)
        reconnected = None
        if restart:
            await server.kill()
            server = await start("_relay_servers", *arguments)
            ready = await server.hear()
            reconnected = (await peers.ask(connect=True))["last"] - ready["ready"]
    finally:
        await peers.kill()
        await server.stop()
    return Figures(
        server_arguments[0],
        satellites,
        round(statistics.median(last), 1),
        round(min(last), 1),
        round(statistics.median(half), 1),
        round(each / 1000, 1),
        round(connected, 2),
        None if reconnected is None else round(reconnected, 2),
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def database() -> AsyncIterator[EmbeddedPostgres]:
    """A PostgreSQL with its usual durability, for the length of the benchmark."""
    directory = make_reachable_directory()
    server = EmbeddedPostgres(directory / "postgres", options={"track_commit_timestamp": "on"})
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
        shutil.rmtree(directory, ignore_errors=True)


async def register(url: str, count: int, file: Path) -> None:
    """Put satellites into the database, and their credentials into a file."""
    credentials = [(str(uuid.uuid4()), new_token()) for _ in range(count)]
    file.write_text(json.dumps(credentials))
    async with (
        await psycopg.AsyncConnection.connect(url.replace("+psycopg", ""), autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        await cursor.execute("TRUNCATE satellite_satellites CASCADE")
        columns = "id, name, region, token_digest, offline_after_seconds"
        async with cursor.copy(f"COPY satellite_satellites ({columns}) FROM STDIN") as copy:
            for id, token in credentials:
                await copy.write_row((id, id, "bench", digest(token), 3600.0))


async def run(counts: Sequence[int]) -> list[Figures]:
    directory = make_reachable_directory()
    credentials = directory / "credentials.json"
    figures = []
    try:
        async with database() as postgres:
            await migrate(postgres.url, BRANCHES)
            for count in counts:
                await register(postgres.url, count, credentials)
                figures.append(await measure(["plain"], credentials, count, restart=False))
                data_dir = str(directory / "instance")
                figures.append(
                    await measure(["ringfence", postgres.url, data_dir], credentials, count, restart=True)
                )
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.relay", description="Measure the relay.")
    parser.add_argument("satellites", nargs="*", type=int, default=[1000, 10_000], help="how many to connect")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    wanted = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < max(wanted.satellites) + 500:
        sys.exit(
            f"{max(wanted.satellites)} satellites need as many open files; the limit here is {hard} (ulimit -Hn)"
        )
    figures = asyncio.run(run(wanted.satellites))
    if wanted.json:
        print(json.dumps([asdict(one) for one in figures]))
        return
    print(
        f"{'server':<10}{'satellites':>11}{'all told':>12}{'best':>10}{'half told':>12}{'each':>10}{'connect':>10}",
        end="",
    )
    print(f"{'reconnect':>11}")
    for one in figures:
        print(
            f"{one.server:<10}{one.satellites:>11}{one.all_told_ms_median:>9} ms{one.all_told_ms_best:>7} ms"
            f"{one.half_told_ms_median:>9} ms{one.kilobytes_each:>7} kB{one.all_connected_s:>8} s"
            + (f"{one.all_reconnected_s:>9} s" if one.all_reconnected_s is not None else f"{'-':>11}")
        )


if __name__ == "__main__":
    main()
