"""What a check runs, as `check create` and `check update` are told it; and how they say what they understood."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ringfence.scripts import Format
from ringfence_health_checks.commands.api import CHECKS, TRIES
from ringfence_health_checks.commands.work import FormatName

from tests.cli.conftest import Command
from tests.cli.fake_host import Answer, FakeHost, problem
from tests.cli.test_check import check

ENV = "/usr/bin/env"
TRIED = {
    "status": "degraded",
    "message": "nearly\x1b[2Jfull",
    "metrics": {"used": {"value": 91.5, "unit": "%", "warn": "90", "min": 0.0}},
    "assertions": [{"assertion": "metric.used < 90", "held": False, "state": "degraded", "actual": "91.5"}],
    "notes": ["a \x1b]0;note"],
    "kind": "program",
    "format": "nagios",
    "run": None,
    "on": "core",
}


@pytest.fixture
def made(host: FakeHost) -> FakeHost:
    host.on("POST", CHECKS, lambda request: Answer(201, {**check(), **request.body}))
    host.on("POST", TRIES, Answer(200, TRIED))
    host.on("GET", CHECKS, Answer(200, {"checks": [check()]}))
    host.on("PATCH", f"{CHECKS}/id-of-disk", Answer(200, check()))
    return host


def asked(host: FakeHost) -> dict[str, Any]:
    """The check that was created."""
    [request] = [one for one in host.requests if (one.method, one.path) == ("POST", CHECKS)]
    body: dict[str, Any] = request.body
    return body


def test_formats_are_named_as_those_that_are_read() -> None:
    assert set(FormatName) == {one.value for one in Format}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-w", "10"], ["-w", "10"]),
        (["-w", "10", "-c", "5%", "-p", "/"], ["-w", "10", "-c", "5%", "-p", "/"]),
        (["-w10", "--every", "30", "--warning=3", "x"], ["-w10", "--warning=3", "x"]),
        (["--every=30", "-l", "--", "--every", "7"], ["-l", "--every", "7"]),
        (["--", "-w", "10", "--", "--every", "3"], ["-w", "10", "--", "--every", "3"]),
    ],
)
def test_what_follows_a_program_is_the_programs_apart_from_long_options_of_ours(
    command: Command, made: FakeHost, words: list[str], expected: list[str]
) -> None:
    outcome = command("check", "create", "disk", ENV, *words)
    assert outcome.status == 0, outcome.stderr
    body = asked(made)
    assert body["command"] == [ENV, *expected]
    assert "script" not in body
    assert body["intervalSeconds"] == (30.0 if "30" in "".join(words) else 60.0)
    assert f"the command {ENV}" in outcome.stdout
    assert "read as exit" in outcome.stdout


def test_options_before_the_program_are_ours(command: Command, made: FakeHost) -> None:
    outcome = command("check", "create", "--every", "5", "disk", "--env", "A=b", ENV, "-c", "x")
    assert outcome.status == 0, outcome.stderr
    body = asked(made)
    assert (body["intervalSeconds"], body["env"], body["command"]) == (5.0, {"A": "b"}, [ENV, "-c", "x"])


def test_after_a_script_an_unknown_option_stays_a_mistake(
    command: Command, made: FakeHost, tmp_path: Path
) -> None:
    script = tmp_path / "disk.sh"
    script.write_text("df\n")
    script.chmod(0o755)
    outcome = command("check", "create", "disk", str(script), "-w", "10")
    assert (outcome.status, made.requests) == (2, [])
    assert "No such option: -w" in outcome.stderr
    assert command("check", "create", "disk", str(script), "--", "-w", "10").status == 0
    assert (asked(made)["args"], asked(made)["fileName"]) == (["-w", "10"], "disk.sh")


def test_a_link_that_leads_out_of_the_programs_is_a_script(tmp_path: Path, command: Command) -> None:
    from ringfence.cli import is_program

    assert is_program(ENV)
    assert not is_program(f"/usr/..{tmp_path}/x")
    assert not is_program("/usr/bin")
    assert not is_program("usr/bin/env")
    assert not is_program("/etc/passwd")


def test_a_program_can_be_named_that_is_not_on_this_machine(command: Command, made: FakeHost) -> None:
    assert command("check", "create", "disk", "--command", "/usr/lib/elsewhere", "-w", "1").status == 0
    assert asked(made)["command"] == ["/usr/lib/elsewhere", "-w", "1"]


def test_everything_that_a_script_is_given_is_in_the_check(
    command: Command, made: FakeHost, tmp_path: Path
) -> None:
    script, given = tmp_path / "lag.py", tmp_path / "input"
    script.write_text("def main(context): ...\n")
    given.write_text("some input")
    outcome = command(
        *("check", "create", "lag", str(script), "--format", "json", "--assert", "json.$.lag < 10"),
        *("--env", "A=b=c", "--stdin", str(given), "--secret", "TOKEN"),
        *("--secret", "PGURL=postgres://app:{db-password}@db/app", "--no-try", "--", "-v", "{vars.disk}"),
    )
    assert outcome.status == 0, outcome.stderr
    assert (
        outcome.stdout
        == "lag runs every 60 s.\nIt is a script that Python runs; its output is read as json.\n"
    )
    body = asked(made)
    assert {
        name: body[name] for name in ("kind", "args", "env", "stdin", "secrets", "format", "assertions")
    } == {
        "kind": "python",
        "args": ["-v", "{vars.disk}"],
        "env": {"A": "b=c"},
        "stdin": "some input",
        "secrets": {"TOKEN": "{TOKEN}", "PGURL": "postgres://app:{db-password}@db/app"},
        "format": "json",
        "assertions": ["json.$.lag < 10"],
    }


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["-c", "true", "--assert", "metric.lag <"], "an assertion cannot be read"),
        (["-c", "true", "--format", "json"], "needs assertions"),
        (["-c", "true", "--env", "LD_PRELOAD=x"], "LD_PRELOAD cannot be set"),
        (["-c", "true", "--env", "A"], "NAME=VALUE"),
        (["-c", "true", "--secret", "A=no secret"], "must name a secret"),
        (["-c", "true", "--kind", "esm", "--command", ENV], "no code"),
        (["-", "--stdin", "-"], "cannot both come from standard input"),
        ([], "give a script or a program"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_asked(
    command: Command, made: FakeHost, words: list[str], reason: str
) -> None:
    outcome = command("check", "create", "disk", *words)
    assert (outcome.status, made.requests) == (2, []), outcome.stderr
    assert reason in outcome.stderr


def test_a_check_that_is_created_is_tried_where_it_is_placed(command: Command, made: FakeHost) -> None:
    outcome = command("check", "create", "disk", "-c", "true", "--tag", "web", "--timeout", "3")
    assert outcome.status == 0, outcome.stderr
    trial = made.requests[-1]
    assert (trial.method, trial.path) == ("POST", TRIES)
    assert trial.body == {
        "kind": "shell",
        "script": "true",
        "name": "disk",
        "system": "disk",
        "timeoutSeconds": 3.0,
        "runsOn": {"core": False, "satellites": [], "tags": ["web"]},
    }
    assert "tried on core" in outcome.stdout
    assert "degraded" in outcome.stdout
    assert "used = 91.5% (warn 90, min 0)" in outcome.stdout
    assert "✗ metric.used < 90 (91.5)" in outcome.stdout
    assert "\x1b" not in outcome.stdout + outcome.stderr
    assert command("check", "create", "x", "-c", "true", "--json").json["tried"] == TRIED


def test_one_that_cannot_be_tried_is_created_all_the_same(command: Command, made: FakeHost) -> None:
    made.on("POST", TRIES, problem(409, "There is no such place", detail="no satellite \x1b[2J is online"))
    outcome = command("check", "create", "disk", "-c", "true")
    assert outcome.status == 0
    assert "It was not tried" in outcome.stderr
    assert "\x1b" not in outcome.stderr


@pytest.mark.parametrize(
    ("words", "body"),
    [
        ([ENV, "-w", "1", "--every", "9"], {"command": [ENV, "-w", "1"], "args": [], "intervalSeconds": 9.0}),
        (["--format", "exit", "--env", "A=b"], {"format": "exit", "env": {"A": "b"}}),
        (["--assert", "latencyMs < 5"], {"assertions": ["latencyMs < 5"]}),
        (["--secret", "P=x{pw}"], {"secrets": {"P": "x{pw}"}}),
        (["--", "a", "-b"], {"args": ["a", "-b"]}),
        (["-c", "df"], {"script": "df"}),
    ],
)
def test_a_check_is_changed_in_what_it_runs(
    command: Command, made: FakeHost, words: list[str], body: dict[str, Any]
) -> None:
    outcome = command("check", "update", "disk", *words)
    assert outcome.status == 0, outcome.stderr
    assert made.only("PATCH").body == body


def from_ready(host: FakeHost, **fields: Any) -> None:
    """A host whose check is from the ready check `http`, with settings."""
    env = {"CHECK_URL": "https://old/", "CHECK_EXPECT": "200", "LANG": "C"}
    there = check(kind="python", fileName="http.py", env=env, secrets=[], **fields)
    host.on("GET", CHECKS, Answer(200, {"checks": [there]}))


def test_a_check_becomes_a_ready_check_with_its_settings(command: Command, made: FakeHost) -> None:
    outcome = command("check", "update", "disk", "--from", "http", "--set", "url=https://x/", "--every", "5m")
    assert outcome.status == 0, outcome.stderr
    body = made.only("PATCH").body
    assert "CHECK_URL" in body.pop("script")
    assert body == {
        "kind": "python",
        "fileName": "http.py",
        "args": [],
        "format": None,
        "env": {"CHECK_URL": "https://x/"},
        "intervalSeconds": 300.0,
    }


def test_a_ready_check_that_is_changed_keeps_the_settings_that_are_not_named(
    command: Command, made: FakeHost
) -> None:
    from_ready(made)
    assert command("check", "update", "disk", "--from", "http", "--set", "expect=204").status == 0
    kept = {"CHECK_URL": "https://old/", "CHECK_EXPECT": "204", "LANG": "C"}
    assert made.only("PATCH").body["env"] == kept


def test_the_settings_of_another_ready_check_go_and_what_is_missing_is_told(
    command: Command, made: FakeHost
) -> None:
    from_ready(made)
    outcome = command("check", "update", "disk", "--from", "tcp")
    assert (outcome.status, "tcp needs: --set" in outcome.stderr) == (2, True)
    settings = ("--set", "host=db", "--set", "port=5432")
    assert command("check", "update", "disk", "--from", "tcp", *settings).status == 0
    assert made.only("PATCH").body["env"] == {"CHECK_HOST": "db", "CHECK_PORT": "5432", "LANG": "C"}
    assert command("check", "update", "disk", "--from", "no-such").status == 2
    assert command("check", "update", "disk", "--set", "a=b").status == 2
    assert command("check", "update", "disk", "x.sh", "--from", "http").status == 2


def test_a_check_of_a_host_is_tried_as_it_is_and_as_options_would_make_it(
    command: Command, made: FakeHost
) -> None:
    def tried(*words: str) -> Any:
        made.requests.clear()
        outcome = command("check", "try", "disk", *words)
        assert outcome.status == 1, outcome.stderr
        assert not [one for one in made.requests if one.method == "PATCH"]
        return made.only("POST").body

    made.on("GET", f"{CHECKS}/id-of-disk", Answer(200, check(args=["a"], readAs="exit", env={"A": "1"})))
    as_it_is = tried()
    assert as_it_is == {
        **{name: check()[name] for name in ("name", "system", "kind", "script", "timeoutSeconds", "runsOn")},
        "secrets": ["API_TOKEN"],
        "args": ["a"],
        "env": {"A": "1"},
    }
    assert tried("--on", "berlin") == {**as_it_is, "on": "berlin"}
    assert tried("--env", "B=2", "--timeout", "5", "--", "b") == {
        **as_it_is,
        "env": {"B": "2"},
        "args": ["b"],
        "timeoutSeconds": 5.0,
    }
    assert tried("-c", "echo other")["script"] == "echo other"


def test_a_check_of_a_host_is_tried_here_with_what_is_only_for_here(command: Command, made: FakeHost) -> None:
    script = 'echo "$RINGFENCE_CHECK_SYSTEM $A"'
    made.on(
        "GET", f"{CHECKS}/id-of-disk", Answer(200, check(script=script, secrets=[], env={"A": "{vars.a}"}))
    )
    outcome = command("check", "try", "disk", "--var", "a=b", "--json")
    assert (outcome.status, outcome.json["message"]) == (0, "web-1 b")
    assert not [one for one in made.requests if one.method == "POST"]


def test_what_is_neither_a_file_nor_a_check_is_told(command: Command, made: FakeHost) -> None:
    outcome = command("check", "try", "no-such")
    assert (outcome.status, "no-such" in outcome.stderr) == (1, True)
    outcome = command("check", "try", "./no-such")
    assert (outcome.status, "cannot read ./no-such" in outcome.stderr) == (2, True)


def test_a_command_is_shown_with_what_it_is_given(command: Command, host: FakeHost) -> None:
    fields: dict[str, Any] = {
        "command": ["/usr/bin/env", "-w", "a b\x1b"],
        "args": ["more"],
        "env": {"A": "b\x07"},
        "stdin": "text",
        "secrets": {"TOKEN": "{TOKEN}", "PGURL": "pg://{PW}@db"},
        "assertions": ["metric.x < 3"],
        "readAs": "nagios",
    }
    whole = {key: value for key, value in check(**fields).items() if key != "script"}
    host.on("GET", CHECKS, Answer(200, {"checks": [whole], "names": {}}))
    host.on("GET", f"{CHECKS}/id-of-disk", Answer(200, {**whole, "names": {}}))
    outcome = command("check", "show", "disk")
    assert outcome.status == 0, outcome.stderr
    for line in (
        r"command    /usr/bin/env -w 'a b\x1b'",
        "args       more",
        r"env        A=b\x07",
        "stdin      4 characters",
        "read as    nagios",
        "assertion  metric.x < 3",
        "secrets    TOKEN, PGURL=pg://{PW}@db",
    ):
        assert line in outcome.stdout


def test_state_is_kept_if_that_is_said_and_no_more_if_that_is(made: FakeHost, command: Command) -> None:
    command("check", "create", "disk", "-c", "true", "--no-try")
    command("check", "create", "disk", "-c", "true", "--keep-state", "--no-try")
    command("check", "update", "disk", "--no-keep-state")
    bodies = [one.body for one in made.requests if one.method in {"POST", "PATCH"}]
    assert [one.get("keepState") for one in bodies] == [None, True, False]


def test_what_looks_at_the_host_is_told_also_without_a_try(made: FakeHost, command: Command) -> None:
    told = command("check", "create", "disk", "-c", "df -P /", "--no-try")
    assert "df needs disks in the policy's filesystem.hostView" in told.stderr
    assert "filesystem" not in command("check", "create", "disk", "-c", "true", "--no-try").stderr


def test_what_it_needs_is_said_with_it_and_can_be_taken_back(
    made: FakeHost, command: Command, tmp_path: Path
) -> None:
    file = tmp_path / "needs.json"
    file.write_text('{"hostPaths": ["/var/log"], "network": ["db:5432"]}')
    command("check", "create", "a", "-c", "true", "--no-try", "--need-network", "api.example.com:443")
    command("check", "create", "a", "-c", "true", "--no-try", "--needs", "{}")
    command("check", "create", "a", "-c", "true", "--no-try", "--needs", str(file), "--need-network", "a.b:1")
    command("check", "update", "disk", "--needs", '{"memoryBytes": 67108864}')
    command("check", "update", "disk", "--no-needs")
    bodies = [one.body for one in made.requests if one.method in {"POST", "PATCH"}]
    assert [one["needs"] for one in bodies] == [
        {"network": ["api.example.com:443"]},
        {},
        {"hostPaths": ["/var/log"], "network": ["db:5432", "a.b:1"]},
        {"memoryBytes": 67108864},
        None,
    ]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--needs", '{"netwrk": []}'), "netwrk: unknown key"),
        (("--need-network", "1.2.3"), "network.0: '1.2.3': not an IPv4 address"),
        (("--needs", "no-such-file"), "cannot read no-such-file"),
        (("--needs", "{}", "--no-needs"), "--needs and --no-needs contradict one another"),
    ],
)
def test_what_are_no_needs_is_told_and_nothing_is_sent(
    made: FakeHost, command: Command, options: tuple[str, ...], says: str
) -> None:
    outcome = command("check", "update", "disk", *options)
    assert outcome.status == 2
    assert says in outcome.stderr
    assert [one for one in made.requests if one.method == "PATCH"] == []
