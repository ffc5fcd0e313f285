"""What one edited check costs the satellites that have it: bytes, and how long until the last has been told.

`python -m benchmarks.assignments [--json] [--satellites N] [--checks N] [--script BYTES]`. A real host with PostgreSQL,
and sockets in the same process, so that its times are upper bounds. Half of the rounds are with satellites that say
which assignments they hold, and are told differences; the other half, the baseline, with ones that do not, and are told
the whole, as every satellite was in earlier releases. Likewise for what it costs when all of them come back.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import shutil
import statistics
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import structlog
from ringfence.host import Host
from ringfence.settings import HostSettings
from ringfence.testing import client, make_reachable_directory
from ringfence.web.server import listen, serving, url_of
from ringfence_health_checks.plugin import HealthChecksPlugin
from ringfence_satellite.plugin import SatellitePlugin
from ringfence_satellite.protocol import (
    MAX_FRAME_BYTES,
    PATH,
    AssignmentsChanged,
    Authenticate,
    ConfigUpdated,
    parse_from_host,
)
from ringfence_satellite.protocol.assignments import NOTHING, Assigned, apply
from ringfence_script_packages.plugin import ScriptPackagesPlugin
from ringfence_secrets.plugin import SecretsPlugin
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.relay import database, register

CHECKS = "/api/health-checks/checks"
EDITS = 5


@dataclass(frozen=True, slots=True)
class Figures:
    """What satellites of one kind cost. `baseline` is what is told the whole each time."""

    told: str
    satellites: int
    checks: int
    edit_bytes_median: float
    edit_ms_median: float
    return_bytes: int
    return_s: float


class Peer:
    """One satellite: what it holds, and how much it has been sent."""

    def __init__(self, id: str, token: str, *, differences: bool) -> None:
        self.hello = Authenticate(client_id=id, token=token)
        self.differences = differences
        self.held = NOTHING
        self.bytes = 0
        self.wanted = ""
        self.has_it = asyncio.Event()
        self._messages: list[str] = []

    async def visit(self, socket: ClientConnection) -> None:
        """Say who it is, and hear what it is told until the connection ends.

        Nothing is read more closely than it must be while the host, which shares this process, is being measured.
        """
        held = self.held.digest if self.differences else None
        await socket.send(self.hello.model_copy(update={"assignments_held": held}).encode())
        async for message in socket:
            assert isinstance(message, str)
            self.bytes += len(message)
            if self.wanted in message or f'"assignmentsDigest":"{held}"' in message:
                self.has_it.set()
            if self.differences:
                self._messages.append(message)

    def catch_up(self) -> None:
        """Have what it was told, as an agent does."""
        for message in self._messages:
            match parse_from_host(message):
                case ConfigUpdated() as frame:
                    self.held = Assigned.read(frame.assignments)
                case AssignmentsChanged() as frame:
                    self.held = apply(self.held, frame.difference())
        self._messages.clear()


class Peers:
    """All satellites of one kind, connected while the block runs."""

    def __init__(self, url: str, peers: list[Peer]) -> None:
        self._address = url.replace("http", "ws", 1) + PATH
        self.peers = peers
        self._open = AsyncExitStack()

    async def connect(self, wanted: str) -> tuple[int, float]:
        """Connect all, and wait until each has the check that is wanted; answers the bytes and the seconds."""
        self._expect(wanted)
        began = time.monotonic()
        tasks = await self._open.enter_async_context(asyncio.TaskGroup())
        for peer in self.peers:
            socket = await self._open.enter_async_context(
                connect(self._address, compression=None, max_size=MAX_FRAME_BYTES)
            )
            tasks.create_task(peer.visit(socket))
        await self._all_have_it()
        return sum(peer.bytes for peer in self.peers), time.monotonic() - began

    async def edit(self, api: httpx.AsyncClient, check: str, script: str) -> tuple[int, float]:
        """Change a check's script; answers the bytes, and the seconds from the change until the last has it."""
        self._expect(script)
        began = time.monotonic()
        answer = await api.patch(f"{CHECKS}/{check}", json={"script": script})
        assert answer.status_code == 200, answer.text
        await self._all_have_it()
        return sum(peer.bytes for peer in self.peers), time.monotonic() - began

    async def disconnect(self) -> None:
        await self._open.aclose()
        for peer in self.peers:
            peer.catch_up()

    def _expect(self, wanted: str) -> None:
        for peer in self.peers:
            peer.bytes, peer.wanted = 0, wanted
            peer.has_it.clear()

    async def _all_have_it(self) -> None:
        for peer in self.peers:
            await peer.has_it.wait()


