"""Plugins made to order, for tests that are about the host and not about any plugin."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ringfence import PluginContext, PluginInfo, Registry, hookimpl

Declare = Callable[[Registry], None]
Act = Callable[[PluginContext], Awaitable[None]]


class MadePlugin:
    """Writes each of its moments into `diary` as "id: moment", and does there what it was made to do."""

    def __init__(
        self,
        id: str,
        *,
        diary: list[str] | None = None,
        requires: tuple[str, ...] = (),
        optional: bool = False,
        api: int = 1,
        register: Declare | None = None,
        init: Act | None = None,
        ready: Act | None = None,
        shutdown: Act | None = None,
    ) -> None:
        self.info = PluginInfo(id=id, version="1.0", requires=requires, optional=optional, api=api)
        self.diary = [] if diary is None else diary
        self._register = register
        self._acts = {"init": init, "ready": ready, "shutdown": shutdown}

    @hookimpl
    def register(self, registry: Registry) -> None:
        self.diary.append(f"{self.info.id}: register")
        if self._register is not None:
            self._register(registry)

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        await self._act("init", context)

    @hookimpl
    async def after_plugins_ready(self, context: PluginContext) -> None:
        await self._act("ready", context)

    @hookimpl
    async def shutdown(self, context: PluginContext) -> None:
        await self._act("shutdown", context)

    async def _act(self, moment: str, context: PluginContext) -> None:
        self.diary.append(f"{self.info.id}: {moment}")
        if (act := self._acts[moment]) is not None:
            await act(context)


class Refusal(Exception):
    """What a plugin raises that was made to fail."""


async def refuse(_context: PluginContext) -> None:
    raise Refusal("no such luck")
