"""What a plugin lives through, and what becomes of the host when one fails."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import MutableMapping
from typing import Any

import pytest
import structlog
from fastapi import APIRouter
from pydantic import BaseModel
from ringfence import Event, Hook, Mode, PluginContext, PluginInfo, Registry, hookimpl
from ringfence.hooks import HookError
from ringfence.host import Host
from ringfence.plugins.lifecycle import Lifecycle
from ringfence.plugins.registry import PluginError
from ringfence.plugins.services import ServiceDirectory
from ringfence.settings import HostSettings
from ringfence.testing import RunHost, client, eventually
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response
from starlette.routing import Route

from tests.host.plugins import Act, MadePlugin, refuse
from tests.waiting import PATIENCE_SECONDS, in_time, until


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


async def hang(_context: PluginContext) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("moment", ["init", "ready"])
async def test_a_plugin_that_hangs_has_failed_when_its_time_is_up(run_host: RunHost, moment: str) -> None:
    diary: list[str] = []
    phase = {"init": "init", "ready": "after_plugins_ready"}[moment]
    plugins = [MadePlugin("base", diary=diary), MadePlugin("stuck", requires=("base",), **{moment: hang})]  # type: ignore[arg-type]
    told = rf"plugin stuck failed in {phase}: TimeoutError: stuck: {phase} did not finish within 0\.1 s"
    with pytest.raises(PluginError, match=told):
        async with in_time("the start is over"):
            await run_host(plugins=plugins, start_seconds=0.1)
    assert diary[-1] == "base: shutdown"


@pytest.mark.parametrize("moment", ["init", "ready"])
async def test_an_optional_plugin_that_hangs_is_left_out_with_those_that_require_it(
    run_host: RunHost, moment: str
) -> None:
    stuck = MadePlugin("stuck", optional=True, **{moment: hang})  # type: ignore[arg-type]
    plugins = [MadePlugin("base"), stuck, MadePlugin("top", requires=("stuck",), optional=True)]
    async with in_time("the start is over"):
        host = await run_host(may_fail=True, plugins=plugins, start_seconds=0.1)
    assert {one.info.id: one.alive for one in host.plugins} == {"base": True, "stuck": False, "top": False}
    errors = {one.info.id: one.error or "" for one in host.plugins}
    assert "did not finish within 0.1 s" in errors["stuck"]
    assert errors["top"] == "plugin top left out: it requires stuck, which failed"


async def test_an_optional_plugin_that_hangs_and_ignores_its_cancellation_is_left_behind(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringfence.tasks.CANCEL_SECONDS", 0.05)
    release = asyncio.Event()

    async def ignore(_context: PluginContext) -> None:
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()

    async with in_time("the start is over"):
        host = await run_host(
            may_fail=True,
            plugins=[MadePlugin("stubborn", optional=True, init=ignore), MadePlugin("base")],
            start_seconds=0.05,
        )
    assert [one.info.id for one in host.plugins if one.alive] == ["base"]
    release.set()


async def test_while_a_plugin_is_waited_for_the_log_says_so(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringfence.slow_start.SLOW_SECONDS", 0.02)

    with structlog.testing.capture_logs() as logs:

        def told() -> int:
            mine = {"event": "waiting for a plugin", "plugin": "slow", "phase": "init"}
            return len([log for log in logs if mine.items() <= log.items()])

        async def take_long(_context: PluginContext) -> None:
            await until(lambda: told() >= 2)

        host = await run_host(plugins=[MadePlugin("slow", init=take_long), MadePlugin("base")])
    assert all(one.alive for one in host.plugins)
    assert {log["log_level"] for log in logs if log["event"] == "waiting for a plugin"} == {"warning"}


def hold_up_until_it_is_told(logs: list[MutableMapping[str, Any]]) -> None:
    """What no cancellation reaches: returns only when the log has said so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not any("cannot be ended from within" in log["event"] for log in logs):
        assert time.monotonic() < deadline
        time.sleep(0.005)


async def test_a_register_that_hangs_cannot_be_ended_and_the_log_says_so(run_host: RunHost) -> None:
    with structlog.testing.capture_logs() as logs:
        plugin = MadePlugin("stuck", register=lambda _: hold_up_until_it_is_told(logs))
        await run_host(plugins=[plugin], start_seconds=0.05)
    (line,) = [log for log in logs if "cannot be ended from within" in log["event"]]
    assert (line["plugin"], line["phase"], line["log_level"]) == ("stuck", "register", "error")
    assert line["at"].startswith(f"{__file__}:")


