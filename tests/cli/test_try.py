"""`ringfence check try` on this machine: real sandboxes, no host, and nothing that is stored."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ringfence_health_checks.commands.api import TRIES

from tests.cli.conftest import Command
from tests.cli.fake_host import Answer, FakeHost
from tests.cli.test_check_work import TRIED
from tests.primitives import requires

pytestmark = requires("user namespaces")


def written(tmp_path: Path, name: str, text: str) -> str:
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


PLUGIN = """\
echo "USERS WARNING - 12 users |users=12;10;20;0 took=1.5s"
exit 1
"""


def test_one_object_tells_machines_how_it_was_read(command: Command, tmp_path: Path) -> None:
    script = written(tmp_path, "users.sh", PLUGIN)
    outcome = command(
        *("check", "try", script, "--format", "nagios", "--json"),
        *("--assert", "metric.users < 15", "--assert", "metric.took < 1 else degraded"),
    )
    assert outcome.status == 1
    found = outcome.json
    run = found.pop("run")
    assert found == {
        "status": "degraded",
        "message": "metric.took < 1 else degraded: 1.5 s; USERS WARNING - 12 users",
        "metrics": {
            "users": {"value": 12.0, "warn": "10", "crit": "20", "min": 0.0},
            "took": {"value": 1.5, "unit": "s"},
        },
        "assertions": [
            {"assertion": "metric.users < 15", "held": True, "state": "healthy", "actual": "12"},
            {
                "assertion": "metric.took < 1 else degraded",
                "held": False,
                "state": "degraded",
                "actual": "1.5 s",
            },
        ],
        "notes": [],
        "kind": "shell",
        "format": "nagios",
    }
    assert run["exitCode"] == 1
    assert run["sandbox"]["enforced"]["filesystem"] is True
    # What `ringfence run --json` prints.
    assert run.keys() == command("run", "--json", script).json.keys()


@pytest.mark.parametrize(
    ("script", "status", "state"),
    [
        ("echo fine", 0, "healthy"),
        ("""echo '{"status": "degraded"}'""", 1, "degraded"),
        ("echo broken; exit 7", 2, "unhealthy"),
        ("""echo '{"status": "unknown"}'""", 3, "unknown"),
    ],
)
def test_the_exit_status_is_that_of_a_plugin(command: Command, script: str, status: int, state: str) -> None:
    outcome = command("check", "try", "-c", script)
    assert outcome.status == status
    assert state in outcome.stdout.splitlines()[1]


def test_a_script_that_nothing_runs_is_unknown_and_says_why(command: Command, tmp_path: Path) -> None:
    outcome = command("check", "try", written(tmp_path, "x", "#!/usr/bin/no-such-thing\n"), "--json")
    assert (outcome.status, outcome.json["status"]) == (3, "unknown")
    assert "no-such-thing" in outcome.json["message"]


def test_a_program_is_tried_with_its_own_options(command: Command) -> None:
    outcome = command("check", "try", "/usr/bin/printf", "--", "%s\n", "-w", "a b")
    assert outcome.status == 0
    assert "a b" in outcome.stdout
    assert command("check", "try", "/usr/bin/test", "-d", "/usr").status == 0
    assert command("check", "try", "/usr/bin/test", "-f", "/usr").status == 2


def test_it_is_given_what_a_check_is_given(command: Command, tmp_path: Path) -> None:
    script = written(
        tmp_path, "lag.sh", 'echo "$0 $1 $A $(cat) $RINGFENCE_CHECK_NAME $RINGFENCE_VARS_DISK"\n'
    )
    outcome = command(
        *("check", "try", script, "--env", "A={check.name}", "--stdin", written(tmp_path, "in", "input")),
        *("--var", "disk=90", "--json", "--", "{vars.disk}"),
    )
    assert outcome.json["message"].endswith("lag.sh 90 lag.sh input lag.sh 90")


def test_a_placeholder_that_nobody_fills_in_is_unknown(command: Command) -> None:
    outcome = command("check", "try", "-c", "echo fine", "--env", "A={vars.nowhere}", "--json")
    assert (outcome.status, outcome.json["run"]) == (3, None)
    assert "{vars.nowhere} is not known here" in outcome.json["message"]


def test_secrets_are_stood_in_for_and_said_to_be(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("check", "try", "-c", 'echo "$URL"', "--secret", "URL=pg://{user}:{db-password}@db", "--json")
    outcome = command(*words)
    assert outcome.json["message"] == "pg://***:***@db"
    assert outcome.json["notes"] == ["given *** in place of db-password, user: no secrets are read here"]
    monkeypatch.setenv("MY_PASSWORD", "correct-horse")
    script = 'echo "$URL" | tr a-z b-za'
    outcome = command(
        *("check", "try", "-c", script, "--secret", "URL={user}:{db-password}@db", "--json"),
        *("--secret-from", "db-password=MY_PASSWORD"),
    )
    assert outcome.json["message"] == "***:dpssfdu-ipstf@ec"
    assert outcome.json["notes"] == ["given *** in place of user: no secrets are read here"]
    assert command(*words, "--secret-from", "user=NOWHERE").status == 2


def test_a_policy_file_holds_for_the_try(command: Command, tmp_path: Path) -> None:
    policy = written(tmp_path, "policy.json", json.dumps({"resources": {"maxProcesses": 7}}))
    outcome = command("check", "try", "-c", "ulimit -u", "--policy", policy, "--json")
    assert outcome.json["run"]["sandbox"]["requested"]["resources"]["maxProcesses"] == 7
    assert command("check", "try", "-c", "true", "--policy", policy, "--on", "core").status == 2


def test_nothing_that_a_script_says_reaches_the_terminal_as_it_is(command: Command) -> None:
    script = r"""printf 'a\033[2Jb\007\n' >&2; printf 'c\033]0;t\007|x\033[1m=1\n'; exit 2"""
    outcome = command("check", "try", "-c", script, "--format", "nagios")
    assert outcome.status == 2
    assert not set(outcome.stdout + outcome.stderr) & {"\x1b", "\x07"}
    assert r"a\x1b[2Jb" in outcome.stdout


def test_it_is_tried_in_a_place_of_a_host(command: Command, host: FakeHost) -> None:
    host.on("POST", TRIES, Answer(200, TRIED))
    outcome = command("check", "try", "-c", "true", "--on", "berlin", "--timeout", "2", "--json")
    assert (outcome.status, outcome.json) == (1, TRIED)
    [request] = host.requests
    assert request.body == {
        "kind": "shell",
        "script": "true",
        "name": "try",
        "system": "try",
        "on": "berlin",
        "timeoutSeconds": 2.0,
    }


def test_it_needs_nothing_of_a_server() -> None:
    without = (
        "import sys; sys.modules.update(dict.fromkeys(('sqlalchemy', 'fastapi', 'uvicorn', 'blinker')));"
    )
    program = f"{without} from ringfence.cli import main; main(['check', 'try', '-c', 'echo fine'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "healthy  fine" in done.stdout


def test_help_loads_no_sandbox() -> None:
    program = (
        "import sys, atexit; loaded = ('ringfence.sandbox', 'ringfence.scripts', 'httpx');"
        "atexit.register(lambda: print([name for name in loaded if name in sys.modules]));"
        "sys.argv = ['ringfence', 'check', 'try', '--help'];"
        "from ringfence.cli.app import app; app()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
