"""One host process of a test: `python -m tests.eventlog.instance`, told what to do on its standard input.

It keeps a ledger: for each number it emits an event and a row in one transaction, and its two worker groups write down
each event that they handle. `ledger` and `handled` are what the tests count. An event whose number is in `DEADLY` takes
the process down. Or it announces: each number is an event by itself, and is said once that has been emitted.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import cast

import structlog
from ringfence import Event, Mode, PluginContext
from ringfence.host import Host
from ringfence.settings import HostSettings
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from tests.eventlog.probe import Noted, Probe, mentioned, noted
from tests.waiting import until

TABLES = """
    CREATE TABLE ledger (n bigint NOT NULL, owner text NOT NULL, UNIQUE (n, owner));
    CREATE TABLE handled (id bigint GENERATED ALWAYS AS IDENTITY, worker_group text, position bigint, owner text);
"""
GROUPS = ("steady", "flaky")
DEADLY: dict[int, Callable[[], object]] = {
    -1: lambda: os._exit(70),
    -2: lambda: os.kill(os.getpid(), signal.SIGSEGV),
}
"""How to die, by the number of the event at which the group `steady` does so."""
PACE_SECONDS = 0.03
"""Between one event and the next of a process: what the groups can keep up with on a busy machine."""


def say(*words: object) -> None:
    """One line to the test."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


class Ledger:
    """What this process does, as the plugin `probe`."""

    def __init__(self, owner: str, linger: float, retries: int) -> None:
        self._owner = owner
        self._retries = retries
        self._linger = linger
        self._n = random.randrange(2**40)
        self._emitting = asyncio.Event()
        self._announcing = asyncio.Event()
        self.probe = Probe(self._ready)

    async def _ready(self, context: PluginContext) -> None:
        context.on_hook(noted, self._hear)
        context.on_hook(
            noted, self._steady, mode=Mode.WORK_QUEUE, worker_group="steady", max_retries=self._retries
        )
        context.on_hook(noted, self._flaky, mode=Mode.WORK_QUEUE, worker_group="flaky", max_retries=1000)
        context.spawn(self._emit(context), name="emitter")
        context.spawn(self._announce(context), name="announcer")

    async def _hear(self, event: Event[Noted]) -> None:
        say("heard", event.position)

    async def _steady(self, event: Event[Noted], session: AsyncSession) -> None:
        await self._write("steady", event, session)
        if event.payload.n in DEADLY:
            DEADLY[event.payload.n]()
        if self._linger:
            say("lingering", event.position)
            await asyncio.sleep(self._linger)

    async def _flaky(self, event: Event[Noted], session: AsyncSession) -> None:
        await self._write("flaky", event, session)
        if random.random() < 0.2:
            raise ValueError("bad luck")

    async def _write(self, group: str, event: Event[Noted], session: AsyncSession) -> None:
        await session.execute(
            text("INSERT INTO handled (worker_group, position, owner) VALUES (:group, :position, :owner)"),
            {"group": group, "position": event.position, "owner": self._owner},
        )

    async def _emit(self, context: PluginContext) -> None:
        while True:
            if not self._emitting.is_set():
                say("quiet")
                await self._emitting.wait()
            self._n += 1
            try:
                async with context.sessions.begin() as session:
                    row = {"n": self._n, "owner": self._owner}
                    await session.execute(text("INSERT INTO ledger (n, owner) VALUES (:n, :owner)"), row)
                    await context.emit_hook(noted, Noted(n=self._n), session=session, actor=self._owner)
            except (SQLAlchemyError, OSError):
                await asyncio.sleep(0.02)
            await asyncio.sleep(PACE_SECONDS)

    async def _announce(self, context: PluginContext) -> None:
        while True:
            await self._announcing.wait()
            self._n += 1
            with contextlib.suppress(SQLAlchemyError, OSError):
                await context.emit_hook(mentioned, Noted(n=self._n), standalone=True, actor=self._owner)
                say("announced", self._n)

    def obey(self, word: str) -> None:
        """Begin or stop emitting."""
        match word:
            case "emit":
                self._emitting.set()
            case "hush":
                self._emitting.clear()
            case "announce":
                self._announcing.set()


async def main(
    url: str, directory: str, owner: str, linger: float, retries: int, overrides: dict[str, float]
) -> None:
    """Run the instance until standard input ends."""
    # A drawn traceback per unlucky event would be most of the work.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    for name, value in overrides.items():
        module, _, constant = name.rpartition(".")
        package = "ringfence" if module == "backoff" else "ringfence.eventlog.groups"
        setattr(importlib.import_module(f"{package}.{module}"), constant, value)
    ledger = Ledger(owner, linger, retries)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    settings = HostSettings(database_url=url, data_dir=Path(directory))
    async with Host(settings, plugins=[ledger.probe]):
        say("ready")
        async for line in reader:
            ledger.obey(line.decode().strip())


class Instance:
    """A process that runs the above, as the test sees it."""

    def __init__(self, process: asyncio.subprocess.Process, owner: str) -> None:
        self.process = process
        self.owner = owner
        self.heard: list[int] = []
        self.announced: list[int] = []
        self.ready = asyncio.Event()
        self.lingering = asyncio.Event()
        self.quiet = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(
        cls,
        url: str,
        directory: Path,
        owner: str,
        *,
        linger: float = 0.0,
        retries: int = 1000,
        environment: Mapping[str, str] | None = None,
        **overrides: float,
    ) -> Instance:
        """Start a process; wait for `ready` to know that it is up. `tail__POLL_SECONDS` sets such a constant.

        `retries` are those of the group `steady`: its handler never fails, but a process that is killed, or that
        a busy machine keeps silent, in the middle of its first event counts as one more attempt at it.
        """
        constants = {name.replace("__", "."): value for name, value in overrides.items()}
        directory.mkdir(exist_ok=True)
        errors = (directory / f"{owner}.errors").open("ab")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.eventlog.instance",
            *(url, str(directory / owner), owner, str(linger), str(retries), json.dumps(constants)),
            cwd=Path(__file__).parents[2],
            env={**os.environ, **(environment or {})},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
        errors.close()
        return cls(process, owner)

    def tell(self, word: str) -> None:
        """Send one command."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n".encode())

    async def hush(self) -> None:
        """Have it emit no more, and return when it doesn't."""
        self.quiet.clear()
        self.tell("hush")
        await self.quiet.wait()

    async def announces(self, count: int) -> None:
        """Return when it has said so many more."""
        wanted = len(self.announced) + count
        await until(lambda: len(self.announced) >= wanted)

    async def kill(self) -> None:
        """`kill -9`."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        await self._reading

    async def stop(self) -> int:
        """Have it end in good order; answers its exit status."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        status = await self.process.wait()
        await self._reading
        return status

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in cast("AsyncIterator[bytes]", self.process.stdout):
            match line.decode().split():
                case ["ready"]:
                    self.ready.set()
                case ["quiet"]:
                    self.quiet.set()
                case ["heard", position]:
                    self.heard.append(int(position))
                case ["announced", n]:
                    self.announced.append(int(n))
                case ["lingering", _]:
                    self.lingering.set()


if __name__ == "__main__":
    url, directory, owner, linger, retries, overrides = sys.argv[1:]
    asyncio.run(main(url, directory, owner, float(linger), int(retries), json.loads(overrides)))
