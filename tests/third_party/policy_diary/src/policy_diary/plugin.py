"""A diary of the sandbox policy: an entry for every change, and those that people write themselves."""

from ringfence import Event, Hook, Mode, PluginContext, PluginInfo, Registry, hookimpl
from ringfence.metrics import Counts, Metric, counter
from ringfence.pages import Pages
from ringfence.web import Caller, Problem
from ringfence_automations.service import StepKind
from ringfence_notifications.service import RouteSource
from ringfence_script_packages.hooks import SandboxPolicyChanged, sandbox_policy_changed
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from policy_diary.pages import pages_of
from policy_diary.routes import TellOfEntries
from policy_diary.settings import DiarySettings
from policy_diary.steps import Entry, WriteEntry

entry_written = Hook("diary-entry-written", Entry)


class DiaryPlugin:
    info = PluginInfo(id="policy-diary", version="1.0", requires=("script-packages",), optional=True, api=1)

    @hookimpl
    def settings(self) -> type[DiarySettings]:
        return DiarySettings

    @hookimpl
    def register(self, registry: Registry) -> None:
        registry.migrations("policy_diary.migrations")
        registry.hook(entry_written)
        router = registry.guarded_router(registry.access_rule("entry", "write", "Read and write the diary"))
        router.get("/entries")(self.entries)
        router.post("/entries", status_code=201)(self.add)

    @hookimpl
    def pages(self) -> Pages:
        return pages_of(self.entries)

    @hookimpl
    async def metrics(self) -> list[Metric]:
        return [counter("ringfence_policy_diary_entries_total", "Entries written here", self.written)]

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        self.context, self.written = context, Counts()
        context.services.extend(StepKind, WriteEntry(self.write))
        context.services.extend(RouteSource, TellOfEntries())

    @hookimpl
    async def after_plugins_ready(self, context: PluginContext) -> None:
        context.on_hook(sandbox_policy_changed, self.on_policy, mode=Mode.WORK_QUEUE, worker_group="diary")

    async def entries(self) -> list[Entry]:
        async with self.context.sessions() as session:
            rows = await session.execute(text("SELECT author, text FROM policy_diary_entries ORDER BY id"))
            return [Entry(author=row.author, text=row.text) for row in rows]

    async def add(self, note: str, caller: Caller) -> Entry:
        if len(note) > (most := self.context.own_settings(DiarySettings).max_letters):
            raise Problem(422, detail=f"an entry has at most {most} letters")
        async with self.context.sessions.begin() as session:
            return await self.write(Entry(author=caller.name, text=note), session)

    async def on_policy(self, event: Event[SandboxPolicyChanged], session: AsyncSession) -> None:
        changed = ", ".join(change.path for change in event.payload.changes)
        note = f"revision {event.payload.revision}: {changed}"
        await self.write(Entry(author=event.payload.actor, text=note), session)

    async def write(self, entry: Entry, session: AsyncSession) -> Entry:
        insert = text("INSERT INTO policy_diary_entries (author, text) VALUES (:author, :text)")
        await session.execute(insert, entry.model_dump())
        self.written.add()
        await self.context.emit_hook(entry_written, entry, session=session, actor=entry.author)
        return entry
