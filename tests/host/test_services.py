"""Services and extension points: found by type, and every failure names who is missing."""

from __future__ import annotations

from typing import Protocol

import pytest
from ringfence import PluginContext, Registry
from ringfence.plugins.registry import PluginError
from ringfence.plugins.services import ServiceError
from ringfence.testing import RunHost

from tests.host.plugins import MadePlugin, refuse


class Clock(Protocol):
    def now(self) -> int: ...


class Check(Protocol):
    def run(self) -> str: ...


class Fixed:
    def __init__(self, time: int) -> None:
        self.time = time

    def now(self) -> int:
        return self.time


class Named:
    def __init__(self, name: str) -> None:
        self.name = name

    def run(self) -> str:
        return self.name


def provider(id: str = "clocks", **more: object) -> MadePlugin:
    async def provide(context: PluginContext) -> None:
        context.services.provide(Clock, Fixed(7))

    return MadePlugin(id, register=lambda registry: registry.service(Clock), init=provide, **more)  # type: ignore[arg-type]


def point(id: str = "checks", **more: object) -> MadePlugin:
    return MadePlugin(id, register=lambda registry: registry.extension_point(Check), **more)  # type: ignore[arg-type]


def extender(id: str, **more: object) -> MadePlugin:
    async def extend(context: PluginContext) -> None:
        context.services.extend(Check, Named(id))

    return MadePlugin(id, init=extend, **more)  # type: ignore[arg-type]


async def test_a_service_is_found_by_its_type(run_host: RunHost) -> None:
    times: list[int] = []

    async def use(context: PluginContext) -> None:
        times.append(context.services.get(Clock).now())

    await run_host(plugins=[provider(), MadePlugin("user", requires=("clocks",), ready=use)])
    assert times == [7]


async def test_extensions_come_in_the_plugins_order(run_host: RunHost) -> None:
    ran: list[str] = []

    async def use(context: PluginContext) -> None:
        ran.extend(check.run() for check in context.services.extensions(Check))

    await run_host(plugins=[extender("z"), extender("b"), point(ready=use), extender("a", requires=("z",))])
    assert ran == ["b", "z", "a"]


async def test_a_point_that_nobody_extends_is_empty(run_host: RunHost) -> None:
    found: list[tuple[Check, ...]] = []

    async def use(context: PluginContext) -> None:
        found.append(context.services.extensions(Check))

    await run_host(plugins=[point(ready=use)])
    assert found == [()]


async def use_clock(context: PluginContext) -> None:
    context.services.get(Clock)


async def use_checks(context: PluginContext) -> None:
    context.services.extensions(Check)


@pytest.mark.parametrize(
    ("plugins", "said"),
    [
        (
            lambda: [MadePlugin("user", ready=use_clock)],
            r"plugin user failed in after_plugins_ready: ServiceError: no plugin provides \S*\.Clock; "
            "is the plugin that owns it installed",
        ),
        (
            lambda: [MadePlugin("user", ready=use_checks)],
            r"no plugin declares the extension point \S*\.Check; is the plugin that owns it installed",
        ),
        (
            lambda: [MadePlugin("clocks", register=lambda registry: registry.service(Clock))],
            r"plugin clocks failed in init: ServiceError: clocks declared \S*\.Clock but did not provide it",
        ),
        (
            lambda: [provider("one"), provider("two")],
            r"plugin two failed in register: ServiceError: two declares the service \S*\.Clock, "
            "which one has declared already",
        ),
        (
            lambda: [point("one"), point("two")],
            r"two declares the extension point \S*\.Check, which one has declared already",
        ),
    ],
)
async def test_what_cannot_be_resolved_is_an_error_that_names_who(
    run_host: RunHost, plugins: object, said: str
) -> None:
    with pytest.raises(PluginError, match=said):
        await run_host(plugins=plugins())  # type: ignore[operator]


async def test_only_the_plugin_that_declared_a_service_provides_it_and_only_once(run_host: RunHost) -> None:
    async def provide(context: PluginContext) -> None:
        context.services.provide(Clock, Fixed(1))

    async def provide_twice(context: PluginContext) -> None:
        await provide(context)
        await provide(context)

    def declare(registry: Registry) -> None:
        registry.service(Clock)

    with pytest.raises(PluginError, match=r"thief provides \S*\.Clock without having declared it"):
        await run_host(plugins=[provider(), MadePlugin("thief", init=provide)])
    with pytest.raises(PluginError, match=r"clocks provides \S*\.Clock twice"):
        await run_host(plugins=[MadePlugin("clocks", register=declare, init=provide_twice)])


@pytest.mark.parametrize("moment", ["init", "ready"])
async def test_services_and_points_of_a_plugin_that_failed_are_gone_with_it(
    run_host: RunHost, moment: str
) -> None:
    said: list[str] = []

    def declare(registry: Registry) -> None:
        registry.service(Clock)
        registry.extension_point(Check)

    async def provide(context: PluginContext) -> None:
        context.services.provide(Clock, Fixed(1))
        if moment == "init":
            await refuse(context)

    async def use(context: PluginContext) -> None:
        for attempt in (use_clock, use_checks):
            with pytest.raises(ServiceError) as gone:
                await attempt(context)
            said.append(str(gone.value))

    broken = MadePlugin(
        "broken",
        optional=True,
        register=declare,
        init=provide,
        ready=refuse if moment == "ready" else None,
    )
    host = await run_host(may_fail=True, plugins=[broken, MadePlugin("user", ready=use)])
    assert [one.alive for one in host.plugins] == [False, True]
    for line, name in zip(said, ("Clock", "Check"), strict=True):
        assert f"{name} went with the plugin broken, which was left out" in line
        assert "requires=('broken',)" in line


async def test_extensions_of_a_plugin_that_failed_are_gone_with_it(run_host: RunHost) -> None:
    ran: list[str] = []

    async def use(context: PluginContext) -> None:
        ran.extend(check.run() for check in context.services.extensions(Check))

    await run_host(
        may_fail=True,
        plugins=[
            extender("a-broken", optional=True, ready=refuse),
            extender("b-fine"),
            point(ready=use),
        ],
    )
    assert ran == ["b-fine"]


async def test_extending_after_others_may_have_read_the_point_is_an_error(run_host: RunHost) -> None:
    async def extend(context: PluginContext) -> None:
        context.services.extend(Check, Named("late"))

    with pytest.raises(PluginError, match="late extends Check too late: do it in init"):
        await run_host(plugins=[point(), MadePlugin("late", ready=extend)])
