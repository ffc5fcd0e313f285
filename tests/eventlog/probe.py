"""A plugin for these tests: hooks of every kind, and a context to use them with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pydantic
from ringfence import Event, Hook, PluginContext, PluginInfo, Registry, hookimpl
from ringfence.host import Host
from sqlalchemy import text


class Noted(pydantic.BaseModel):
    """A fact with a number."""

    n: int
    secret: str = ""


noted = Hook("noted", Noted)
mentioned = Hook("mentioned", Noted)
treasured = Hook("treasured", Noted, stream="treasury", keep_forever=True)
whispered = Hook("whispered", Noted, stored=False)

Ready = Callable[[PluginContext], Awaitable[None]]


async def _nothing(_: PluginContext) -> None:
    return None


class Probe:
    """Declares the hooks, and does in `after_plugins_ready` what the test wants."""

    def __init__(self, ready: Ready = _nothing, *, id: str = "probe", init: Ready = _nothing) -> None:
        self.info = PluginInfo(id=id, version="1")
        self.ready = ready
        self._init = init
        self.context: PluginContext

    @hookimpl
    def register(self, registry: Registry) -> None:
        """Declare every hook, each of which can have one owner."""
        for hook in (noted, mentioned, treasured, whispered) if self.info.id == "probe" else ():
            registry.hook(hook)

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        """Do as the test wants."""
        self.context = context
        await self._init(context)

    @hookimpl
    async def after_plugins_ready(self, context: PluginContext) -> None:
        """Do as the test wants."""
        await self.ready(context)


async def emit(
    context: PluginContext, *numbers: int, hook: Hook[Noted] = noted, **more: Any
) -> list[Event[Noted]]:
    """Emit one event per number, each in a transaction of its own."""
    events = []
    for n in numbers:
        async with context.sessions.begin() as session:
            events.append(await context.emit_hook(hook, Noted(n=n), session=session, **more))
    return events


async def query(host: Host, statement: str, **values: object) -> list[tuple[Any, ...]]:
    """Run one statement on the host's database and commit it; answers the rows, if it has any."""
    async with host.runtime.database.sessions.begin() as session:
        result = await session.execute(text(statement), values)
        return [tuple(row) for row in result] if result.returns_rows else []  # type: ignore[attr-defined]
