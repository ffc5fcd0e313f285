"""What an event costs: appends per second, and how long until a listener has it, each beside the bare database.

`python -m benchmarks.hooks [--json] [--seconds S]`. The database is a server of its own with its durability on, and
everything runs on this machine. The yardstick for an append is the least that could give the same order: a
transaction that takes the log's lock, inserts a row of the same columns and commits, through psycopg, prepared. An
event that tells of another change is appended in that change's transaction, which is a session of SQLAlchemy's: so a
second yardstick is the same insert as the emitter would write it there. That for a delivery is LISTEN/NOTIFY alone.
Both sides take turns, so that what else the machine does hits both; medians are shown.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import shutil
import statistics
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import psycopg
import structlog
from pydantic import BaseModel
from ringfence import Event, Hook, PluginContext, PluginInfo, Registry, hookimpl
from ringfence.delivery.hook_delivery import HookDelivery
from ringfence.eventlog import EventLog
from ringfence.hooks import HookBus
from ringfence.host import Host
from ringfence.settings import HostSettings
from ringfence.storage.database import Database
from ringfence.storage.embedded import EmbeddedPostgres
from ringfence.testing import make_reachable_directory
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

ROUNDS = 7
BATCH = 100
WRITERS = 8
DELIVERIES = 200
PAUSE_SECONDS = 0.005
"""Between two deliveries, so that each is measured by itself."""

BARE_TABLE = """
    CREATE TABLE bare (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, stream text NOT NULL, version bigint NOT NULL,
        hook text NOT NULL, plugin text NOT NULL, payload jsonb NOT NULL, actor text, reason text,
        occurred_at timestamptz NOT NULL, instance uuid NOT NULL)
"""
BARE_LOCK = "SELECT pg_advisory_xact_lock(4711)"
BARE_INSERT = """
    INSERT INTO bare (stream, version, hook, plugin, payload, actor, reason, occurred_at, instance)
    VALUES (%s, %s, %s, %s, %s, %s, %s, clock_timestamp(), %s) RETURNING position
"""
SESSION_LOCK = text(BARE_LOCK)
SESSION_INSERT = text("""
    INSERT INTO bare (stream, version, hook, plugin, payload, actor, reason, occurred_at, instance)
    VALUES (:stream, :version, :hook, :plugin, CAST(:payload AS jsonb), :actor, :reason, clock_timestamp(), :instance)
    RETURNING position
