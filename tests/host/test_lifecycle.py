"""What a plugin lives through, and what becomes of the host when one fails."""

from __future__ import annotations

import asyncio

import pytest
import structlog
from fastapi import APIRouter
from pydantic import BaseModel
from ringfence import Event, Hook, Mode, PluginContext, Registry
from ringfence.host import Host
from ringfence.plugins.registry import PluginError
from ringfence.settings import HostSettings
from ringfence.testing import RunHost, client
from sqlalchemy import text
from starlette.responses import Response
from starlette.routing import Route

from tests.host.plugins import MadePlugin, refuse


class Said(BaseModel):
    word: str


said = Hook("said", Said, stored=False)


recorded = Hook("recorded", Said)


class Greeter:
    """The interface of a service."""


async def test_every_phase_runs_for_all_plugins_in_order_and_shutdown_in_reverse(
    database_url: str, run_host: RunHost
) -> None:
    diary: list[str] = []
    plugins = [MadePlugin("top", diary=diary, requires=("base",)), MadePlugin("base", diary=diary)]
    host = await run_host(plugins=plugins)
    assert diary == [
        "base: register",
        "top: register",
        "base: init",
        "top: init",
        "base: ready",
        "top: ready",
    ]
    assert [(one.info.id, one.phase) for one in host.plugins] == [("base", "ready"), ("top", "ready")]
    diary.clear()
    await host.__aexit__(None, None, None)
    assert diary == ["top: shutdown", "base: shutdown"]
    assert {one.phase for one in host.plugins} == {"stopped"}


@pytest.mark.parametrize("moment", ["init", "ready"])
async def test_a_failure_names_plugin_phase_and_cause_and_leaves_nothing_started(
    run_host: RunHost, moment: str
) -> None:
    diary: list[str] = []
    working = asyncio.Event()

    async def work() -> None:
        try:
            working.set()
            await asyncio.Event().wait()
        finally:
            diary.append("background work ended")

    async def start_work(context: PluginContext) -> None:
        context.spawn(work(), name="work")
        await working.wait()

    phase = {"init": "init", "ready": "after_plugins_ready"}[moment]
    plugins = [
        MadePlugin("base", diary=diary, init=start_work),
        MadePlugin("broken", diary=diary, requires=("base",), **{moment: refuse}),  # type: ignore[arg-type]
        MadePlugin("top", diary=diary, requires=("broken",)),
    ]
    with pytest.raises(PluginError, match=f"plugin broken failed in {phase}: Refusal: no such luck"):
        await run_host(plugins=plugins)
    ending = diary[diary.index(f"broken: {moment}") + 1 :]
    # Only what had been initialised is shut down, in reverse.
    initialised = ["base"] if moment == "init" else ["top", "broken", "base"]
    assert [line for line in ending if "shutdown" in line] == [f"{id}: shutdown" for id in initialised]
    assert ending.index("background work ended") < ending.index("base: shutdown")


async def test_a_failure_in_register_touches_nothing_outside(database_url: str, tmp_path: object) -> None:
    def fail(_registry: Registry) -> None:
        raise ValueError("no")

    settings = HostSettings(database_url="postgresql://nowhere.invalid/x", data_dir=f"{tmp_path}/none")
    with pytest.raises(PluginError, match="plugin a failed in register: ValueError: no"):
        async with Host(settings, plugins=[MadePlugin("a", register=fail)]):
            pass
    assert not settings.data_dir.exists()


async def test_an_api_mismatch_is_told_before_any_plugin_has_run(tmp_path: object) -> None:
    diary: list[str] = []
    settings = HostSettings(database_url="postgresql://nowhere.invalid/x", data_dir=f"{tmp_path}/none")
    with pytest.raises(PluginError, match=r"plugin new 1\.0 was written for plugin API 99"):
        async with Host(settings, plugins=[MadePlugin("a", diary=diary), MadePlugin("new", api=99)]):
            pass
    assert diary == []
    assert not settings.data_dir.exists()


@pytest.mark.parametrize("moment", ["register", "init", "ready"])
async def test_an_optional_plugin_that_fails_is_left_out_with_all_that_requires_it(
    run_host: RunHost, moment: str
) -> None:
    diary: list[str] = []

    def refuse_to_register(_registry: Registry) -> None:
        raise ValueError("no such luck")

    def declare(registry: Registry) -> None:
        registry.service(Greeter)
        registry.access_rule("thing", "do", "Do the thing")

    async def provide(context: PluginContext) -> None:
        context.services.provide(Greeter, Greeter())

    failing = {
        "register": MadePlugin("broken", optional=True, diary=diary, register=refuse_to_register),
        "init": MadePlugin("broken", optional=True, diary=diary, init=refuse),
        "ready": MadePlugin("broken", optional=True, diary=diary, ready=refuse),
    }[moment]
    host = await run_host(
        may_fail=True,
        plugins=[
            failing,
            MadePlugin("child", diary=diary, requires=("broken",), register=declare, init=provide),
            MadePlugin("grandchild", diary=diary, requires=("child",)),
            MadePlugin("unrelated", diary=diary),
        ],
    )
    assert {one.info.id: one.alive for one in host.plugins} == {
        "broken": False,
        "child": False,
        "grandchild": False,
        "unrelated": True,
    }
    errors = {one.info.id: one.error for one in host.plugins}
    phase = {"register": "register", "init": "init", "ready": "after_plugins_ready"}[moment]
    assert (errors["broken"] or "").startswith(f"plugin broken failed in {phase}: ")
    assert errors["child"] == "plugin child left out: it requires broken, which failed"
    assert errors["grandchild"] == "plugin grandchild left out: it requires child, which failed"
    assert "unrelated: ready" in diary
    assert "child: ready" not in diary
    if moment == "ready":
        # They were initialised, so they are shut down, dependents first.
        ended = [line for line in diary if line.endswith("shutdown")]
        assert ended == ["grandchild: shutdown", "child: shutdown", "broken: shutdown"]
    async with client(host) as http:
        listed = (await http.get("/api/host/plugins")).json()["plugins"]
        assert {one["id"]: one["error"] for one in listed} == errors


