"""Plugins with worker groups that write a row for each event, and what those have written."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

from ringfence import Event, Mode, PluginContext
from ringfence.eventlog.groups.consume import Consumer
from ringfence.hooks import WorkGroup, WorkHandler
from ringfence.host import Host
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from tests.eventlog.probe import Noted, Probe, noted, query
from tests.waiting import in_time

ROWS = "SELECT n FROM handled ORDER BY id"


async def write(event: Event[Noted], session: AsyncSession) -> None:
    """The plainest handler: one row per event."""
    await session.execute(text("INSERT INTO handled (n) VALUES (:n)"), {"n": event.payload.n})


def working(*groups: tuple[str, WorkHandler[Noted]], max_retries: int = 3) -> Probe:
    async def ready(context: PluginContext) -> None:
        async with context.sessions.begin() as session:
            # Two instances that start together must not both make it.
            await session.execute(text("SELECT pg_advisory_xact_lock(1)"))
            await session.execute(
                text("CREATE TABLE IF NOT EXISTS handled (id bigint GENERATED ALWAYS AS IDENTITY, n int)")
            )
        for name, handler in groups:
            context.on_hook(noted, handler, mode=Mode.WORK_QUEUE, worker_group=name, max_retries=max_retries)

    return Probe(ready)


async def rows(host: Host) -> list[int]:
    return [n for (n,) in await query(host, ROWS)]


async def handled(host: Host, count: int) -> list[int]:
    """The rows, once there are `count` of them."""
    found: list[int] = []
    async with in_time(lambda: f"{count} rows; there are {found}"):
        while len(found := await rows(host)) < count:
            await asyncio.sleep(0.02)
    return found


async def cursors(host: Host) -> dict[str, tuple[int, int]]:
    found = await query(host, "SELECT worker_group, position, attempts FROM event_cursors")
    return {name: (position, attempts) for name, position, attempts in found}


async def a_consumer(host: Host, handler: WorkHandler[Noted], *, max_retries: int = 2) -> Consumer:
    """A group without the fleet, trusted with what comes: the test takes its steps."""
    consumer = a_newcomer(host, handler, max_retries=max_retries, instance=host.instance_id)
    await query(
        host,
        "INSERT INTO event_cursors (plugin, worker_group, position, served_at, served_by) "
        "VALUES ('probe', 'here', 0, now(), :instance)",
        instance=host.instance_id,
    )
    return consumer


def a_newcomer(
    host: Host, handler: WorkHandler[Noted], *, max_retries: int = 2, instance: UUID | None = None
) -> Consumer:
    """Another instance, which tries itself at the same group."""
    group = WorkGroup("probe", "here", noted, handler, max_retries)
    return Consumer(host.database.work_sessions, group, instance=instance or uuid4())
