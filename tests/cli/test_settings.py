"""Settings: where they come from, what is said of those that are wrong or none, and what is never shown."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ringfence.process import settings_file
from ringfence.process.errors import UsageMistake
from ringfence.process.variables import OF_HOSTS, unknown_without_a_host
from ringfence.settings import HostSettings, of_model, unknown

from tests.cli.conftest import Command
from tests.cli.instances import RINGFENCE
from tests.cli.instances import Command as Process
from tests.primitives import requires

KEY = "c2VjcmV0IGtleSBvZiB0aGlydHktdHdvIGJ5dGVzISE="


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    directory.mkdir()
    return directory


Listed = Callable[..., Any]


@pytest.fixture
def listed(command: Command, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listed]:
    """What `ringfence settings --json` answers."""

    def ask(*, status: int = 0, **environ: str) -> Any:
        for name, value in {"RINGFENCE_DATA_DIR": str(data_dir), **environ}.items():
            monkeypatch.setenv(name, value)
        outcome = command("settings", "--json")
        assert outcome.status == status, outcome
        return outcome.json

    yield ask
    settings_file.apply(None)  # takes back what the file of this test has set


def by_name(answer: Any) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in answer["settings"]}


def test_each_setting_is_listed_with_its_value_its_default_and_where_it_comes_from(
    data_dir: Path, listed: Listed
) -> None:
    file = data_dir / "ringfence.toml"
    file.write_text(
        "port = 9000\nsatellite_run_retention_days = 2.5\ndrain_seconds = 7\nRINGFENCE_PYTHON = '/bin/sh'\n"
    )
    answer = listed(RINGFENCE_DRAIN_SECONDS="9", RINGFENCE_HOST="")
    assert answer["file"] == str(file)
    found = {
        name: (one["value"], one["source"], one["default"], one["owner"])
        for name, one in by_name(answer).items()
    }
    assert found["RINGFENCE_PORT"] == ("9000", "file", "8484", "host")
    assert found["RINGFENCE_SATELLITE_RUN_RETENTION_DAYS"] == ("2.5", "file", "1", "satellite")
    assert found["RINGFENCE_DRAIN_SECONDS"] == ("9", "environment", "20", "host")
    assert found["RINGFENCE_HOST"] == ("127.0.0.1", "default", "127.0.0.1", "host")
    assert found["RINGFENCE_PYTHON"][:2] == ("/bin/sh", "file")
    assert found["RINGFENCE_HEALTH_CHECKS_RESULT_RETENTION_DAYS"] == ("30", "default", "30", "health-checks")
    assert all(one["description"] for one in answer["settings"])
    assert answer["unknown"] == []


def test_what_loading_plugins_has_to_say_is_not_in_the_list(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "slow_to_load.py").write_text(
        "import structlog\nstructlog.get_logger('slow').warning('still loading')\n"
        "from ringfence import PluginInfo\nclass Slow:\n    info = PluginInfo(id='slow', version='1')\n"
    )
    info = tmp_path / "slow-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slow\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[ringfence.plugins]\nslow = slow_to_load:Slow\n")
    finished = subprocess.run(
        [*RINGFENCE, "settings", "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "RINGFENCE_DATA_DIR": str(data_dir), "PYTHONPATH": str(tmp_path)},
    )
    assert json.loads(finished.stdout)["unknown"] == []


def test_no_secret_is_shown(data_dir: Path, listed: Listed) -> None:
    url = "postgresql://me:hunter2@db.example/ringfence"
    answer = listed(
        RINGFENCE_SECRETS_KEY=KEY, RINGFENCE_TOKEN="rft_token-of-mine", RINGFENCE_DATABASE_URL=url
    )
    found = by_name(answer)
    assert found["RINGFENCE_SECRETS_KEY"]["value"] == found["RINGFENCE_TOKEN"]["value"] == "(hidden)"
    assert "db.example" in found["RINGFENCE_DATABASE_URL"]["value"]
    for secret in (KEY, "hunter2", "rft_token-of-mine"):
        assert secret not in json.dumps(answer)


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("RINGFENCE_PORT", "many", "must be a whole number"),
        ("RINGFENCE_SECRETS_KEY", "abc", "does not hold a valid key"),
        ("RINGFENCE_PYTHON", "/nope", "no program that can be run"),
        ("RINGFENCE_SATELLITE_RUN_RETENTION_DAYS", "-1", "more than"),
    ],
)
@pytest.mark.slow
def test_a_setting_that_is_wrong_is_named_in_the_list_and_at_the_start(
    data_dir: Path, variable: str, value: str, why: str, listed: Listed
) -> None:
    answer = listed(status=2, **{variable: value})
    assert {name for name, one in by_name(answer).items() if one["problem"]} == {variable}
    assert why in by_name(answer)[variable]["problem"]
    finished = subprocess.run(
        [*RINGFENCE, "up", "--data-dir", str(data_dir)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, variable: value},
    )
    assert finished.returncode == 2
    assert variable in finished.stderr
    assert why in finished.stderr
    assert "abc" not in finished.stderr


@pytest.fixture
def started(open_directory: Path) -> Iterator[Process]:
    """A host that is told to listen where its settings file says, and given a variable that is none."""
    directory = open_directory / "data"
    directory.mkdir(mode=0o711)
    (directory / "ringfence.toml").write_text("port = 0\nhost = '127.0.0.2'\n")
    process = Process("up", "--no-satellite", "--data-dir", str(directory), RINGFENCE_START_SECOND="5")
    yield process
    process.end()


@pytest.mark.slow
def test_a_host_starts_as_its_file_says_and_tells_of_variables_that_are_no_settings(started: Process) -> None:
    started.until_it_says("Ctrl-C")
    assert "Ringfence is running at http://127.0.0.2:" in started.output
    told = "RINGFENCE_START_SECOND is not a setting and has no effect: did you mean RINGFENCE_START_SECONDS?"
    assert started.output.count(told) == 1


def test_a_variable_that_resembles_no_setting_is_told_all_the_same() -> None:
    found = unknown(["RINGFENCE_XYZZY", "RINGFENCE_PORTT", "RINGFENCE_PORT", "HOME"], ["RINGFENCE_PORT"])
    assert [str(one) for one in found] == [
        "RINGFENCE_PORTT is not a setting and has no effect: did you mean RINGFENCE_PORT?",
        "RINGFENCE_XYZZY is not a setting and has no effect",
    ]


PROT = "RINGFENCE_PROT is not a setting and has no effect: did you mean RINGFENCE_PORT?"


@pytest.mark.parametrize(
    "arguments",
    [("run", "-c", "echo ran"), ("doctor",), ("token", "list")],
    ids=["run", "doctor", "another command"],
)
@requires("user namespaces")
def test_every_command_tells_of_variables_that_are_no_settings_beside_its_result(
    command: Command, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    quiet = command(*arguments, "--json")
    monkeypatch.setenv("RINGFENCE_PROT", "1")
    told = command(*arguments, "--json")
    assert told.stderr.splitlines() == [PROT, *quiet.stderr.splitlines()]
    assert told.status == quiet.status
    assert told.json.keys() == quiet.json.keys()


def test_a_command_tells_of_what_the_settings_file_misspells(data_dir: Path, command: Command) -> None:
    (data_dir / "ringfence.toml").write_text("prot = 1\n")
    assert command("token", "list").stderr.startswith(f"{PROT}\n")


def test_an_agent_tells_of_variables_that_are_no_settings_in_its_log(tmp_path: Path) -> None:
    def log(**environ: str) -> str:
        finished = subprocess.run(
            [
                *RINGFENCE,
                *("agent", "--url", "ws://127.0.0.1:1", "--client-id", "a"),
                *("--token-file", str(tmp_path / "none")),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, **environ},
        )
        assert finished.returncode == 2
        assert finished.stdout == ""
        return finished.stderr

    told = "RINGFENCE_HEARTBEAT_SECOND is not a setting and has no effect: did you mean RINGFENCE_HEARTBEAT_SECONDS?"
    assert log(RINGFENCE_HEARTBEAT_SECOND="1").count(told) == 1
    assert "is not a setting" not in log(RINGFENCE_HEARTBEAT_SECONDS="1")


def test_what_belongs_to_an_installed_plugin_is_for_a_host_to_judge() -> None:
    found = unknown_without_a_host(
        ["RINGFENCE_HEALTH_CHECKS_X", "RINGFENCE_SECRETS_KEY", "RINGFENCE_HEALTH", "RINGFENCE_PORT", "HOME"]
    )
    assert [one.variable for one in found] == ["RINGFENCE_HEALTH"]
    assert unknown_without_a_host(["RINGFENCE_CLOCK_SECONDS"], lambda: ["clock"]) == ()
    assert unknown_without_a_host(["RINGFENCE_CLOCK_SECONDS"], list) != ()


def test_the_settings_of_a_host_are_known_without_its_model() -> None:
    assert set(OF_HOSTS) == {one.variable for one in of_model(HostSettings, "host")}


def test_what_a_file_names_that_is_no_setting_is_told_too(data_dir: Path, listed: Listed) -> None:
    (data_dir / "ringfence.toml").write_text("prot = 1\n")
    assert listed()["unknown"] == [{"name": "RINGFENCE_PROT", "nearest": "RINGFENCE_PORT"}]


def test_another_file_can_be_named(data_dir: Path, tmp_path: Path, listed: Listed) -> None:
    (data_dir / "ringfence.toml").write_text("port = 1\n")
    other = tmp_path / "other.toml"
    other.write_text("port = 2\n")
    answer = listed(RINGFENCE_CONFIG=str(other))
    assert (answer["file"], by_name(answer)["RINGFENCE_PORT"]["value"]) == (str(other), "2")


def test_tracebacks_can_be_asked_for_in_the_file(data_dir: Path) -> None:
    def run() -> str:
        environ = {**os.environ, "RINGFENCE_DATA_DIR": str(data_dir)}
        return subprocess.run(
            [*RINGFENCE, "policy", "show"], capture_output=True, text=True, timeout=60, env=environ
        ).stderr

    assert "Traceback" not in run()
    (data_dir / "ringfence.toml").write_text("debug = true\n")
    assert "Traceback" in run()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("port = ", "is not TOML"),
        ("port = [1]", "must give port one value"),
        ("[satellite]\nport = 1", "must give satellite one value"),
        ("port = 1\nRINGFENCE_PORT = 2", "cannot set RINGFENCE_PORT twice"),
        ("config = 'x'", "cannot set config"),
        ("'a=b' = 1", "cannot be a setting"),
        ('host = "a\\u0000b"', "must give host one value"),
        ("data_dir = '/x'", "is in a data directory itself"),
    ],
)
def test_a_file_that_says_what_cannot_be_is_refused_by_name(data_dir: Path, text: str, why: str) -> None:
    (data_dir / "ringfence.toml").write_text(text)
    environ: dict[str, str] = {}
    with pytest.raises(UsageMistake, match=why) as told:
        settings_file.apply(data_dir, environ)
    assert str(data_dir / "ringfence.toml") in str(told.value)
    assert environ == {}


def test_a_file_that_everybody_may_write_is_refused(data_dir: Path) -> None:
    file = data_dir / "ringfence.toml"
    file.write_text("port = 1\n")
    file.chmod(0o666)
    with pytest.raises(UsageMistake, match="everybody may write"):
        settings_file.apply(data_dir, {})


@requires("root")
@pytest.mark.parametrize(
    ("uid", "gid", "mode", "why"),
    [
        (65532, 0, 0o600, "belongs to uid 65532"),
        (0, 65532, 0o660, "group 65532 may write"),
        (0, 65532, 0o640, None),
    ],
)
def test_a_file_that_others_decide_about_is_refused(
    data_dir: Path, uid: int, gid: int, mode: int, why: str | None
) -> None:
    file = data_dir / "ringfence.toml"
    file.write_text("port = 1\n")
    os.chown(file, uid, gid)
    file.chmod(mode)
    if why is None:
        assert settings_file.read(file) == {"RINGFENCE_PORT": "1"}
    else:
        with pytest.raises(UsageMistake, match=why):
            settings_file.read(file)


def test_what_is_no_file_is_refused_at_once(data_dir: Path) -> None:
    os.mkfifo(data_dir / "ringfence.toml")
    with pytest.raises(UsageMistake, match="not a regular file"):
        settings_file.apply(data_dir, {})


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(UsageMistake, match=r"cannot read the settings file .*/nowhere\.toml"):
        settings_file.apply(None, {"RINGFENCE_CONFIG": str(tmp_path / "nowhere.toml")})


def test_without_a_file_nothing_changes(data_dir: Path) -> None:
    environ: dict[str, str] = {}
    settings_file.apply(data_dir, environ)
    settings_file.apply(None, environ)
    assert environ == {}
