"""Code that blocks the event loop is named in the log: whose it is, and where."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from ringfence import Event, Hook, Mode, PluginContext, Registry
from ringfence.plugins import blocked_loop
from ringfence.testing import PATIENCE_SECONDS, RunHost, eventually
from sqlalchemy.ext.asyncio import AsyncSession

from tests.host.plugins import MadePlugin


class Rung(BaseModel):
    times: int


rung = Hook("bell-rung", Rung)


class Log:
    """Notes what is told first of the plugin `blocker`, and lets go of whoever waits for that."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}
        self.came = threading.Event()

    def warning(self, message: str, **more: Any) -> None:
        whose = more.get("plugin") or more.get("task", "").partition(":")[0]
        if whose == "blocker" and not self.came.is_set():
            self.told = {"message": message, **more}
            self.came.set()

    def block(self) -> None:
        """Hold up the event loop until this is told."""
        assert self.came.wait(PATIENCE_SECONDS), "nobody was told"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log()
    monkeypatch.setattr(blocked_loop, "_log", log)
    monkeypatch.setattr(blocked_loop, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(blocked_loop, "HELD_SECONDS", 0.2)
    return log


class Blocking:
    """Blocks as a handler in one of the modes."""

    def __init__(self, log: Log, mode: Mode) -> None:
        self.log, self.mode = log, mode

    async def on_rung(self, event: Event[Rung]) -> None:
        self.log.block()

    async def work(self, event: Event[Rung], session: AsyncSession) -> None:
        self.log.block()

    async def ready(self, context: PluginContext) -> None:
        if self.mode is Mode.BROADCAST:
            context.on_hook(rung, self.on_rung)
        else:
            context.on_hook(rung, self.work, mode=Mode.WORK_QUEUE, worker_group="ringers")
        await context.emit_hook(rung, Rung(times=1), standalone=True)


@pytest.mark.parametrize(
    ("mode", "handler"), [(Mode.BROADCAST, "Blocking.on_rung"), (Mode.WORK_QUEUE, "Blocking.work")]
)
async def test_a_handler_that_blocks_is_named_with_its_plugin_and_its_line(
    run_host: RunHost, log: Log, mode: Mode, handler: str
) -> None:
    def register(registry: Registry) -> None:
        registry.hook(rung)

    await run_host(plugins=[MadePlugin("blocker", register=register, ready=Blocking(log, mode).ready)])
    await eventually(_came(log))
    assert (log.told["plugin"], log.told["hook"], log.told["handler"]) == ("blocker", "bell-rung", handler)
    file, _, line = log.told["at"].rpartition(":")
    assert file == __file__
    assert Path(__file__).read_text().splitlines()[int(line) - 1].strip() == "self.log.block()"


async def test_a_task_that_blocks_is_named(run_host: RunHost, log: Log) -> None:
    async def block() -> None:
        log.block()

    async def ready(context: PluginContext) -> None:
        context.spawn(block(), name="counting")

    await run_host(plugins=[MadePlugin("blocker", ready=ready)])
    await eventually(_came(log))
    assert log.told["task"] == "blocker:counting"


def _came(log: Log) -> Any:
    async def came() -> bool:
        return log.came.is_set()

    return came
