"""A plugin whose jobs do what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel
from ringfence import Backoff, Job, PluginContext, PluginInfo, Registry, RunningJob, hookimpl
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


class Task(BaseModel):
    """What is to be done: a name for it, and how."""

    name: str
    how: str = "write"


AT_ONCE = Backoff(0.0, 0.0)
TASK = Job("task", Task, max_attempts=3, retry=AT_ONCE)
ALONE = Job("alone", Task, at_once=1, retry=AT_ONCE)
PATIENT = Job("patient", Task, retry=Backoff(36000.0, 36000.0))
SHORT = Job("short", Task, deadline_seconds=0.2, max_attempts=1)
LONG = Job("long", Task, deadline_seconds=None, max_attempts=1, max_losses=None)
JOBS = (TASK, ALONE, PATIENT, SHORT, LONG)
Act = Callable[[RunningJob[Task], AsyncSession], Awaitable[None]]


class Clerk:
    """Writes the name of each task into the table `written`, or does what `acts` say for its `how`."""

    def __init__(
        self, *, id: str = "clerk", ready: Callable[[PluginContext], Awaitable[None]] | None = None
    ) -> None:
        self.info = PluginInfo(id, "1.0")
        self.context: PluginContext
        self.acts: dict[str, Act] = {"write": self.write}
        self.seen: list[RunningJob[Task]] = []
        self.begun: asyncio.Queue[RunningJob[Task]] = asyncio.Queue()
        self.make_table = True
        self._ready = ready

    @hookimpl
    def register(self, registry: Registry) -> None:
        for job in JOBS:
            registry.job(job)

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        self.context = context
        if not self.make_table:
            return
        async with context.sessions.begin() as session:
            await session.execute(text("CREATE TABLE IF NOT EXISTS written (name text, attempt int)"))

    @hookimpl
    async def after_plugins_ready(self, context: PluginContext) -> None:
        for job in JOBS:
            context.on_job(job, self.act)
        if self._ready is not None:
            await self._ready(context)

    async def act(self, job: RunningJob[Task], session: AsyncSession) -> None:
        self.seen.append(job)
        self.begun.put_nowait(job)
        await self.acts[job.payload.how](job, session)

    async def write(self, job: RunningJob[Task], session: AsyncSession) -> None:
        await session.execute(
            text("INSERT INTO written VALUES (:name, :attempt)"),
            {"name": job.payload.name, "attempt": job.attempt},
        )

    async def written(self) -> list[str]:
        """The names that were written, and committed."""
        async with self.context.sessions() as session:
            return list((await session.execute(text("SELECT name FROM written"))).scalars())

    async def rows(self, columns: str = "status", where: str = "true") -> list[Any]:
        """What the table of jobs says, in the order of enqueueing."""
        async with self.context.sessions() as session:
            found = await session.execute(text(f"SELECT {columns} FROM jobs WHERE {where} ORDER BY number"))
            return [row[0] if len(row) == 1 else tuple(row) for row in found]