async def test_what_a_plugin_left_behind_when_it_failed_is_taken_away(run_host: RunHost) -> None:
    heard: list[str] = []
    ended = asyncio.Event()

    async def hear(event: Event[Said]) -> None:
        heard.append(event.payload.word)

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def subscribe_and_fail(context: PluginContext) -> None:
        context.on_hook(said, hear, mode=Mode.INSTANCE_LOCAL)
        context.spawn(work(), name="work")
        await asyncio.sleep(0)
        raise ValueError("too late")

    async def say(context: PluginContext) -> None:
        await context.emit_hook(said, Said(word="hello"))

    host = await run_host(
        may_fail=True,
        plugins=[
            MadePlugin("a-broken", optional=True, ready=subscribe_and_fail),
            MadePlugin("speaker", register=lambda registry: registry.hook(said), ready=say),
        ],
    )
    assert heard == []
    assert ended.is_set()
    assert host.runtime.bus.listeners(plugin="a-broken") == ()


async def test_a_task_that_outlives_its_plugin_can_do_nothing_in_its_name(run_host: RunHost) -> None:
    refused: list[str] = []
    go_on = asyncio.Event()
    ghosts: list[asyncio.Task[None]] = []

    async def hear(_event: Event[Said]) -> None: ...

    async def haunt(context: PluginContext) -> None:
        await go_on.wait()
        for use in (
            lambda: context.on_hook(said, hear, mode=Mode.INSTANCE_LOCAL),
            lambda: context.services.get(Greeter),
            lambda: context.spawn(asyncio.sleep(3600), name="more"),
        ):
            with pytest.raises(PluginError) as late:
                use()
            refused.append(str(late.value))
        with pytest.raises(PluginError) as late:
            await context.emit_hook(said, Said(word="boo"))
        refused.append(str(late.value))

    async def leak_and_fail(context: PluginContext) -> None:
        ghosts.append(asyncio.create_task(haunt(context)))
        raise ValueError("too late")

    ghost = MadePlugin(
        "ghost", optional=True, register=lambda registry: registry.hook(said), ready=leak_and_fail
    )
    host = await run_host(may_fail=True, plugins=[ghost])
    go_on.set()
    await ghosts[0]
    assert refused == [
        f"ghost used {use} after it was left out or shut down: start background work with context.spawn(), "
        "which ends it in time"
        for use in ("on_hook(said)", "services.get(Greeter)", "spawn(more)", "emit_hook(said)")
    ]
    assert {one.plugin for one in host.runtime.bus.listeners()} == {"host"}


async def test_each_plugin_is_handed_a_context_of_its_own(run_host: RunHost) -> None:
    contexts: dict[str, PluginContext] = {}

    async def keep(context: PluginContext) -> None:
        contexts[context.id] = context
        async with context.sessions() as session:
            assert (await session.execute(text("SELECT 1"))).scalar_one() == 1

    host = await run_host(plugins=[MadePlugin("a", init=keep), MadePlugin("b", init=keep)])
    assert contexts["a"] is not contexts["b"]
    assert contexts["a"].instance_id == contexts["b"].instance_id == host.instance_id
    with structlog.testing.capture_logs() as logs:
        contexts["b"].logger.info("hello")
    assert logs == [{"event": "hello", "plugin": "b", "log_level": "info"}]


@pytest.mark.parametrize("moment", ["init", "ready"])
async def test_a_plugin_that_was_left_out_has_no_routes_and_no_access_rules(
    run_host: RunHost, moment: str
) -> None:
    def declare(registry: Registry) -> None:
        registry.access_rule("thing", "do", "Do the thing")
        registry.router(APIRouter(routes=[Route("/thing", lambda request: Response())]))

    plugin = {
        "init": MadePlugin("broken", optional=True, register=declare, init=refuse),
        "ready": MadePlugin("broken", optional=True, register=declare, ready=refuse),
    }[moment]
    host = await run_host(may_fail=True, plugins=[plugin])
    assert "broken.thing.do" not in host.access.rules
    async with client(host) as admin:
        assert (await admin.get("/api/broken/thing")).status_code == 404
        refused = await admin.post("/api/host/tokens", json={"name": "x", "rules": ["broken.thing.do"]})
        assert refused.status_code == 422
