"""What can be subscribed with: every sort of callable that takes what it gets, kept for as long as its plugin lives."""

from __future__ import annotations

import functools
import gc
import weakref
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest
from ringfence import Event, Hook, Mode, PluginContext
from ringfence.hooks import HookError
from ringfence.testing import RunHost
from sqlalchemy.ext.asyncio import AsyncSession

from tests.eventlog.probe import Noted, Probe, emit, noted, query, whispered
from tests.waiting import until

heard: list[tuple[str, int]] = []


@pytest.fixture(autouse=True)
def _nothing_heard() -> None:
    heard.clear()


async def hear(event: Event[Noted], by: str = "function") -> None:
    heard.append((by, event.payload.n))


async def hear_as(by: str, event: Event[Noted]) -> None:
    heard.append((by, event.payload.n))


class Ear:
    """Something that listens, and that nobody but its subscription holds on to."""

    async def hear(self, event: Event[Noted]) -> None:
        heard.append(("method", event.payload.n))

    async def __call__(self, event: Event[Noted]) -> None:
        heard.append(("object", event.payload.n))


@pytest.mark.parametrize(
    ("make", "by"),
    [
        (lambda: hear, "function"),
        (lambda: lambda event: hear(event, "lambda"), "lambda"),
        (lambda: functools.partial(hear_as, "partial"), "partial"),
        (lambda: Ear().hear, "method"),
        (Ear, "object"),
    ],
)
async def test_whatever_takes_an_event_and_can_be_awaited_hears_it(
    run_host: RunHost, make: Callable[[], Any], by: str
) -> None:
    async def ready(context: PluginContext) -> None:
        context.on_hook(noted, make())

    probe = Probe(ready)
    await run_host(plugins=[probe])
    gc.collect()
    [event] = await emit(probe.context, 1)
    await probe.context.wait_for_event(event.position)
    assert heard == [(by, 1)]


async def test_a_listener_is_kept_until_its_plugin_goes_and_no_longer(run_host: RunHost) -> None:
    kept: list[weakref.ref[Ear]] = []

    async def ready(context: PluginContext) -> None:
        ear = Ear()
        kept.append(weakref.ref(ear))
        context.on_hook(whispered, ear.hear, mode=Mode.INSTANCE_LOCAL)

    probe = Probe(ready)
    host = await run_host(plugins=[probe])
    gc.collect()
    await probe.context.emit_hook(whispered, Noted(n=1))
    assert heard == [("method", 1)]
    host.runtime.bus.disconnect_plugin("probe")
    gc.collect()
    assert kept[0]() is None


async def test_who_subscribes_while_an_event_is_delivered_hears_the_next_one(run_host: RunHost) -> None:
    async def ready(context: PluginContext) -> None:
        async def subscribe(event: Event[Noted]) -> None:
            if event.payload.n == 1:
                context.on_hook(noted, hear)

        context.on_hook(noted, subscribe)

    probe = Probe(ready)
    await run_host(plugins=[probe])
    events = await emit(probe.context, 1, 2)
    await probe.context.wait_for_event(events[-1].position)
    assert heard == [("function", 2)]


async def work(event: Event[Noted], session: AsyncSession) -> None: ...


@pytest.mark.parametrize(
    ("handler", "group", "said"),
    [
        (
            Ear().hear,
            "a",
            r"probe subscribes to noted with Ear.hear\(event.*be called with \(event, session\): async",
        ),
        (work, None, r"work\(event.*would be called with \(event\): async def work\(event\)"),
        (lambda: None, None, r"<lambda>\(\), which would be called with \(event\)"),
        (Noted, None, "Noted.*a handler gets a session in work-queue mode, and only there"),
        (None, None, "with None, which is not a function"),
    ],
)
async def test_what_could_not_be_called_is_refused_at_once(
    run_host: RunHost, handler: Any, group: str | None, said: str
) -> None:
    mode: dict[str, Any] = {"mode": Mode.WORK_QUEUE, "worker_group": group} if group else {}
    probe = Probe()
    await run_host(plugins=[probe])
    with pytest.raises(HookError, match=said):
        probe.context.on_hook(noted, handler, **mode)
    assert probe.context._runtime.bus.listeners(plugin="probe") == ()


@pytest.mark.parametrize("payload", [dict, Noted | Mode, Noted(n=1), "Noted"])
def test_a_hook_carries_a_pydantic_model_and_nothing_else(payload: Any) -> None:
    with pytest.raises(HookError, match=r"hook odd carries .*, which is not a pydantic model: .*RootModel"):
        Hook("odd", payload)


def no_coroutine(event: Event[Noted], session: AsyncSession | None = None) -> None:
    heard.append(("no coroutine", event.payload.n))


async def test_a_handler_that_is_not_async_is_told_so_in_every_mode(
    run_host: RunHost, logged: list[MutableMapping[str, Any]]
) -> None:
    handler: Any = no_coroutine

    async def ready(context: PluginContext) -> None:
        context.on_hook(noted, handler)
        context.on_hook(noted, handler, mode=Mode.WORK_QUEUE, worker_group="workers", max_retries=0)
        context.on_hook(whispered, handler, mode=Mode.INSTANCE_LOCAL)

    probe = Probe(ready)
    host = await run_host(plugins=[probe])
    [event] = await emit(probe.context, 1)
    await probe.context.emit_hook(whispered, Noted(n=2))
    await probe.context.wait_for_event(event.position)

    def told() -> list[tuple[str, str]]:
        return [
            (one["event"], one["error"])
            for one in logged
            if one["log_level"] == "error" and "write it as `async def`" in one["error"]
        ]

    await until(lambda: len(told()) == 3)
    assert sorted(event for event, _ in told()) == [
        "listener failed",
        "listener failed",
        "worker group failed at an event",
    ]
    [(error,)] = await query(host, "SELECT error FROM failed_events")
    assert (
        error == "HookError: no_coroutine returned NoneType, which cannot be awaited: write it as `async def`"
    )
