"""What a plugin's author does wrongly is told when it happens, and names the plugin and the thing."""

from __future__ import annotations

from typing import Protocol

import pytest
from fastapi import APIRouter
from ringfence import PluginContext, PluginInfo, Registry, hookimpl
from ringfence.plugins.registry import PluginError
from ringfence.testing import Record, RunHost, client, eventually

from tests.host.plugins import MadePlugin, Refusal, refuse


class Clock(Protocol):
    zone: str

    def now(self) -> int: ...

    async def later(self) -> int: ...


class Whole:
    zone = "UTC"

    def now(self) -> int:
        return 7

    async def later(self) -> int:
        return 8


class Half:
    def now(self) -> int:
        return 7

    later = "not a method"


def clocks(implementation: object) -> MadePlugin:
    async def provide(context: PluginContext) -> None:
        context.services.provide(Clock, implementation)

    return MadePlugin("clocks", register=lambda registry: registry.service(Clock), init=provide)


async def test_the_kit_raises_what_an_optional_plugin_raised(run_host: RunHost, record: Record) -> None:
    for moment in ("init", "ready"):
        for start in (run_host, record):
            plugin = MadePlugin("flaky", optional=True, **{moment: refuse})  # type: ignore[arg-type]
            with pytest.raises(
                PluginError, match=r"plugin flaky failed in .*: Refusal: no such luck"
            ) as failed:
                await (start(plugins=[plugin]) if start is run_host else record(plugin))
            assert isinstance(failed.value.__cause__, Refusal)


async def test_the_kit_leaves_it_out_like_a_host_where_a_test_says_that_it_may_fail(
    run_host: RunHost,
) -> None:
    host = await run_host(plugins=[MadePlugin("flaky", optional=True, init=refuse)], may_fail=True)
    assert [one.alive for one in host.plugins] == [False]


async def test_a_service_of_a_plugin_that_is_not_required_is_refused(run_host: RunHost) -> None:
    async def use(context: PluginContext) -> None:
        context.services.get(Clock)

    said = r"user used services.get\(Clock\) of clocks, which it does not require: say requires=\('clocks',\)"
    with pytest.raises(PluginError, match=said):
        await run_host(plugins=[clocks(Whole()), MadePlugin("user", ready=use)])


async def test_what_a_required_plugin_requires_is_there_too(run_host: RunHost) -> None:
    found: list[int] = []

    async def use(context: PluginContext) -> None:
        found.append(context.services.get(Clock).now())

    between = MadePlugin("between", requires=("clocks",))
    await run_host(plugins=[clocks(Whole()), between, MadePlugin("user", requires=("between",), ready=use)])
    assert found == [7]


async def test_a_plugin_finds_a_service_that_it_can_do_without_or_none(run_host: RunHost) -> None:
    found: list[Clock | None] = []

    async def use(context: PluginContext) -> None:
        found.append(context.services.find(Clock))

    clock = Whole()
    await run_host(plugins=[clocks(clock), MadePlugin("user", ready=use)])
    await run_host(plugins=[MadePlugin("user", ready=use)])
    assert found == [clock, None]


class Unmarked:
    info = PluginInfo(id="unmarked", version="1")

    @hookimpl
    def register(self, registry: Registry) -> None:
        """Declare nothing."""

    async def init(self, context: PluginContext) -> None:
        raise AssertionError("nobody calls this")


async def test_a_moment_without_its_mark_is_refused(run_host: RunHost) -> None:
    with pytest.raises(
        PluginError, match=r"plugin unmarked failed in register: .*init would never be called.*@hookimpl"
    ):
        await run_host(plugins=[Unmarked()])


async def answer() -> str:
    return "hello"


@pytest.mark.parametrize("moment", ["register", "init"])
async def test_a_route_that_is_declared_twice_is_refused(run_host: RunHost, moment: str) -> None:
    def routes() -> APIRouter:
        router = APIRouter()
        router.get("/things/{name}")(answer)
        return router

    async def init(context: PluginContext) -> None:
        if moment == "init":
            context.web.router(routes())

    def register(registry: Registry) -> None:
        registry.router(routes())
        if moment == "register":
            again = APIRouter()
            again.get("/things/{id}")(answer)
            registry.router(again)

    with pytest.raises(PluginError, match=r"twofold: the route GET /things/\{\w+\} is declared twice"):
        await run_host(plugins=[MadePlugin("twofold", register=register, init=init)])


async def test_routes_that_differ_by_method_or_path_are_several(run_host: RunHost) -> None:
    def register(registry: Registry) -> None:
        router = APIRouter()
        for path in ("/things", "/things/{id}", "/things/{path:path}"):
            router.get(path)(answer)
            router.post(path)(answer)
        registry.router(router)

    host = await run_host(plugins=[MadePlugin("many", register=register)])
    assert [one.alive for one in host.plugins] == [True]


async def test_an_extension_or_a_service_without_a_method_is_refused(run_host: RunHost) -> None:
    async def extend(context: PluginContext) -> None:
        context.services.extend(Clock, Half())

    with pytest.raises(PluginError, match="adder extends Clock with Half, which has no method later"):
        await run_host(plugins=[MadePlugin("adder", init=extend)])
    with pytest.raises(
        PluginError, match="clocks provides Clock with object, which has no method later, now"
    ):
        await run_host(plugins=[clocks(object())])


@pytest.mark.parametrize("optional", [True, False])
async def test_a_job_that_dies_is_named_and_an_optional_plugins_takes_no_readiness_away(
    run_host: RunHost, optional: bool
) -> None:
    async def job() -> None:
        raise Refusal("no such luck")

    async def ready(context: PluginContext) -> None:
        context.spawn(job(), name="job")

    host = await run_host(plugins=[MadePlugin("worker", optional=optional, ready=ready)])
    async with client(host) as http:

        async def settled() -> bool:
            state = (await http.get("/readyz")).json()
            return bool(state["failedTasks"] and state["tail"]["live"])

        await eventually(settled)
        answer = await http.get("/readyz")
    assert answer.json()["failedTasks"] == {"worker:job": "Refusal: no such luck"}
    assert answer.status_code == (200 if optional else 503)
