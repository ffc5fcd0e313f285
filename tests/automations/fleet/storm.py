"""A plugin that tells of gusts: each number once, in the transaction that notes that it was told."""

from __future__ import annotations

from pydantic import BaseModel
from ringfence import Hook, PluginContext, PluginInfo, Registry, hookimpl
from sqlalchemy import text

TOLD = "CREATE TABLE gusts_told (n bigint PRIMARY KEY)"
_TELL = text("INSERT INTO gusts_told (n) VALUES (:n) ON CONFLICT DO NOTHING RETURNING n")


class Gust(BaseModel):
    """Something that happens. `course` says which automation is for it, `key` with which others it is in order."""

    n: int
    course: str
    key: str


gust_came = Hook("gust-came", Gust)


class StormPlugin:
    """Its route may be asked again: what was told is not told twice."""

    info = PluginInfo(id="storm", version="1")
    context: PluginContext

    @hookimpl
    def register(self, registry: Registry) -> None:
        registry.hook(gust_came)
        router = registry.guarded_router(registry.access_rule("gust", "tell", "Tell of gusts"))
        router.post("/gusts")(self.tell)

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        self.context = context

    async def tell(self, gust: Gust) -> bool:
        """Tell of a gust, unless that was done; whether it was not."""
        async with self.context.sessions.begin() as session:
            is_new = (await session.execute(_TELL, {"n": gust.n})).one_or_none() is not None
            if is_new:
                await self.context.emit_hook(gust_came, gust, session=session)
        return is_new
