"""`ringfence up`: everything comes up with one command, and everything goes down with it."""

from __future__ import annotations

import json
import signal
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.instances import RINGFENCE, Command, all_gone, names_in
from tests.primitives import requires
from tests.waiting import wait_until

Up = Callable[..., Command]


@pytest.fixture
def data_dir(open_directory: Path) -> Path:
    return open_directory / "data"


@pytest.fixture
def up(data_dir: Path) -> Iterator[Up]:
    """Start `ringfence up` on the test's data directory and a free port."""
    started: list[Command] = []

    def start(*arguments: str) -> Command:
        command = Command("up", "--port", "0", "--data-dir", str(data_dir), *arguments)
        started.append(command)
        return command

    yield start
    for command in started:
        command.end()


def ask(data_dir: Path, *arguments: str) -> Any:
    """Run a command against the host in `data_dir`; its JSON."""
    finished = subprocess.run(
        [*RINGFENCE, *arguments, "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        env={"RINGFENCE_DATA_DIR": str(data_dir), "PATH": "/usr/bin:/bin"},
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


@requires("user namespaces")
@pytest.mark.slow
def test_a_satellite_is_connected_and_reused_and_nothing_outlives_it(up: Up, data_dir: Path) -> None:
    first = up()
    first.until_it_says("Ctrl-C")
    assert "Ringfence is running at http://127.0.0.1:" in first.output
    assert "local is online at revision 0" in first.output
    assert f"the token in {data_dir}/admin-token" in first.output
    assert f"RINGFENCE_DATA_DIR={data_dir} ringfence policy show" in first.output
    assert stat.S_IMODE((data_dir / "local-satellite-token").stat().st_mode) == 0o600
    result = ask(data_dir, "run", "--satellite", "local", "-c", "echo there")
    assert result["stdout"] == "there\n"
    [satellite] = ask(data_dir, "satellite", "list")["satellites"]
    family = first.family()
    assert len(family) > 2  # an agent and a database

    assert first.signalled(signal.SIGTERM) == 0
    # The kernel ends what waits in sandboxes, of the checks that were running, a moment after its supervisor.
    wait_until(lambda: all_gone(family), "something outlives it")
    assert "instance.json" not in names_in(data_dir)

    second = up()
    second.until_it_says("Ctrl-C")
    [again] = ask(data_dir, "satellite", "list")["satellites"]
    assert again["id"] == satellite["id"]
    assert second.signalled(signal.SIGINT) == 0


@pytest.mark.slow
def test_a_killed_host_takes_agent_and_database_with_it(up: Up, data_dir: Path) -> None:
    command = up()
    command.until_it_says("Ctrl-C")
    family = command.family()
    assert command.signalled(signal.SIGKILL) == -signal.SIGKILL
    wait_until(lambda: all_gone(family), f"left over: {family}")


def test_a_second_one_on_the_same_directory_says_who_holds_it(up: Up, data_dir: Path) -> None:
    first = up("--no-satellite")
    first.until_it_says("Ctrl-C")
    note = json.loads((data_dir / "instance.json").read_text())
    port = note["url"].rpartition(":")[2]
    for arguments in ((), ("--port", port)):
        second = up(*arguments)
        assert second.ended() == 1
        assert f"in use by process {first.process.pid}" in second.output
        assert note["url"] in second.output
    assert first.signalled(signal.SIGTERM) == 0


def test_a_taken_port_is_said_so_before_anything_is_made(up: Up, data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = up("--port", str(taken.getsockname()[1]))
        assert command.ended() == 1
    assert "cannot listen on 127.0.0.1 port" in command.output
    assert "Traceback" not in command.output
    assert not (data_dir / "postgres").exists()


@pytest.mark.parametrize("moment", ["Starting in", "new database cluster"])
def test_an_early_ctrl_c_leaves_nothing_running(up: Up, moment: str) -> None:
    command = up()
    command.until_it_says(moment)
    assert command.signalled(signal.SIGINT) == 0
    wait_until(lambda: all_gone(command.family()), "something is left")
    assert "Traceback" not in command.output


@pytest.mark.parametrize(
    ("arguments", "environ", "says"),
    [
        (("--port", "70000"), {}, "--port"),
        (("--port", "x"), {}, "--port"),
        ((), {"RINGFENCE_DATABASE_URL": "mysql://x"}, "RINGFENCE_DATABASE_URL"),
        ((), {"RINGFENCE_LOG_LEVEL": "loud"}, "RINGFENCE_LOG_LEVEL"),
    ],
)
def test_wrong_settings_are_status_2(arguments: tuple[str, ...], environ: dict[str, str], says: str) -> None:
    command = Command("up", *arguments, **environ)
    assert command.ended() == 2
    assert says in command.output
    assert "Traceback" not in command.output


def test_a_data_directory_that_cannot_be_made_is_said_so(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    command = Command("up", "--port", "0", "--data-dir", str(file / "data"))
    assert command.ended() == 1
    assert "cannot make the data directory" in command.output
