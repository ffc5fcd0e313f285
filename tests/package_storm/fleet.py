"""The machines of the storm as processes, and their database: each can be killed, and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ringfence.storage.embedded import EmbeddedPostgres

from tests.waiting import PATIENCE_SECONDS, in_time


@dataclass
class Machine:
    """A process that takes orders and tells what it does. What it leaves of temporary files is in `temporary`."""

    name: str
    module: str
    arguments: Sequence[str]
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    """What came of its scripts, until somebody has taken it."""
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    _process: asyncio.subprocess.Process | None = None
    _hearing: asyncio.Task[None] | None = None
    _answers: dict[int, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def temporary(self) -> Path:
        """Where its temporary files are."""
        return self.directory / f"tmp-{self.name}"

    @property
    def log(self) -> Path:
        """What it has logged."""
        return self.directory / f"{self.name}.log"

    @property
    def pid(self) -> int | None:
        """Its process, if it has one."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    async def start(self) -> None:
        """Start it, without waiting until it is ready."""
        self.temporary.mkdir(exist_ok=True)
        self.temporary.chmod(0o1777)
        self.ready.clear()
        self.reached.clear()
        pipe = asyncio.subprocess.PIPE
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", self.module, *self.arguments),
                stdin=pipe,
                stdout=pipe,
                stderr=log,
                limit=2**24,
                env={**os.environ, **self.environment, "TMPDIR": str(self.temporary)},
            )
        self._hearing = asyncio.create_task(self._hear(self._process))

    async def _hear(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            if not line.endswith(b"\n"):
                break  # It died within a word.
            told = json.loads(line)
            if "run" in told:
                self.ready.set()
                self.runs.append(told["run"])
            elif "ready" in told:
                self.ready.set()
            elif "reached" in told:
                self.reached.set()
            elif (waiting := self._answers.pop(told["answer"], None)) is not None and not waiting.done():
                waiting.set_result(told)
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_result({"status": 0, "body": "it died"})
        self._answers.clear()

    def order(self, **order: Any) -> None:
        """Send it a line."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError, RuntimeError):
                self._process.stdin.write(json.dumps(order).encode() + b"\n")

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """A request of an administrator to this instance: the status, 0 if it did not live to answer, and the body."""
        number = next(self._numbers)
        # What hears it gives everybody an answer when it dies.
        waiting = self._answers[number] = asyncio.get_running_loop().create_future()
        self.order(ask=[method, path, body], id=number)
        if self._hearing is None or self._hearing.done():
            return 0, "it is dead"
        async with in_time(f"{self.name} answers {method} {path}"):
            told = await waiting
        return told["status"], told["body"]

    async def gone(self) -> None:
        """Return once its process is dead, and all that it said is heard."""
        assert self._process is not None
        assert self._hearing is not None
        await self._process.wait()
        await self._hearing

    async def kill(self) -> None:
        """Kill it, if it is not dead."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        await self.gone()

    async def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            async with in_time(f"{self.name} ends"):
                await self.gone()


class Database:
    """The storm's PostgreSQL."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._server = EmbeddedPostgres(directory, options={"fsync": "off"})
        self.url = self._server.url

    @property
    def pid(self) -> int:
        """The process of the server that all others of it come from."""
        process = self._server._process
        assert process is not None
        return process.pid

    async def start(self) -> None:
        """Start it, after what is left of the one before has gone."""
        await self._server.start()

    async def kill(self) -> None:
        """Kill the server, which its other processes follow."""
        os.kill(self.pid, signal.SIGKILL)
        process = self._server._process
        assert process is not None
        await asyncio.to_thread(process.wait, PATIENCE_SECONDS)

    async def stop(self) -> None:
        """Stop it."""
        await self._server.stop()