""")

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
Work = Callable[[], Awaitable[None]]


class Measured(BaseModel):
    """A payload of a usual size."""

    n: int
    text: str = "x" * 200


measured = Hook("measured", Measured)


class Bench:
    """A plugin that emits and listens."""

    info = PluginInfo(id="bench", version="1")

    def __init__(self, heard: Callable[[int], None]) -> None:
        self._heard = heard
        self.context: PluginContext

    @hookimpl
    def register(self, registry: Registry) -> None:
        """Declare the hook."""
        registry.hook(measured)

    @hookimpl
    async def after_plugins_ready(self, context: PluginContext) -> None:
        """Listen."""
        self.context = context

        async def hear(event: Event[Measured]) -> None:
            self._heard(event.payload.n)

        context.on_hook(measured, hear)


async def emit(context: PluginContext, *numbers: int) -> tuple[float, float]:
    """Emit in one transaction; answers when its commit began and when it was done (monotonic seconds)."""
    async with context.sessions() as session, session.begin():
        for n in numbers:
            await context.emit_hook(measured, Measured(n=n), session=session, actor="bench")
        begun = time.monotonic()
    return begun, time.monotonic()


async def insert(connection: Connection, *numbers: int, notify: bool = False) -> tuple[float, float]:
    """The bare counterpart of `emit`."""
    payload = Measured(n=0).model_dump_json()
    async with connection.transaction():
        await connection.execute(BARE_LOCK)
        for n in numbers:
            row = ("bench.measured", n, "measured", "bench", payload, "bench", None, uuid.UUID(int=0))
            await connection.execute(BARE_INSERT, row)
            if notify:
                await connection.execute("SELECT pg_notify('bare', %s)", (str(n),))
        begun = time.monotonic()
    return begun, time.monotonic()


async def insert_in_session(database: Database, count: int = 1) -> None:
    """The bare counterpart, in the session that an emitter has anyway."""
    row = {
        "stream": "bench.measured",
        "version": 0,
        "hook": "measured",
        "plugin": "bench",
        "payload": Measured(n=0).model_dump_json(),
        "actor": "bench",
        "reason": None,
        "instance": uuid.UUID(int=0),
    }
    async with database.sessions() as session, session.begin():
        await session.execute(SESSION_LOCK)
        for _ in range(count):
            await session.execute(SESSION_INSERT, row)


async def insert_many(connection: Connection, *numbers: int) -> None:
    """Many rows with `executemany`, which psycopg sends without waiting for each answer."""
    payload = Measured(n=0).model_dump_json()
    rows = [
        ("bench.measured", n, "measured", "bench", payload, "bench", None, uuid.UUID(int=0)) for n in numbers
    ]
    async with connection.transaction(), connection.cursor() as cursor:
        await cursor.execute(BARE_LOCK)
        await cursor.executemany(BARE_INSERT, rows)


async def rate(seconds: float, work: Work, *, each: int = 1, side_by_side: int = 1) -> float:
    """How many a second `work` gets done, `each` at a time, by so many at once."""
    done = 0
    begun = time.monotonic()
    until = begun + seconds

    async def repeat() -> None:
        nonlocal done
        while time.monotonic() < until:
            await work()
            done += each

    await asyncio.gather(*(repeat() for _ in range(side_by_side)))
    return done / (time.monotonic() - begun)


async def compare(seconds: float, ours: list[Work], bare: list[Work], *, each: int = 1) -> dict[str, float]:
    """Rates of both, taking turns; one function per writer."""
    rates: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(ROUNDS):
        for name, works in (("ours", ours), ("bare", bare)):
            each_rate = await asyncio.gather(*(rate(seconds / ROUNDS, work, each=each) for work in works))
            rates[name].append(sum(each_rate))
    ours_median, bare_median = (statistics.median(rates[name]) for name in ("ours", "bare"))
    ratios = [a / b for a, b in zip(rates["ours"], rates["bare"], strict=True)]
    return {"perSecond": ours_median, "barePerSecond": bare_median, "ratio": statistics.median(ratios)}


async def appends(urls: tuple[str, str], seconds: float) -> dict[str, dict[str, float]]:
    """Appends by themselves, which nobody hears of: what a process pays that only emits."""
    sqlalchemy_url, url = urls
    async with contextlib.AsyncExitStack() as stack:
        connections = [
            await stack.enter_async_context(await psycopg.AsyncConnection.connect(url, autocommit=True))
            for _ in range(WRITERS)
        ]
        database = Database(sqlalchemy_url)
        stack.push_async_callback(database.close)
        delivery = HookDelivery(HookBus(), uuid.uuid4(), EventLog(database.autocommit))

        async def emit_one(session: AsyncSession | None, n: int = 0) -> None:
            payload, standalone = Measured(n=n), session is None
            await delivery.emit(
                "bench", measured, payload, session=session, standalone=standalone, actor="bench"
            )

        async def emit_at_once(session: AsyncSession | None) -> None:
            facts, standalone = [("bench.measured", Measured(n=n)) for n in range(BATCH)], session is None
            await delivery.emit_all(
                "bench", measured, facts, session=session, standalone=standalone, actor="bench"
            )

        async def emit_one_by_one(session: AsyncSession | None) -> None:
            for n in range(BATCH):
                await emit_one(session, n)

        def standalone(how: Callable[[AsyncSession | None], Awaitable[None]]) -> Work:
            return lambda: how(None)

        def in_session(how: Callable[[AsyncSession | None], Awaitable[None]]) -> Work:
            async def work() -> None:
                async with database.sessions() as session, session.begin():
                    await how(session)

            return work

        def bare(connection: Connection, count: int, how: Callable[..., Awaitable[object]] = insert) -> Work:
            async def work() -> None:
                await how(connection, *range(count))

            return work

        for connection in connections:
            for work in (bare(connection, 1), in_session(emit_one), standalone(emit_one)):
                for _ in range(10):
                    await work()
        one = connections[0]
        alone, emitted = [standalone(emit_one)], [in_session(emit_one)]
        inserted, batch = [bare(one, 1)], [bare(one, BATCH, insert_many)]
        by_all = [bare(connection, 1) for connection in connections]
        return {
            "one, standalone": await compare(seconds, alone, inserted),
            "one, in a session": await compare(seconds, emitted, inserted),
            "one, both in a session": await compare(seconds, emitted, [lambda: insert_in_session(database)]),
            f"{BATCH} at once, standalone": await compare(
                seconds, [standalone(emit_at_once)], batch, each=BATCH
            ),
            f"{BATCH} at once, in a session": await compare(
                seconds, [in_session(emit_at_once)], batch, each=BATCH
            ),
            f"{BATCH} one by one, in a session": await compare(
                seconds, [in_session(emit_one_by_one)], [bare(one, BATCH)], each=BATCH
            ),
            f"{BATCH} one by one, both in a session": await compare(
                seconds,
                [in_session(emit_one_by_one)],
                [lambda: insert_in_session(database, BATCH)],
                each=BATCH,
            ),
            f"{WRITERS} writers, standalone": await compare(seconds, alone * WRITERS, by_all),
            f"{WRITERS} writers, in a session": await compare(seconds, emitted * WRITERS, by_all),
        }


async def delivered_appends(context: PluginContext, url: str, seconds: float) -> dict[str, dict[str, float]]:
    """The same while this process also reads, parses and hands on every event.

    It is measured beside an insert that nobody hears of.
    """

    async def emit_one() -> None:
        await context.emit_hook(measured, Measured(n=0), standalone=True, actor="bench")

    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:

        async def insert_one() -> None:
            await insert(connection, 0)

        return {"one, standalone, and delivered": await compare(seconds, [emit_one], [insert_one])}


class Arrivals:
    """When each number was heard, here or by another process."""

    def __init__(self) -> None:
        self.at: dict[int, float] = {}
        self._arrived = asyncio.Condition()

    def note(self, n: int, at: float | None = None) -> None:
        """It was heard now, or at a time that somebody else took."""
        self.at.setdefault(n, time.monotonic() if at is None else at)

    async def of(self, n: int) -> float:
        """When it was heard, once it has been."""
        while n not in self.at:
            await asyncio.sleep(0.0005)
        return self.at[n]


async def latencies(
    send: Callable[[int], Awaitable[tuple[float, float]]], *arrivals: Arrivals
) -> list[dict[str, float]]:
    """From the beginning and from the end of a commit until it was heard at each place, in milliseconds.

    What lies between the two is the disk's. A listener may well hear before the emitter knows that it has committed.
    """
    from_begin: list[list[float]] = [[] for _ in arrivals]
    from_end: list[list[float]] = [[] for _ in arrivals]
    for n in range(1, DELIVERIES + 1):
        begun, ended = await send(n)
        for place, arrival in enumerate(arrivals):
            heard = await arrival.of(n)
            from_begin[place].append((heard - begun) * 1000)
            from_end[place].append((heard - ended) * 1000)
        await asyncio.sleep(PAUSE_SECONDS)
    # The first ones pay for connections and prepared statements.
    warm = DELIVERIES // 10
    return [
        {
            "medianMs": statistics.median(begin[warm:]),
            "p95Ms": statistics.quantiles(begin[warm:], n=20)[-1],
            "afterCommitMedianMs": statistics.median(end[warm:]),
        }
        for begin, end in zip(from_begin, from_end, strict=True)
    ]


@contextlib.asynccontextmanager
async def another_process(*arguments: str) -> AsyncIterator[Arrivals]:
    """A process that listens and writes down when it heard what; the monotonic clock is the machine's."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.hooks", *arguments), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    arrivals = Arrivals()
    assert await process.stdout.readline() == b"ready\n"

    async def read() -> None:
        async for line in cast("AsyncIterator[bytes]", process.stdout):
            n, at = line.split()
            arrivals.note(int(n), float(at))

    reading = asyncio.create_task(read())
    try:
        yield arrivals
    finally:
        process.terminate()
        await process.wait()
        await reading


