"""Plugins that hang, block, ignore their end or fail later: the host goes on, and the log says who it was."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import MutableMapping
from typing import Any

import pytest
import structlog
from ringfence import PluginContext, Registry
from ringfence.plugins.registry import PluginError
from ringfence.testing import RunHost, client, eventually

from tests.host.plugins import Act, MadePlugin, refuse
from tests.waiting import PATIENCE_SECONDS, in_time, until


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
