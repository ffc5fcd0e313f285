"""The command as a process: its start, its ends, and that nobody sees a traceback who did not ask for one."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from ringfence.cli import address, client

from tests.cli.conftest import Command
from tests.cli.fake_host import Answer, FakeHost, Request, problem
from tests.cli.instances import RINGFENCE
from tests.waiting import PATIENCE_SECONDS
from tests.warm_process import heed_interrupts

HEAVY = (
    "sqlalchemy",
    "fastapi",
    "httpx",
    "pydantic",
    "alembic",
    "psycopg",
    "uvicorn",
    "asyncio",
    "structlog",
)


def test_help_names_every_command(command: Command) -> None:
    shown = command("--help")
    assert shown.status == 0
    for name in ("demo", "doctor", "plugins", "policy", "run", "satellite", "token", "up"):
        assert f" {name} " in shown.stdout


def test_the_version_is_shown(command: Command) -> None:
    assert command("--version").stdout == "ringfence 0.1.0\n"


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from ringfence.cli import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit:\n"
        "    print('\\n' + ' '.join(sys.modules))\n"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(finished.stdout.splitlines()[-1].split())
    assert "ringfence.cli.app" in loaded
    assert loaded.isdisjoint(HEAVY), sorted(loaded.intersection(HEAVY))


def test_a_fault_of_ours_is_told_without_a_traceback(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down() -> address.Address:
        raise LookupError("the \x1b[31mreason")

    monkeypatch.setattr(client, "find_address", break_down)
    outcome = command("policy", "show")
    assert outcome.status == 1
    assert r"unexpected LookupError: the \x1b[31mreason" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert "Traceback" in command("--debug", "policy", "show").stderr


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("policy", "show"), 1, "gone fishing"),
        (("policy", "set", "no-such-file.json"), 2, "cannot read no-such-file.json"),
        (("run",), 2, "give a script"),
        (("events", "tail"), 1, "gone fishing"),
        (("policy", "rollout"), 1, "gone fishing"),
    ],
)
def test_a_failure_is_told_to_machines_as_one_line_of_json(
    command: Command, host: FakeHost, arguments: tuple[str, ...], status: int, says: str
) -> None:
    for path in ("script-packages/sandbox-policy", "host/events", "satellite/rollout"):
        host.on("GET", f"/api/{path}", problem(403, "gone fishing", until="noon"))
    outcome = command(*arguments, "--json")
    assert outcome.status == status
    assert says in outcome.json["error"]["message"]
    assert outcome.json["error"].get("problem", {}).get("until") == ("noon" if status == 1 else None)
    assert outcome.stdout.count("\n") == 1
    assert says in outcome.stderr
    assert command(*arguments).stdout == ""


@pytest.fixture
def waiting_host(host: FakeHost) -> tuple[FakeHost, threading.Event, threading.Event]:
    """A host that has been asked, and does not answer until told to."""
    asked, answer = threading.Event(), threading.Event()

    def respond(_: Request) -> Answer:
        asked.set()
        answer.wait(PATIENCE_SECONDS)
        return Answer(200, {"plugins": []})

    host.on("GET", "/api/host/plugins", respond)
    return host, asked, answer


def test_ctrl_c_ends_quietly_with_130(
    waiting_host: tuple[FakeHost, threading.Event, threading.Event],
) -> None:
    _, asked, answer = waiting_host
    process = subprocess.Popen(
        [*RINGFENCE, "plugins"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    assert asked.wait(PATIENCE_SECONDS)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS)
    answer.set()
    assert (process.returncode, stdout, stderr) == (130, "", "")


def test_a_reader_that_leaves_early_is_no_fault(host: FakeHost) -> None:
    host.on("GET", "/api/host/plugins", Answer(200, {"plugins": [], "padding": "x" * 1_000_000}))
    reader, writer = os.pipe()
    os.close(reader)
    try:
        finished = subprocess.run(
            [*RINGFENCE, "plugins", "--json"], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60
        )
    finally:
        os.close(writer)
    assert finished.returncode == 1
    assert finished.stderr == ""


def test_output_that_the_terminal_cannot_show_is_spelled_out(host: FakeHost) -> None:
    plugin = {"id": "café-猫", "version": "1", "phase": "ready"}
    host.on("GET", "/api/host/plugins", Answer(200, {"plugins": [plugin]}))
    environ = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    finished = subprocess.run(
        [*RINGFENCE, "plugins"], capture_output=True, text=True, env=environ, timeout=60
    )
    assert finished.returncode == 0, finished.stderr
    assert r"caf\xe9-\u732b" in finished.stdout


def test_a_plugins_command_that_cannot_be_loaded_breaks_no_other(tmp_path: Path) -> None:
    info = tmp_path / "stranger-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[ringfence.commands]\nodd = no_such_module:odd\n")
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*RINGFENCE, *arguments], capture_output=True, text=True, env=environ, timeout=60
        )

    assert run("--version").returncode == 0
    odd = run("odd")
    assert odd.returncode == 1
    assert "`ringfence odd` (no_such_module:odd) cannot be loaded: ModuleNotFoundError" in odd.stderr
    assert "Traceback" not in odd.stderr
    told = run("odd", "--option", "--json", "word")
    assert told.returncode == 1
    assert "cannot be loaded" in json.loads(told.stdout)["error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "redirected", "says"),
    [
        ("apply -f -", "<&- >&-", "there is no document"),
        ("run -", "</dev/zero", "standard input is larger than 16384 KiB"),
        ("run --kind shell /dev/zero", "", "/dev/zero is larger than 16384 KiB"),
        ("secret set API_TOKEN", "</dev/zero", "the value is larger than 1024 KiB"),
    ],
)
def test_standard_streams_may_be_closed_or_have_no_end(
    host: FakeHost, arguments: str, redirected: str, says: str
) -> None:
    host.on("POST", "/api/host/apply", problem(422, "there is no document"))
    command = f"{' '.join(map(shlex.quote, RINGFENCE))} {arguments} {redirected}"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert says in done.stderr
    assert "unexpected" not in done.stderr


def test_a_token_that_is_not_accepted_is_told_by_what_said_it(host: FakeHost, tmp_path: Path) -> None:
    host.on("GET", "/api/host/plugins", problem(401, "Unauthorized"))
    file = tmp_path / "token"
    for content, says in (("rft_old", "check --token-file."), ("two words", "Check --token-file.")):
        file.write_text(content)
        done = subprocess.run(
            [*RINGFENCE, "--token-file", str(file), "plugins"], capture_output=True, text=True, timeout=60
        )
        assert says in done.stderr


INTERRUPTED_AT = """
import atexit, importlib.abc, os, runpy, signal, sys

at = sys.argv.pop(1)

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == at:
            os.write(1, b"interrupted")
            signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Finder())
if at == "its end":
    atexit.register(signal.raise_signal, signal.SIGINT)
runpy.run_module("ringfence", run_name="__main__")
"""


@pytest.mark.parametrize(
    ("at", "printed"),
    [
        *((one, "interrupted") for one in ("ringfence.cli", "typer", "ringfence.process.settings_file")),
        ("ringfence.cli.commands.settings", "interrupted"),
        ("its end", "ringfence 0.1.0\n"),
    ],
)
def test_ctrl_c_ends_quietly_while_a_command_is_imported_and_at_its_end(at: str, printed: str) -> None:
    command = "--version" if at == "its end" else "settings"
    finished = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_AT, at, command], capture_output=True, text=True
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (130, printed, "")


def test_a_command_that_ignores_ctrl_c_from_its_start_goes_on_doing_so() -> None:
    ignoring = INTERRUPTED_AT.replace("signal.default_int_handler", "signal.SIG_IGN")
    finished = subprocess.run(
        [sys.executable, "-c", ignoring, "typer", "--version"], capture_output=True, text=True
    )
    assert (finished.returncode, finished.stdout) == (0, "interruptedringfence 0.1.0\n")