def say(n: int) -> None:
    sys.stdout.write(f"{n} {time.monotonic()}\n")
    sys.stdout.flush()


async def listen_as_host(url: str, directory: str) -> None:
    """The other process: another instance."""
    async with Host(HostSettings(database_url=url, data_dir=Path(directory)), plugins=[Bench(say)]):
        print("ready", flush=True)
        await asyncio.Event().wait()


async def listen_bare(url: str) -> None:
    """The other process: LISTEN, and nothing else."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("LISTEN bare")
        print("ready", flush=True)
        async for notification in connection.notifies():
            say(int(notification.payload))


async def deliveries(
    context: PluginContext, here: Arrivals, urls: tuple[str, str], directory: Path
) -> dict[str, Any]:
    """How long a delivery takes on the same and on another instance, and bare."""
    sqlalchemy_url, url = urls
    async with another_process("--listen", sqlalchemy_url, str(directory / "other")) as there:
        here.at.clear()
        same, other = await latencies(lambda n: emit(context, n), here, there)
    async with (
        another_process("--listen-bare", url) as bare_there,
        await psycopg.AsyncConnection.connect(url, autocommit=True) as connection,
    ):
        [bare] = await latencies(lambda n: insert(connection, n, notify=True), bare_there)
    return {"same instance": same, "other instance": other, "bare LISTEN/NOTIFY, other process": bare}


async def measure(seconds: float) -> dict[str, Any]:
    """Everything, on a server of its own."""
    directory = make_reachable_directory()
    server = EmbeddedPostgres(directory / "postgres")
    try:
        await server.start()
        url = server.url.replace("+psycopg", "")
        here = Arrivals()
        bench = Bench(here.note)
        settings = HostSettings(database_url=server.url, data_dir=directory / "here")
        async with Host(settings, plugins=[bench]):
            async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
                await connection.execute(BARE_TABLE)
            delivered = await deliveries(bench.context, here, (server.url, url), directory)
            heard = await delivered_appends(bench.context, url, seconds)
        return {"appends": await appends((server.url, url), seconds) | heard, "deliveries": delivered}
    finally:
        await server.stop()
        shutil.rmtree(directory, ignore_errors=True)


def show(found: dict[str, Any]) -> None:
    """The same for people."""
    print(f"{'appends per second':<38}{'ringfence':>12}{'bare':>12}{'ratio':>9}")
    for name, one in found["appends"].items():
        print(f"  {name:<36}{one['perSecond']:>12.0f}{one['barePerSecond']:>12.0f}{one['ratio']:>8.2f}x")
    print(f"\n{'to the listener, from':<38}{'commit begun':>15}{'p95':>12}{'commit done':>15}")
    for name, one in found["deliveries"].items():
        after = one["afterCommitMedianMs"]
        print(f"  {name:<36}{one['medianMs']:>12.2f} ms{one['p95Ms']:>9.2f} ms{after:>12.2f} ms")


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--seconds", type=float, default=6.0, help="how long to measure each side of a comparison"
    )
    parser.add_argument("--listen", nargs=2, metavar=("URL", "DIRECTORY"), help=argparse.SUPPRESS)
    parser.add_argument("--listen-bare", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    if options.listen:
        asyncio.run(listen_as_host(*options.listen))
    elif options.listen_bare:
        asyncio.run(listen_bare(options.listen_bare))
    else:
        found = asyncio.run(measure(options.seconds))
        if options.json:
            print(json.dumps(found, indent=2))
        else:
            show(found)


if __name__ == "__main__":
    main()
