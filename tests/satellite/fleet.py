"""The parts of a fleet of real processes: instances that are killed, what stands before them, and agents."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.satellite.instances import Registered
from tests.waiting import in_time

START_SECONDS = 300.0
"""How long an instance may take to start, where others that are killed and started have the machine, too."""


@dataclass(slots=True)
class Gateway:
    """What stands between agents and instances, as a load balancer would.

    It forwards to an instance that lives, and a test can cut its connections.
    """

    backends: list[int]
    port: int = 0
    links: set[asyncio.StreamWriter] = field(default_factory=set)

    def cut(self, share: float) -> None:
        """Drop some of the connections without a word."""
        for writer in random.sample(sorted(self.links, key=id), int(len(self.links) * share)):
            writer.transport.abort()

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for port in random.sample(self.backends, len(self.backends)):
            try:
                upstream, downstream = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                continue
            break
        else:
            writer.transport.abort()
            return
        self.links.add(writer)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_pump(reader, downstream))
                tasks.create_task(_pump(upstream, writer))
        except* (OSError, EOFError):
            pass
        finally:
            self.links.discard(writer)
            writer.transport.abort()
            downstream.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    raise EOFError


@asynccontextmanager
async def gateway(backends: list[int]) -> AsyncIterator[Gateway]:
    made = Gateway(backends)
    server = await asyncio.start_server(made.forward, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        made.cut(1.0)


class Killed:
    """An instance in a process that is killed and started again, on one port. `program` prints its address first."""

    def __init__(
        self,
        database_url: str,
        directory: Path,
        *more: str,
        program: str = "tests.satellite.instance_program",
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.directory = directory
        self._arguments = ("-m", program, database_url, str(directory), str(self.port), *more)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        written = self.directory.with_suffix(".log")
        with written.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, *self._arguments, stdout=asyncio.subprocess.PIPE, stderr=log
            )
        assert self._process.stdout is not None
        async with in_time("the instance says where it listens", seconds=START_SECONDS):
            while line := await self._process.stdout.readline():
                if line.startswith(b"http"):
                    return
        raise AssertionError(f"the instance ended: {written.read_text()[-2000:]}")

    async def kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


class Agent:
    """A real agent that connects through a gateway, with its log in a file. It can be killed and started again."""

    def __init__(self, front: Gateway, satellite: Registered, directory: Path) -> None:
        token = directory / f"{satellite.id}.token"
        token.write_text(satellite.token)
        self._log = directory / f"{satellite.id}.log"
        self._arguments = (
            *("-m", "ringfence", "agent", "--url", f"http://127.0.0.1:{front.port}"),
            *("--client-id", satellite.id, "--token-file", str(token)),
        )
        self._environment = {
            **os.environ,
            "RINGFENCE_HEARTBEAT_SECONDS": "1",
            "RINGFENCE_DATA_DIR": str(directory / satellite.id),
        }
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, *self._arguments, env=self._environment, stderr=log
            )

    async def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(how)
            await self._process.wait()


@asynccontextmanager
async def agent_behind(front: Gateway, satellite: Registered, directory: Path) -> AsyncIterator[Agent]:
    """A real agent that connects through the gateway."""
    agent = Agent(front, satellite, directory)
    await agent.start()
    try:
        yield agent
    finally:
        await agent.end()
