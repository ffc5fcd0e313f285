"""Code that blocks the event loop is named in the log: whose it is, and where."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter
from pydantic import BaseModel
from ringfence import AnyEvent, Event, Hook, Job, Mode, PluginContext, Registry, RunningJob
from ringfence.plugins import blocked_loop
from ringfence.plugins.blocked_loop import HELD_SECONDS, LOOK_SECONDS, Hold, Look, Telling
from ringfence.testing import PATIENCE_SECONDS, RunHost, client, served
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect

from tests.host.plugins import MadePlugin
from tests.waiting import until


class Rung(BaseModel):
    times: int


rung = Hook("bell-rung", Rung)
tolled = Hook("bell-tolled", Rung)
called = Hook("bell-called", Rung)
ring = Job("ring", Rung)


class Log:
    """Notes what is told of the plugin `blocker`, and lets go of what blocks until then."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.over: list[dict[str, Any]] = []
        self.came = threading.Event()

    def warning(self, message: str, **more: Any) -> None:
        if more.get("plugin") == "blocker":
            self.told.append({"message": message, **more})
            self.came.set()

    def info(self, message: str, **more: Any) -> None:
        if more.get("plugin") == "blocker":
            self.over.append({"message": message, **more})


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log()
    monkeypatch.setattr(blocked_loop, "_log", log)
    monkeypatch.setattr(blocked_loop, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(blocked_loop, "HELD_SECONDS", 0.1)
    monkeypatch.setattr(blocked_loop, "SAME_SECONDS", 0.0)
    return log


class Blocker:
    """A plugin that blocks in each of the ways in which its code is called."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.context: PluginContext
        self.plugin = MadePlugin("blocker", register=self.register, init=self.init, ready=self.ready)

    def register(self, registry: Registry) -> None:
        for hook in (rung, tolled, called):
            registry.hook(hook)
        registry.job(ring)

    async def init(self, context: PluginContext) -> None:
        self.context = context
        router = APIRouter()
        router.get("/bells/{bell}")(self.route)
        router.get("/gathered")(self.gathering)
        context.web.router(router)
        context.web.websocket("/bells", self.socket)
        self.log.came.wait(PATIENCE_SECONDS)  # in init

    async def ready(self, context: PluginContext) -> None:
        context.on_hook(rung, self.on_rung)
        context.on_hook(tolled, self.work, mode=Mode.WORK_QUEUE, worker_group="ringers")
        context.on_job(ring, self.do)
        context.on_events(self.hear, worker_group="hearers", wanted=lambda name: name == called.name)

    async def on_rung(self, event: Event[Rung]) -> None:
        self.log.came.wait(PATIENCE_SECONDS)  # on_rung

    async def work(self, event: Event[Rung], session: AsyncSession) -> None:
        self.log.came.wait(PATIENCE_SECONDS)  # work

    async def hear(self, event: AnyEvent, session: AsyncSession) -> None:
        self.log.came.wait(PATIENCE_SECONDS)  # hear

    async def do(self, job: RunningJob[Rung], session: AsyncSession) -> None:
        self.log.came.wait(PATIENCE_SECONDS)  # do

    async def route(self, bell: str) -> None:
        self.log.came.wait(PATIENCE_SECONDS)  # route

    async def gathering(self) -> None:
        await asyncio.gather(self._part())

    async def _part(self) -> None:
        self.log.came.wait(PATIENCE_SECONDS)  # part

    async def socket(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self.log.came.wait(PATIENCE_SECONDS)  # socket
        await websocket.close()

    async def spawned(self) -> None:
        self.log.came.wait(PATIENCE_SECONDS)  # spawned

    async def later(self) -> None:
        asyncio.get_running_loop().call_later(0, self._at_last)

    def _at_last(self) -> None:
        self.log.came.wait(PATIENCE_SECONDS)  # at last

    async def waits_for_a_child(self) -> None:
        # Blocks within the standard library, which waits there as the loop does.
        with subprocess.Popen(["sleep", "3600"], stdout=subprocess.PIPE) as child:
            threading.Thread(target=self._end, args=(child,)).start()
            child.communicate()  # child

    def _end(self, child: subprocess.Popen[bytes]) -> None:
        self.log.came.wait(PATIENCE_SECONDS)
        child.kill()

    async def computes(self) -> None:
        while not self.log.came.is_set():  # computing
            sum(range(1000))  # computing

    def emit(self, hook: Hook[Rung]) -> Callable[[], Awaitable[object]]:
        return lambda: self.context.emit_hook(hook, Rung(times=1), standalone=True)


def line_of(told: dict[str, Any]) -> str:
    file, _, line = told["at"].rpartition(":")
    assert file == __file__, told
    return Path(__file__).read_text().splitlines()[int(line) - 1].strip()


async def test_whoever_blocks_the_loop_is_named_with_plugin_and_line(run_host: RunHost, log: Log) -> None:
    blocker = Blocker(log)
    host = await run_host(plugins=[blocker.plugin])
    context = blocker.context

    async def get(path: str) -> None:
        async with client(host) as http:
            await http.get(f"/api/blocker{path}")

    async def connected() -> None:
        async with (
            served(host) as url,
            connect(f"{url.replace('http', 'ws', 1)}/api/ws/blocker/bells") as peer,
        ):
            with contextlib.suppress(Exception):
                await peer.recv()

    async def spawn(work: Any, name: str) -> None:
        context.spawn(work(), name=name)

    def handler(hook: str, name: str) -> dict[str, str]:
        return {"hook": hook, "handler": f"Blocker.{name}"}

    cases: list[tuple[Callable[[], Awaitable[object]], dict[str, str], str]] = [
        (blocker.emit(rung), handler("bell-rung", "on_rung"), "on_rung"),
        (blocker.emit(tolled), handler("bell-tolled", "work"), "work"),
        (blocker.emit(called), handler("all hooks", "hear"), "hear"),
        (lambda: context.enqueue(ring, Rung(times=1)), {"job": "ring"}, "do"),
        (lambda: get("/bells/7"), {"route": "GET /api/blocker/bells/{bell}"}, "route"),
        (lambda: get("/gathered"), {"route": "GET /api/blocker/gathered"}, "part"),
        (connected, {"route": "WS /api/ws/blocker/bells"}, "socket"),
        (lambda: spawn(blocker.spawned, "counting"), {"task": "counting"}, "spawned"),
        (lambda: spawn(blocker.later, "timer"), {"task": "timer"}, "at last"),
        (lambda: spawn(blocker.waits_for_a_child, "child"), {"task": "child"}, "child"),
        (lambda: spawn(blocker.computes, "sums"), {"task": "sums"}, "computing"),
    ]
    assert (log.told[0]["phase"], line_of(log.told[0]).endswith("# in init")) == ("init", True)
    for act, what, comment in cases:
        log.told.clear()
        log.came.clear()
        await act()
        await until(lambda: log.told, f"{comment} is told")
        told = log.told[0]
        assert what.items() <= told.items(), told
        assert told["message"] == "the event loop is blocked: nothing else runs"
        assert line_of(told).endswith(f"# {comment}"), told
    assert {one["message"] for one in log.over} == {"the event loop goes on"}


async def test_many_short_callbacks_are_nobodys_fault(run_host: RunHost, log: Log) -> None:
    """Also where they run in the same task, or are called for the same socket, again and again."""
    blocker = Blocker(log)
    log.came.set()
    await run_host(plugins=[blocker.plugin])
    log.told.clear()
    busy = 0

    async def hurry() -> None:
        nonlocal busy
        loop = asyncio.get_running_loop()
        until = loop.time() + 20 * blocked_loop.HELD_SECONDS
        while loop.time() < until:
            sum(range(1000))
            busy += 1
            await asyncio.sleep(0)

    await blocker.context.spawn(hurry(), name="hurry")
    assert busy > 20
    assert log.told == []


def looks(*steps: tuple[float, float, float]) -> float:
    """How long a callback has held the loop, after looks so many seconds apart; of those, it computed and starved."""
    look = Look(0.0)
    hold = Hold(look)
    seconds = 0.0
    for passed, computed, starved in steps:
        look = Look(look.at + passed, look.computed + computed, look.starved + starved)
        seconds = hold.goes_on(look)
    return round(seconds, 3)


def test_what_counts_is_computing_and_waiting_and_not_a_machine_that_is_too_busy() -> None:
    look = LOOK_SECONDS
    assert looks(*[(look, look, 0.0)] * 10) == round(10 * look, 3), "it computes"
    assert looks(*[(look, 0.0, 0.0)] * 10) == round(10 * look, 3), "it waits, as time.sleep does"
    assert looks(*[(look, look / 10, look * 0.9)] * 10) == round(look, 3), "others have the processor"
    assert looks((3600.0, 0.0, 0.0)) <= look, "the process was stopped, or the machine suspended"
    assert looks((12.0, 11.9, 0.05)) > 11, "it computes, and does not let go of the interpreter"
    assert looks((1.0, 0.02, 0.0)) <= look + 0.02, "another thread has not let go of it"


def test_a_holdup_is_told_after_a_second_and_then_ever_more_seldom() -> None:
    telling = Telling()
    telling.begins()
    due = [tenths / 10 for tenths in range(1, 1300) if telling.is_due(tenths / 10)]
    assert due == [pytest.approx(HELD_SECONDS - LOOK_SECONDS), 4.5, 22.5, 112.5]
    telling.begins()
    assert telling.is_due(HELD_SECONDS)


def test_the_same_place_is_told_once_a_minute_with_how_often_it_was() -> None:
    telling = Telling()
    assert telling.times(("a",), 0.0) == 1
    assert telling.times(("b",), 1.0) == 1
    assert [telling.times(("a",), 10.0 * n) for n in range(1, 8)] == [None] * 5 + [6, None]
