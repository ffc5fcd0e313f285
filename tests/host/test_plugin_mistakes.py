"""What the author of a plugin can do wrong is an error that names the plugin and the mistake."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog
from pydantic import BaseModel
from ringfence import Event, Hook, Mode, PluginContext, PluginInfo, Registry, hookimpl
from ringfence.hooks import HookError
from ringfence.plugins.lifecycle import Lifecycle
from ringfence.plugins.registry import PluginError
from ringfence.plugins.services import ServiceDirectory
from ringfence.testing import RunHost
from sqlalchemy.ext.asyncio import AsyncSession

from tests.host.plugins import MadePlugin
from tests.waiting import in_time


class Said(BaseModel):
    word: str


said = Hook("said", Said, stored=False)


recorded = Hook("recorded", Said)


class Greeter:
    """The interface of a service."""


async def test_using_others_before_all_are_ready_is_an_error_that_says_so(run_host: RunHost) -> None:
    refused: list[str] = []

    async def hear(_event: Event[Said]) -> None: ...

    async def try_all(context: PluginContext) -> None:
        for use in (
            lambda: context.on_hook(said, hear, mode=Mode.INSTANCE_LOCAL),
            lambda: context.services.get(Greeter),
            lambda: context.services.extensions(Greeter),
        ):
            with pytest.raises(PluginError) as early:
                use()
            refused.append(str(early.value))
        with pytest.raises(PluginError) as early:
            await context.emit_hook(said, Said(word="hello"))
        refused.append(str(early.value))

    await run_host(plugins=[MadePlugin("hasty", register=lambda registry: registry.hook(said), init=try_all)])
    assert refused == [
        f"hasty used {use} before every plugin was ready: move it to after_plugins_ready, or later"
        for use in (
            "on_hook(said)",
            "services.get(Greeter)",
            "services.extensions(Greeter)",
            "emit_hook(said)",
        )
    ]


async def test_emitting_what_was_not_declared_is_an_error(run_host: RunHost) -> None:
    async def emit(context: PluginContext) -> None:
        await context.emit_hook(said, Said(word="x"))

    with pytest.raises(PluginError, match="a emits said without having declared it") as failed:
        await run_host(plugins=[MadePlugin("a", ready=emit)])
    assert isinstance(failed.value.__cause__, HookError)


class BadName:
    info = PluginInfo(id="bad", version="1", optional=True)

    @hookimpl
    async def initialise(self, context: PluginContext) -> None: ...


class BadArgument:
    info = PluginInfo(id="bad", version="1", optional=True)

    @hookimpl
    async def init(self, ctx: PluginContext) -> None: ...


class AsyncRegister:
    info = PluginInfo(id="bad", version="1", optional=True)

    @hookimpl
    async def register(self, registry: Registry) -> None: ...


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (BadName, "initialise"),
        (BadArgument, "ctx"),
        (AsyncRegister, "register only declares: it is not async"),
    ],
)
def test_a_moment_written_wrongly_is_that_plugins_failure_and_nobody_elses(
    kind: type[BadName], said: str
) -> None:
    lifecycle = Lifecycle([kind(), MadePlugin("good")], ServiceDirectory())
    bad, good = lifecycle.plugins
    assert bad.error is not None
    assert bad.error.startswith("plugin bad failed in register: PluginError: ")
    assert said in bad.error
    assert good.phase == "registered"


def test_a_plugin_need_not_have_every_moment() -> None:
    class Bare:
        info = PluginInfo(id="bare", version="1")

    [bare] = Lifecycle([Bare()], ServiceDirectory()).plugins
    assert bare.phase == "registered"


async def test_a_moment_that_is_not_async_is_told_how_it_must_be(run_host: RunHost) -> None:
    class Sync:
        info = PluginInfo(id="sync", version="1")

        @hookimpl
        def init(self) -> int:
            return 7

    with pytest.raises(PluginError, match="init is an async function that returns nothing"):
        await run_host(plugins=[Sync()])


def declare_twice(what: str) -> MadePlugin:
    def register(registry: Registry) -> None:
        for _ in range(2):
            match what:
                case "access rule":
                    registry.access_rule("thing", "do", "Do it")
                case "hook":
                    registry.hook(said)
                case "migrations":
                    registry.migrations("somewhere")
                case "WebSocket path":
                    registry.websocket("/x", lambda socket: asyncio.sleep(0))

    return MadePlugin("a", register=register)


@pytest.mark.parametrize("what", ["access rule", "hook", "migrations", "WebSocket path"])
def test_declaring_a_thing_twice_is_an_error(what: str) -> None:
    with pytest.raises(PluginError, match=what):
        Lifecycle([declare_twice(what)], ServiceDirectory())


def test_two_plugins_cannot_declare_different_hooks_of_one_name() -> None:
    other = Hook("said", Said)
    plugins = [
        MadePlugin("a", register=lambda registry: registry.hook(said)),
        MadePlugin("b", register=lambda registry: registry.hook(other)),
    ]
    with pytest.raises(
        PluginError,
        match="b failed in register: PluginError: a declares the hook said already",
    ):
        Lifecycle(plugins, ServiceDirectory())


def test_what_is_no_router_is_refused_when_it_is_added() -> None:
    router: Any = "/things"
    plugin = MadePlugin("a", optional=True, register=lambda registry: registry.router(router))
    [left_out] = Lifecycle([plugin], ServiceDirectory()).plugins
    assert "a adds '/things', which is not a fastapi.APIRouter" in (left_out.error or "")


async def test_a_route_that_comes_after_the_application_was_built_is_an_error(run_host: RunHost) -> None:
    contexts: list[PluginContext] = []

    async def keep(context: PluginContext) -> None:
        contexts.append(context)

    await run_host(plugins=[MadePlugin("late", init=keep)])
    with pytest.raises(PluginError, match="late adds a route after the application was built"):
        contexts[0].web.websocket("/late", lambda socket: asyncio.sleep(0))


async def test_waiting_for_an_event_before_the_log_is_followed_is_an_error_and_not_a_hang(
    run_host: RunHost,
) -> None:
    async def wait(context: PluginContext) -> None:
        await context.wait_for_event(1)

    with pytest.raises(PluginError, match=r"plugin a failed in .*: a used wait_for_event\(\) before every"):
        async with in_time("the start is over"):
            await run_host(plugins=[MadePlugin("a", ready=wait)])


async def test_a_subscription_to_what_nobody_can_emit_is_told_of(run_host: RunHost) -> None:
    async def hear(_: Event[Said]) -> None: ...

    async def work(_: Event[Said], __: AsyncSession) -> None: ...

    stored = Hook("written", Said)

    async def subscribe(context: PluginContext) -> None:
        context.on_hook(said, hear, mode=Mode.INSTANCE_LOCAL)
        context.on_hook(stored, hear)
        context.on_hook(stored, work, mode=Mode.WORK_QUEUE, worker_group="readers")

    owner = MadePlugin("owner", register=lambda registry: registry.hook(said))
    with structlog.testing.capture_logs() as logs:
        await run_host(plugins=[MadePlugin("reader", ready=subscribe), owner])
    told = [one for one in logs if one["event"] == "subscription to a hook that no plugin declares"]
    assert [(one["hook"], one["plugins"]) for one in told] == [("written", ["reader"])]