async def test_an_init_that_blocks_the_event_loop_cannot_be_ended_and_the_log_says_so(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringfence.plugins.lifecycle.CANCEL_SECONDS", -1.0)

    with structlog.testing.capture_logs() as logs:

        async def block(_context: PluginContext) -> None:
            hold_up_until_it_is_told(logs)

        await run_host(plugins=[MadePlugin("stuck", init=block)], start_seconds=0.05)
    (line,) = [log for log in logs if "cannot be ended from within" in log["event"]]
    assert (line["plugin"], line["phase"]) == ("stuck", "init")


async def test_a_shutdown_that_takes_too_long_or_fails_stops_nobody_elses(run_host: RunHost) -> None:
    diary: list[str] = []
    host = await run_host(
        plugins=[
            MadePlugin("a", diary=diary),
            MadePlugin("b", diary=diary, requires=("a",), shutdown=refuse),
            MadePlugin("c", diary=diary, requires=("b",), shutdown=hang),
        ],
        shutdown_seconds=0.05,
    )
    diary.clear()
    with structlog.testing.capture_logs() as logs:
        async with in_time("the end"):
            await host.__aexit__(None, None, None)
    assert diary == ["c: shutdown", "b: shutdown", "a: shutdown"]
    failures = {log["plugin"]: log["error"] for log in logs if log["log_level"] == "error"}
    assert failures == {
        "c": "TimeoutError: c: shutdown did not finish within 0.05 s",
        "b": "Refusal: no such luck",
    }


async def test_a_shutdown_that_ignores_its_cancellation_is_left_behind(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringfence.tasks.CANCEL_SECONDS", 0.05)
    release = asyncio.Event()

    async def ignore(_context: PluginContext) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    host = await run_host(plugins=[MadePlugin("stubborn", shutdown=ignore)], shutdown_seconds=0.05)
    async with in_time("the end"):
        await host.__aexit__(None, None, None)
    release.set()


async def test_background_work_is_cancelled_before_its_plugin_is_shut_down(run_host: RunHost) -> None:
    diary: list[str] = []
    working = asyncio.Event()

    async def work() -> None:
        working.set()
        try:
            await asyncio.Event().wait()
        finally:
            diary.append("work ended")

    async def start(context: PluginContext) -> None:
        context.spawn(work(), name="work")
        await working.wait()

    host = await run_host(plugins=[MadePlugin("a", diary=diary, ready=start)])
    await host.__aexit__(None, None, None)
    assert diary[-2:] == ["work ended", "a: shutdown"]


async def test_background_work_that_fails_makes_the_instance_unready(run_host: RunHost) -> None:
    async def fail() -> None:
        raise ValueError("gone")

    tasks: list[asyncio.Task[None]] = []

    async def start(context: PluginContext) -> None:
        tasks.append(context.spawn(fail(), name="work"))

    host = await run_host(plugins=[MadePlugin("a", ready=start)])
    await asyncio.wait(tasks)
    async with client(host) as http:
        answer = await http.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["failedTasks"] == {"a:work": "ValueError: gone"}


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


async def test_waiting_for_an_event_before_the_log_is_followed_is_an_error_and_not_a_hang(
    run_host: RunHost,
) -> None:
    async def wait(context: PluginContext) -> None:
        await context.wait_for_event(1)

    with pytest.raises(PluginError, match=r"plugin a failed in .*: a used wait_for_event\(\) before every"):
        async with in_time("the start is over"):
            await run_host(plugins=[MadePlugin("a", ready=wait)])


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


async def exits(_: PluginContext) -> None:
    raise SystemExit(3)


async def lets_out_a_cancellation(_: PluginContext) -> None:
    never = asyncio.create_task(asyncio.Event().wait())
    never.cancel()
    await never


@pytest.mark.parametrize("act", [exits, lets_out_a_cancellation])
async def test_an_optional_plugin_that_exits_or_lets_a_cancellation_out_is_left_out_and_no_more(
    run_host: RunHost, act: Act
) -> None:
    def exit_at_once(_: Registry) -> None:
        raise SystemExit(3)

    plugins = [
        MadePlugin("in-register", optional=True, register=exit_at_once),
        MadePlugin("in-init", optional=True, init=act),
        MadePlugin("in-ready", optional=True, ready=act),
        MadePlugin("good"),
    ]
    host = await run_host(may_fail=True, plugins=plugins)
    assert {one.info.id for one in host.plugins if one.alive} == {"good"}


@pytest.mark.parametrize("act", [exits, lets_out_a_cancellation])
async def test_background_work_that_exits_or_lets_a_cancellation_out_has_failed_and_no_more(
    run_host: RunHost, act: Act
) -> None:
    async def work(context: PluginContext) -> None:
        await act(context)

    async def ready(context: PluginContext) -> None:
        context.spawn(work(context), name="work")

    host = await run_host(plugins=[MadePlugin("a", ready=ready)])

    async def failed() -> list[str]:
        return list(host.runtime.tasks.failures)

    assert await eventually(failed) == ["a:work"]
