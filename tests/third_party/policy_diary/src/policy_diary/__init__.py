"""A diary of the sandbox policy: an entry for every change, and those that people write themselves."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel
from ringfence import Event, Hook, Mode, PluginContext, PluginInfo, Registry, hookimpl
from ringfence.web import Principal, require
from ringfence_script_packages.hooks import SandboxPolicyChanged, sandbox_policy_changed
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


class Entry(BaseModel):
    author: str
    text: str


entry_written = Hook("diary-entry-written", Entry)


class DiaryPlugin:
    info = PluginInfo(id="policy-diary", version="1.0", requires=("script-packages",), optional=True, api=1)

    @hookimpl
    def register(self, registry: Registry) -> None:
        registry.migrations("policy_diary.migrations")
        registry.hook(entry_written)
        self.rule = registry.access_rule("entry", "write", "Read the policy's diary and write into it")

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        self.context = context
        router = APIRouter()
        Writer = Annotated[Principal, Depends(require(self.rule))]

        @router.post("/entries", status_code=201)
        async def write(note: str, writer: Writer) -> Entry:
            async with context.sessions.begin() as session:
                return await self.write(Entry(author=writer.name, text=note), session)

        @router.get("/entries")
        async def read(_: Writer) -> list[Entry]:
            async with context.sessions() as session:
                rows = await session.execute(
                    text("SELECT author, text FROM policy_diary_entries ORDER BY id")
                )
                return [Entry(author=row.author, text=row.text) for row in rows]

        context.web.router(router)

    @hookimpl
    async def after_plugins_ready(self, context: PluginContext) -> None:
        context.on_hook(sandbox_policy_changed, self.on_policy, mode=Mode.WORK_QUEUE, worker_group="diary")

    async def on_policy(self, event: Event[SandboxPolicyChanged], session: AsyncSession) -> None:
        fact = event.payload
        changed = ", ".join(change.path for change in fact.changes)
        await self.write(Entry(author=fact.actor, text=f"revision {fact.revision}: {changed}"), session)

    async def write(self, entry: Entry, session: AsyncSession) -> Entry:
        insert = text("INSERT INTO policy_diary_entries (author, text) VALUES (:author, :text)")
        await session.execute(insert, entry.model_dump())
        await self.context.emit_hook(entry_written, entry, session=session, actor=entry.author)
        return entry
