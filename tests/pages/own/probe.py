"""A plugin for these tests: events with and without a rule for what is in them, a worker group that fails, and jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from pydantic import BaseModel
from ringfence import (
    Event,
    Hook,
    Job,
    JobFailed,
    Mode,
    PluginContext,
    PluginInfo,
    Registry,
    RunningJob,
    hookimpl,
)
from ringfence.pages import Attention, Count, Found, Pages, View
from sqlalchemy.ext.asyncio import AsyncSession


class Note(BaseModel):
    """A fact of few words."""

    words: str


class Work(BaseModel):
    """What a job is to do."""

    how: str


shown = Hook("note-shown", Note, stream="notes", payload_rule="probe.note.read")
hidden = Hook("note-hidden", Note, stream="secrets")
toiled = Hook("note-toiled", Note)
TOIL = Job("toil", Work, max_attempts=1)


class Probe:
    """Fails at events and jobs for as long as `fails`, and says on the overview what it is told to."""

    info = PluginInfo(id="probe", version="1.0", optional=True)

    def __init__(self) -> None:
        self.fails = True
        self.release = asyncio.Event()
        self.attention: Callable[[View], Awaitable[Sequence[Attention]]] | None = None
        self.handled: list[str] = []

    @hookimpl
    def register(self, registry: Registry) -> None:
        registry.access_rule("note", "read", "Read <notes>")
        registry.access_rule("note", "write", "Write notes", narrowable=True)
        for hook in (shown, hidden, toiled):
            registry.hook(hook)
        registry.job(TOIL)

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        self.context = context

    @hookimpl
    async def after_plugins_ready(self, context: PluginContext) -> None:
        context.on_hook(toiled, self.handle, mode=Mode.WORK_QUEUE, worker_group="toilers", max_retries=0)
        context.on_job(TOIL, self.toil)

    @hookimpl
    def pages(self) -> Pages:
        return Pages(package="tests.pages.shown", attention=self.attend, counts=self.count, find=self.find)

    async def attend(self, view: View) -> Sequence[Attention]:
        return () if self.attention is None else await self.attention(view)

    async def count(self, view: View) -> Sequence[Count]:
        return [Count("notes", 1234567, "kB", last_hour=[1] * 12), Count("pressing notes", 2, weight=90)]

    async def find(self, view: View, words: str) -> Sequence[Found]:
        return ()

    async def handle(self, event: Event[Note], session: AsyncSession) -> None:
        if self.fails:
            raise ValueError("it cannot be <handled>")
        self.handled.append(event.payload.words)

    async def toil(self, job: RunningJob[Work], session: AsyncSession) -> None:
        if job.payload.how == "wait":
            await job.progress(3, 10, "stones <moved>")
            await self.release.wait()
        elif self.fails:
            raise JobFailed("no <stones> left")
