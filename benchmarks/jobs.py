"""Jobs: how many are done in a second, and how soon after the commit one is begun, beside procrastinate on its own.

Both are measured in turns on one server, with one worker and an asynchronous handler that writes a row: ours in the
session that ends the job, procrastinate's on a connection of its own pool, since it has no such session. "Bare" is a
handler that does nothing, as procrastinate's own numbers are.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import procrastinate
import psycopg
from pydantic import BaseModel
from ringfence import Job, PluginContext, PluginInfo, Registry, RunningJob, hookimpl
from ringfence.host import Host
from ringfence.settings import HostSettings
from ringfence.storage.embedded import EmbeddedPostgres
from ringfence.testing import make_reachable_directory
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

AT_ONCE = 10
DELAYS = 100
TABLE = "CREATE TABLE IF NOT EXISTS done (n int)"
INSERT = "INSERT INTO done VALUES (1)"


class Number(BaseModel):
    """Which job it is, and whether it writes."""

    n: int
    writes: bool


NUMBERED = Job("numbered", Number, at_once_here=AT_ONCE)


@dataclass(frozen=True)
class Measured:
    """One engine: jobs per second with a handler that does nothing and one that writes, and milliseconds to begin."""

    engine: str
    bare_per_second: float
    writing_per_second: float
    enqueued_per_second: float
    delay_ms_median: float
    delay_ms_p95: float


class Engine:
    """Something that does jobs; the handler notes when each began."""

    name: str

    def __init__(self) -> None:
        self.began: dict[int, float] = {}
        self._left = 0
        self._all = asyncio.Event()

    async def enqueue(self, numbers: range, *, writes: bool) -> None:
        """Enqueue jobs in one transaction."""
        raise NotImplementedError

    def begins(self, n: int) -> None:
        """A handler begins."""
        self.began[n] = time.perf_counter()

    def ends(self) -> None:
        """A handler ends."""
        self._left -= 1
        if not self._left:
            self._all.set()

    async def throughput(self, count: int, *, writes: bool) -> tuple[float, float]:
        """Jobs enqueued, and jobs done, per second."""
        self._left, self._all = count, asyncio.Event()
        began = time.perf_counter()
        await self.enqueue(range(count), writes=writes)
        enqueued = time.perf_counter()
        await self._all.wait()
        done = time.perf_counter()
        return count / (enqueued - began), count / (done - began)

    async def delays(self) -> list[float]:
        """Milliseconds from the commit of a job to its handler, one after the other."""
        found = []
        for n in range(DELAYS):
            self._left, self._all = 1, asyncio.Event()
            await self.enqueue(range(n, n + 1), writes=False)
            committed = time.perf_counter()
            await self._all.wait()
            found.append((self.began[n] - committed) * 1000)
            await asyncio.sleep(0.01)
        return found


class Ours(Engine):
    """This host."""

    name = "ringfence"
    info = PluginInfo("bench", "1.0")

    @hookimpl
    def register(self, registry: Registry) -> None:
        registry.job(NUMBERED)

    @hookimpl
    async def after_plugins_ready(self, context: PluginContext) -> None:
        self._context = context
        context.on_job(NUMBERED, self._do)

    async def _do(self, job: RunningJob[Number], session: AsyncSession) -> None:
        self.begins(job.payload.n)
        if job.payload.writes:
            await session.execute(text(INSERT))
        self.ends()

    async def enqueue(self, numbers: range, *, writes: bool) -> None:
        async with self._context.sessions.begin() as session:
            for n in numbers:
                await self._context.enqueue(NUMBERED, Number(n=n, writes=writes), session=session)


@asynccontextmanager
async def ours(url: str, directory: Path) -> AsyncIterator[Engine]:
    """A host of ours on that database."""
    engine = Ours()
    settings = HostSettings(database_url=url, data_dir=directory)
    async with Host(settings, plugins=[engine]):
        yield engine


class Bare(Engine):
    """procrastinate, as its documentation shows it."""

    name = "procrastinate"

    def __init__(self, app: Any) -> None:
        super().__init__()
        self._app = app

        async def numbered(n: int, writes: bool) -> None:
            self.begins(n)
            if writes:
                await app.connector.execute_query_async(INSERT)
            self.ends()

        self._task = app.task(name="numbered")(numbered)

    async def enqueue(self, numbers: range, *, writes: bool) -> None:
        # It has a way to defer many at once; one after the other in one transaction is what ours does.
        async with self._app.connector.pool.connection() as connection:
            deferrer = self._task.configure(connection=connection)
            for n in numbers:
                await deferrer.defer_async(n=n, writes=writes)


@asynccontextmanager
async def bare(url: str) -> AsyncIterator[Engine]:
    """A worker of procrastinate's on that database."""
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url.replace("+psycopg", "")))
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        engine = Bare(app)
        worker = asyncio.create_task(app.run_worker_async(concurrency=AT_ONCE, install_signal_handlers=False))
        try:
            await asyncio.sleep(0.5)
            yield engine
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)


async def measure(make: Callable[[], Any], count: int) -> Measured:
    """All of one engine."""
    async with make() as engine:
        await engine.throughput(20, writes=True)
        _, bare_rate = await engine.throughput(count, writes=False)
        enqueued, writing = await engine.throughput(count, writes=True)
        delays = sorted(await engine.delays())
    return Measured(
        engine.name,
        round(bare_rate),
        round(writing),
        round(enqueued),
        round(statistics.median(delays), 2),
        round(delays[int(len(delays) * 0.95)], 2),
    )


async def main(count: int, rounds: int) -> list[Measured]:
    """Both engines, in turns."""
    directory = make_reachable_directory()
    server = EmbeddedPostgres(directory / "postgres")
    await server.start()
    found: list[Measured] = []
    try:
        async with await psycopg.AsyncConnection.connect(
            server.url.replace("+psycopg", ""), autocommit=True
        ) as connection:
            await connection.execute(TABLE)
        for turn in range(rounds):
            with tempfile.TemporaryDirectory() as data:
                found.append(await measure(lambda: ours(server.url, Path(data)), count))
            found.append(await measure(lambda: bare(server.url), count))
            async with await psycopg.AsyncConnection.connect(
                server.url.replace("+psycopg", ""), autocommit=True
            ) as connection:
                await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
                await connection.execute(TABLE)
            del turn
    finally:
        await server.stop()
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    for one in asyncio.run(main(given.jobs, given.rounds)):
        print(json.dumps(asdict(one)))
