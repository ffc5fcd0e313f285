"""`ringfence up` beside a plugin that will not let go: it ends all the same, and says who would not."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ringfence import tasks

from tests.cli.instances import Command
from tests.waiting import PATIENCE_SECONDS

PLUGIN = """
import asyncio, time
from ringfence import PluginInfo, hookimpl

class Stubborn:
    info = PluginInfo(id="stubborn", version="1")

    @hookimpl
    async def after_plugins_ready(self, context):
        context.spawn(self.ignore(), name="ignores")
        context.spawn(asyncio.to_thread(time.sleep, 3600), name="blocks a thread")

    async def ignore(self):
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                print("no, I will not", flush=True)

    @hookimpl
    async def shutdown(self, context):
        await self.ignore()
"""


@pytest.fixture
def packages(open_directory: Path) -> Path:
    """A directory with the plugin as pip would have installed it."""
    packages = open_directory / "packages"
    metadata = packages / "stubborn-1.dist-info"
    metadata.mkdir(parents=True)
    (packages / "stubborn_plugin.py").write_text(PLUGIN)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: stubborn\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[ringfence.plugins]\nstubborn = stubborn_plugin:Stubborn\n")
    return packages


@pytest.fixture
def up(open_directory: Path, packages: Path) -> Iterator[Command]:
    command = Command(
        *("up", "--port", "0", "--no-satellite", "--data-dir", str(open_directory / "data")),
        PYTHONPATH=f"{packages}{os.pathsep}{os.environ.get('PYTHONPATH', '')}".rstrip(os.pathsep),
        RINGFENCE_SHUTDOWN_SECONDS="1",
    )
    yield command
    command.end()


@pytest.mark.slow
def test_a_plugin_that_ignores_its_end_does_not_keep_the_host(up: Command) -> None:
    up.until_it_says("Ctrl-C")
    asked_at = time.monotonic()
    up.process.send_signal(signal.SIGTERM)
    try:
        status = up.process.wait(4 * tasks.CANCEL_SECONDS + PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        pytest.fail(f"it still runs after {time.monotonic() - asked_at:.0f} s:\n{up.output}")
    assert up.ended() == status == 0
    assert "no, I will not" in up.output
    assert "Stopped." in up.output
    last = up.output.splitlines()[-1]
    assert last.startswith("The command ends now and does not wait for")
    assert "stubborn:ignores" in last
    assert "a thread" in last
