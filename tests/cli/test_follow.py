"""`ringfence events tail --follow` beside a host that is restarted, on another port each time."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.instances import Command
from tests.cli.test_up import ask
from tests.waiting import wait_until


@pytest.fixture
def data_dir(open_directory: Path) -> Path:
    return open_directory / "data"


@pytest.fixture
def commands() -> Iterator[list[Command]]:
    started: list[Command] = []
    yield started
    for command in started:
        command.end()


def events_in(command: Command) -> list[dict[str, Any]]:
    """The events that it has printed."""
    return [json.loads(line) for line in command.output.splitlines() if line.startswith("{")]


@pytest.mark.slow
def test_it_goes_on_when_the_host_comes_back_and_loses_and_repeats_nothing(
    data_dir: Path, commands: list[Command]
) -> None:
    def up() -> Command:
        host = Command("up", "--port", "0", "--no-satellite", "--data-dir", str(data_dir))
        commands.append(host)
        host.until_it_says("Ctrl-C")
        return host

    def change(processes: int) -> None:
        ask(data_dir, "policy", "patch", f"resources.maxProcesses={processes}", "--yes")

    host = up()
    change(100)
    following = Command(
        "events", "tail", "--stream", "sandbox-policy", "--follow", "--json", RINGFENCE_DATA_DIR=str(data_dir)
    )
    commands.append(following)
    following.until_it_says('"version": 1,')
    for round_ in (1, 2):
        change(100 + 2 * round_)
        assert host.signalled(signal.SIGTERM) == 0
        host = up()
        change(101 + 2 * round_)
        following.until_it_says(f'"version": {1 + 2 * round_},')
    assert [event["version"] for event in events_in(following)] == [1, 2, 3, 4, 5]
    assert following.output.count("reconnecting") == 2
    assert host.signalled(signal.SIGTERM) == 0
    wait_until(lambda: following.output.count("reconnecting") >= 3)
    assert following.signalled(signal.SIGINT) == 130
    assert "Traceback" not in following.output