async def fill(url: str, checks: int, script_bytes: int) -> str:
    """Put checks into the database that run on every satellite; answers the id of one."""
    async with await psycopg.AsyncConnection.connect(
        url.replace("+psycopg", ""), autocommit=True
    ) as connection:
        await connection.execute("UPDATE satellite_satellites SET tags = '{all}'")
        await connection.execute("TRUNCATE health_checks_checks CASCADE")
        await connection.execute(
            """
            INSERT INTO health_checks_checks (id, name, definition, created_by, updated_by)
            SELECT gen_random_uuid(), 'check-' || n, jsonb_build_object(
                       'name', 'check-' || n, 'system', 'system-' || n, 'kind', 'shell',
                       'script', rpad('echo ' || n || ' #', %s, 'x'), 'intervalSeconds', 3600,
                       'timeoutSeconds', 30, 'runsOn', jsonb_build_object('tags', jsonb_build_array('all'))), 'b', 'b'
              FROM generate_series(1, %s) AS n
            """,
            (script_bytes, checks),
        )
        found = await connection.execute("SELECT id FROM health_checks_checks WHERE name = 'check-1'")
        row = await found.fetchone()
    assert row is not None
    return str(row[0])


async def measure(
    host: Host, credentials: list[list[str]], check: str, wanted: argparse.Namespace, *, differences: bool
) -> Figures:
    """Connect all, edit one check several times, and let all come back."""
    peers = [Peer(id, token, differences=differences) for id, token in credentials]
    with listen("127.0.0.1", 0) as listener:
        async with serving(host.app, listener), client(host) as api:
            script = str((await api.get(f"{CHECKS}/{check}")).json()["script"])
            edits = []
            connected = Peers(url_of(listener), peers)
            await connected.connect(script)
            for number in range(EDITS):
                script = f"echo {differences} {number} #".ljust(wanted.script, "y")
                edits.append(await connected.edit(api, check, script))
            await connected.disconnect()
            again = Peers(url_of(listener), peers)
            return_bytes, return_seconds = await again.connect(script)
            await again.disconnect()
    return Figures(
        "differences" if differences else "the whole (baseline)",
        len(peers),
        wanted.checks,
        statistics.median(size for size, _ in edits),
        round(statistics.median(seconds for _, seconds in edits) * 1000, 1),
        return_bytes,
        round(return_seconds, 2),
    )


async def run(wanted: argparse.Namespace) -> list[Figures]:
    directory = make_reachable_directory()
    file = directory / "credentials.json"
    plugins: list[Any] = [ScriptPackagesPlugin(), SatellitePlugin(), SecretsPlugin(), HealthChecksPlugin()]
    try:
        async with database() as postgres:
            settings = HostSettings(database_url=postgres.url, data_dir=Path(directory / "instance"))
            async with Host(settings, plugins=plugins):
                pass  # so that the tables are there
            await register(postgres.url, wanted.satellites, file)
            check = await fill(postgres.url, wanted.checks, wanted.script)
            plugins = [ScriptPackagesPlugin(), SatellitePlugin(), SecretsPlugin(), HealthChecksPlugin()]
            async with Host(settings, plugins=plugins) as host:
                credentials = json.loads(file.read_text())
                return [
                    await measure(host, credentials, check, wanted, differences=differences)
                    for differences in (False, True)
                ]
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.assignments", description="Measure assignments."
    )
    parser.add_argument("--satellites", type=int, default=200)
    parser.add_argument("--checks", type=int, default=300)
    parser.add_argument("--script", type=int, default=2000, help="how long each script is")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    wanted = parser.parse_args()
    logging.disable(logging.WARNING)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    figures = asyncio.run(run(wanted))
    if wanted.json:
        print(json.dumps([asdict(one) for one in figures]))
        return
    print(f"{'told':<22}{'an edit':>16}{'in':>12}{'coming back':>18}{'in':>10}")
    for one in figures:
        print(
            f"{one.told:<22}{one.edit_bytes_median:>14,.0f} B{one.edit_ms_median:>9} ms"
            f"{one.return_bytes:>16,} B{one.return_s:>8} s"
        )


if __name__ == "__main__":
    main()
