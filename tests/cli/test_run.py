"""`ringfence run`: its exit status, its report, and where its policy comes from."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from ringfence.cli import report
from ringfence_satellite.commands import remote_run

from tests.cli.conftest import Command
from tests.cli.fake_host import Answer, FakeHost, Request, problem

SATELLITES = "/api/satellite/satellites"
RUNS = "/api/satellite/runs"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_run, "_PAUSE_SECONDS", 0.01)


def a_run(**fields: Any) -> dict[str, Any]:
    """A run on the satellite berlin, as a host shows it."""
    waiting = {
        "state": "queued",
        "outcome": None,
        "reason": None,
        "result": None,
        "kind": "shell",
        "askedBy": "admin",
        "askedAt": "2030-01-31T12:00:00Z",
        "deliverUntil": "2030-01-31T12:05:00Z",
    }
    return {"id": "r1", "satelliteId": "s1", "satellite": "berlin", **waiting, **fields}


def ended(result: dict[str, Any] | None = None, outcome: str = "finished", **fields: Any) -> dict[str, Any]:
    return a_run(state="ended", outcome=outcome, result=result, **fields)


def result(**fields: Any) -> dict[str, Any]:
    sandbox = {
        "requested": {},
        "origin": {"source": "stored", "revision": 4, "reason": None},
        "enforced": {"filesystem": True, "network": False},
        "downgrades": [{"layer": "network", "reason": "no \x1b[1mslirp4netns"}],
        "notes": [{"layer": "privilege", "note": "uid 65532"}],
        "platform": "linux",
    }
    return {
        "exitCode": 0,
        "stdout": "",
        "stderr": "",
        "timedOut": False,
        "durationMs": 1.0,
        "sandbox": sandbox,
        **fields,
    }


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"exitCode": 0}, 0),
        ({"exitCode": 3}, 3),
        ({"exitCode": -9}, 137),
        ({"exitCode": -9, "timedOut": True, "stopped": "timeout"}, 124),
        ({"exitCode": -1, "stopped": "refused"}, 125),
        ({"exitCode": -1, "stopped": None}, 129),  # SIGHUP, and no refusal
    ],
)
def test_the_exit_status_is_the_scripts_or_says_why_there_is_none(
    fields: dict[str, Any], status: int
) -> None:
    assert report.exit_status(result(**fields)) == status


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"exitCode": 3}, "exit 3"),
        ({"exitCode": -11}, "killed by signal 11"),
        ({"exitCode": -9, "timedOut": True}, "timed out"),
        ({"exitCode": -9, "stopped": "memory"}, "limit of memory"),
        ({"exitCode": -1, "stopped": "refused"}, "refused"),
    ],
)
def test_the_summary_says_how_it_ended(fields: dict[str, Any], says: str) -> None:
    assert says in report.summary(result(**fields)).plain


@pytest.fixture
def berlin(host: FakeHost) -> FakeHost:
    """A host with one satellite."""
    host.on("GET", SATELLITES, Answer(200, {"satellites": [{"id": "s1", "name": "berlin"}]}))
    return host


def test_a_run_on_a_satellite_goes_through_the_host(command: Command, berlin: FakeHost) -> None:
    berlin.on("POST", f"{SATELLITES}/s1/runs", Answer(201, a_run()))
    told = [a_run(state="running"), ended(result(exitCode=7, stdout="out", stderr="err\n"))]
    berlin.on("GET", f"{RUNS}/r1", lambda _: Answer(200, told.pop(0)))
    outcome = command("run", "--satellite", "berlin", "--kind", "python", "--timeout", "2.5", "-c", "main()")
    assert berlin.only("POST").body == {
        "kind": "python",
        "script": "main()",
        "timeoutMs": 2500,
        "deliverWithinSeconds": 300.0,
    }
    assert outcome.status == 7
    assert outcome.stdout == "out"
    assert outcome.stderr.splitlines() == [
        "err",
        "── exit 7 after 1 ms; not enforced: network (--verbose says why)",
    ]


def test_the_whole_report_is_shown_to_who_asks_for_it_and_nothing_to_who_wants_none(
    command: Command, berlin: FakeHost
) -> None:
    berlin.on("POST", f"{SATELLITES}/s1/runs", Answer(201, ended(result(stdout="out\n"))))
    verbose = command("run", "--satellite", "berlin", "--verbose", "-c", "x")
    for shown in ("✓ filesystem", "✗ network", r"no \x1b[1mslirp4netns", "revision 4", "uid 65532"):
        assert shown in verbose.stderr
    quiet = command("run", "--satellite", "berlin", "--quiet", "-c", "x")
    assert (quiet.stdout, quiet.stderr) == ("out\n", "")


def test_a_refusal_is_one_line_with_its_reason(command: Command, berlin: FakeHost) -> None:
    berlin.on("POST", f"{SATELLITES}/s1/runs", Answer(201, ended(result(exitCode=-1, stopped="refused"))))
    told = command("run", "--satellite", "berlin", "-c", "x").stderr.splitlines()
    assert told == [r"── refused: nothing was started (network: no \x1b[1mslirp4netns)"]


def test_what_a_script_is_given_goes_with_it(command: Command, berlin: FakeHost, tmp_path: Path) -> None:
    berlin.on("POST", f"{SATELLITES}/s1/runs", Answer(201, ended(result())))
    script, given = tmp_path / "disk.sh", tmp_path / "given"
    script.write_text("true")
    given.write_text("in")
    options = ("--env", "A=b=c", "--env", "B=", "--stdin", str(given))
    command("run", "--satellite", "berlin", *options, str(script), "one", "--", "-w", "--", "10 %")
    assert berlin.only("POST").body == {
        "kind": "auto",
        "script": "true",
        "name": "disk.sh",
        "args": ["one", "-w", "--", "10 %"],
        "env": {"A": "b=c", "B": ""},
        "stdin": "in",
        "timeoutMs": 60000,
        "deliverWithinSeconds": 300.0,
    }


def test_a_command_is_run_where_it_is(command: Command, berlin: FakeHost) -> None:
    berlin.on("POST", f"{SATELLITES}/s1/runs", Answer(201, ended(result())))
    command("run", "--satellite", "berlin", "--command", "/usr/bin/df", "--", "-P", "/")
    asked = berlin.only("POST").body
    assert (asked["kind"], asked["command"], asked["args"]) == ("program", ["/usr/bin/df"], ["-P", "/"])
    assert "script" not in asked


def test_json_is_the_result_and_nothing_else(command: Command, berlin: FakeHost) -> None:
    answered = result(exitCode=-1, stopped="refused")
    berlin.on("POST", f"{SATELLITES}/s1/runs", Answer(201, ended(answered)))
    outcome = command("run", "--satellite", "berlin", "--json", "-c", "x")
    assert outcome.json == answered
    assert outcome.stderr == ""
    assert outcome.status == 125


def test_a_run_that_waits_for_its_satellite_says_so(command: Command, berlin: FakeHost) -> None:
    berlin.on("POST", f"{SATELLITES}/s1/runs", Answer(201, a_run()))
    told = [a_run(), ended(result())]
    berlin.on("GET", f"{RUNS}/r1", lambda _: Answer(200, told.pop(0)))
    outcome = command("run", "--satellite", "berlin", "-c", "x")
    assert outcome.status == 0
    assert "berlin is not connected: the run waits for it until" in outcome.stderr


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        ("refused", "the satellite did not run it: busy"),
        ("lost", "the run is lost: busy"),
        ("expired", "the run was not begun: busy"),
        ("cancelled", "the run was cancelled: busy"),
    ],
)
def test_a_run_without_a_result_says_why(command: Command, berlin: FakeHost, outcome: str, says: str) -> None:
    berlin.on("POST", f"{SATELLITES}/s1/runs", Answer(201, ended(None, outcome, reason="busy")))
    told = command("run", "--satellite", "berlin", "-c", "x")
    assert told.status == 1
    assert says in told.stderr


def test_a_host_that_is_away_for_a_moment_is_asked_again(command: Command, berlin: FakeHost) -> None:
    berlin.on("POST", f"{SATELLITES}/s1/runs", Answer(201, a_run()))
    told = [Answer(0, hang_up=True), problem(503, "the database is away"), Answer(200, ended(result()))]
    berlin.on("GET", f"{RUNS}/r1", lambda _: told.pop(0))
    assert command("run", "--satellite", "berlin", "-c", "x").status == 0


def test_what_a_run_writes_is_shown_as_it_comes_and_once(command: Command, berlin: FakeHost) -> None:
    def piece(sequence: int, text: str, stream: str = "stdout") -> dict[str, Any]:
        return {"sequence": sequence, "stream": stream, "text": text}

    berlin.on("POST", f"{SATELLITES}/s1/runs", Answer(201, a_run()))
    told = [
        a_run(state="running", output=[piece(0, "one\n"), piece(1, "oh\n", "stderr")]),
        a_run(state="running", output=[piece(2, "two\n")]),
        # The next one was lost on the way.
        a_run(state="running", output=[piece(4, "four\n")]),
        ended(result(stdout="one\ntwo\nthree\nfour\n", stderr="oh\n"), output=[]),
    ]
    berlin.on("GET", f"{RUNS}/r1", lambda _: Answer(200, told.pop(0)))
    outcome = command("run", "--satellite", "berlin", "-c", "x")
    assert outcome.stdout == "one\ntwo\nthree\nfour\n"
    assert outcome.stderr.count("oh\n") == 1
    after = [one.path.rpartition("outputAfter=")[2] for one in berlin.requests if one.path.startswith(RUNS)]
    assert after == ["-1", "1", "2", "4"]


def test_detached_it_shows_the_id_and_waits_for_nothing(command: Command, berlin: FakeHost) -> None:
    berlin.on("POST", f"{SATELLITES}/s1/runs", Answer(201, a_run()))
    outcome = command("run", "--satellite", "berlin", "--detach", "-c", "x")
    assert (outcome.status, outcome.stdout) == (0, "r1\n")
    assert "runs show r1" in outcome.stderr
    assert command("run", "--satellite", "berlin", "--detach", "--json", "-c", "x").json == a_run()
    assert command("run", "--detach", "-c", "x").status == 2


def test_an_older_host_that_answers_with_the_result_is_told_apart(command: Command, berlin: FakeHost) -> None:
    berlin.on("POST", f"{SATELLITES}/s1/runs", Answer(200, result()))
    outcome = command("run", "--satellite", "berlin", "-c", "x")
    assert outcome.status == 1
    assert "older release" in outcome.stderr


@pytest.mark.parametrize(
    ("after", "says"),
    [
        (ended(None, "cancelled"), "the run was cancelled on berlin"),
        (a_run(state="running"), "has not confirmed it yet"),
        (ended(result()), "had ended before it could be cancelled (finished)"),
    ],
)
def test_ctrl_c_ends_the_run_where_it_runs(
    command: Command, berlin: FakeHost, after: dict[str, Any], says: str
) -> None:
    def interrupted(_: Request) -> Answer:
        os.kill(os.getpid(), signal.SIGINT)
        return Answer(200, a_run(state="running"))

    berlin.on("POST", f"{SATELLITES}/s1/runs", Answer(201, a_run()))
    berlin.on("GET", f"{RUNS}/r1", interrupted)
    berlin.on("DELETE", f"{RUNS}/r1", Answer(200, after))
    outcome = command("run", "--satellite", "berlin", "-c", "x")
    assert outcome.status == 130
    assert "Cancelling the run on berlin" in outcome.stderr
    assert says in outcome.stderr
    assert berlin.only("DELETE")


@pytest.mark.parametrize("after", [ended(None, "cancelled"), a_run(state="running"), problem(500, "broken")])
def test_ctrl_c_is_told_to_machines_in_one_object(
    command: Command, berlin: FakeHost, after: dict[str, Any] | Answer
) -> None:
    def interrupted(_: Request) -> Answer:
        os.kill(os.getpid(), signal.SIGINT)
        return Answer(200, a_run(state="running"))

    berlin.on("POST", f"{SATELLITES}/s1/runs", Answer(201, a_run()))
    berlin.on("GET", f"{RUNS}/r1", interrupted)
    berlin.on("DELETE", f"{RUNS}/r1", after if isinstance(after, Answer) else Answer(200, after))
    outcome = command("run", "--satellite", "berlin", "--json", "-c", "x")
    assert outcome.status == 130
    assert outcome.json["error"]["message"] in outcome.stderr


def test_ctrl_c_before_the_run_is_asked_for_is_told_to_machines_too(
    command: Command, berlin: FakeHost
) -> None:
    def interrupted(_: Request) -> Answer:
        os.kill(os.getpid(), signal.SIGINT)
        return Answer(200, {"satellites": []})

    berlin.on("GET", SATELLITES, interrupted)
    outcome = command("run", "--satellite", "berlin", "--json", "-c", "x")
    assert (outcome.status, outcome.json) == (130, {"error": {"message": "interrupted", "hint": None}})


def test_a_host_that_answers_early_is_not_asked_again_at_once(
    command: Command, berlin: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused: list[float] = []
    monkeypatch.setattr("ringfence_satellite.commands.remote_run.time.sleep", paused.append)
    monkeypatch.setattr(remote_run, "_PAUSE_SECONDS", 60.0)
    monkeypatch.setattr(remote_run, "SOON_SECONDS", 90.0)
    berlin.on("POST", f"{SATELLITES}/s1/runs", Answer(201, a_run(state="running")))
    told = [
        a_run(state="running"),
        a_run(state="running", output=[{"sequence": 0, "stream": "stdout", "text": "news\n"}]),
        ended(result(stdout="news\n")),
    ]
    berlin.on("GET", f"{RUNS}/r1", lambda _: Answer(200, told.pop(0)))
    outcome = command("run", "--satellite", "berlin", "-c", "x")
    assert outcome.stdout == "news\n"
    assert len(paused) == 1
    assert paused[0] > 0


def test_a_second_ctrl_c_leaves_at_once(command: Command, berlin: FakeHost) -> None:
    def interrupted(_: Request) -> Answer:
        os.kill(os.getpid(), signal.SIGINT)
        return Answer(200, a_run(state="running"))

    berlin.on("POST", f"{SATELLITES}/s1/runs", Answer(201, a_run()))
    berlin.on("GET", f"{RUNS}/r1", interrupted)
    berlin.on("DELETE", f"{RUNS}/r1", interrupted)
    outcome = command("run", "--satellite", "berlin", "-c", "x")
    assert outcome.status == 130
    assert "It may still run there" in outcome.stderr
    assert "runs cancel r1" in outcome.stderr


@pytest.mark.slow
def test_runs_are_listed_shown_and_cancelled(command: Command, berlin: FakeHost) -> None:
    berlin.on("GET", RUNS, Answer(200, {"runs": [a_run(), ended(result())], "next": None}))
    listed = command("satellite", "runs", "list", "--satellite", "berlin", "--state", "queued")
    assert "queued" in listed.stdout
    assert "finished" in listed.stdout
    asked = next(one for one in berlin.requests if one.path.startswith(f"{RUNS}?"))
    assert {"satellite=s1", "state=queued", "limit=50"} <= set(asked.path.partition("?")[2].split("&"))
    berlin.on("GET", f"{RUNS}/r1", Answer(200, ended(result(stdout="out\n"))))
    shown = command("satellite", "runs", "show", "r1")
    assert "finished" in shown.stdout
    assert "out\n" in shown.stdout
    assert command("satellite", "runs", "show", "r1", "--json").json["result"]["stdout"] == "out\n"
    for after, status, says in (
        (ended(None, "cancelled"), 0, "The run is cancelled."),
        (ended(result()), 0, "had already ended (finished)"),
        (a_run(state="running"), 1, "has not confirmed it yet"),
    ):
        berlin.on("DELETE", f"{RUNS}/r1", Answer(200, after))
        cancelled = command("satellite", "runs", "cancel", "r1")
        assert cancelled.status == status
        assert says in cancelled.stdout + cancelled.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give a script"),
        (("x.sh", "-c", "true"), "give a script"),
        (("no-such-file.sh",), "cannot read no-such-file.sh"),
        (("-c", "true", "--policy", "no-such-policy.json"), "cannot read no-such-policy.json"),
        (
            ("-c", "true", "--policy", "x", "--satellite", "berlin"),
            "--policy cannot be used with --satellite",
        ),
        (("-c", "true", "--timeout", "0"), "--timeout"),
        (("-c", "true", "--timeout", "nan"), "--timeout"),
        (("-c", "true", "--timeout", "inf"), "--timeout"),
        (("-c", "true", "--kind", "perl"), "--kind"),
        (("-c", "true", "--context", "{"), "--context is not JSON"),
        (("-c", "true", "--env", "A"), "--env takes NAME=VALUE"),
        (("check.sh", "-w", "10"), "comes after --"),
        (("-c", "true", "--stdin", "no-such-file"), "cannot read no-such-file"),
        (("-", "--stdin", "-"), "cannot both come from standard input"),
        (("--command", "-c", "true"), "--command needs a program"),
        (("--command", "df"), "absolute path"),
        (("-c", "true", "--", "\udcff"), "argument 1 is not UTF-8"),
    ],
)
def test_wrong_arguments_are_status_2(command: Command, arguments: tuple[str, ...], says: str) -> None:
    outcome = command("run", *arguments)
    assert outcome.status == 2
    assert says in outcome.stderr


def test_an_unknown_key_in_a_policy_file_is_named(command: Command, tmp_path: Any) -> None:
    file = tmp_path / "policy.json"
    file.write_text('{"network": {"mod": "deny"}}')
    outcome = command("run", "-c", "true", "--policy", str(file))
    assert outcome.status == 2
    assert "network.mod: unknown key" in outcome.stderr


def test_what_a_run_needs_goes_with_it_and_is_shown(command: Command, berlin: FakeHost) -> None:
    needs = {"network": ["db:5432"]}
    told = result()
    told["sandbox"]["needs"] = needs
    berlin.on("POST", f"{SATELLITES}/s1/runs", Answer(201, ended(told)))
    outcome = command("run", "--satellite", "berlin", "--need-network", "db:5432", "--verbose", "-c", "x")
    assert berlin.only("POST").body["needs"] == needs
    assert "packages" not in berlin.only("POST").body, "an older host does not know them"
    assert 'needs     {"network": ["db:5432"]}' in outcome.stderr
    told["sandbox"]["needs"] = {}
    outcome = command("run", "--satellite", "berlin", "--needs", "{}", "--verbose", "-c", "x")
    assert "needs     nothing beyond the plain sandbox" in outcome.stderr


def test_the_set_of_packages_of_a_run_goes_with_it(command: Command, berlin: FakeHost) -> None:
    command("run", "--satellite", "berlin", "--packages", "web", "-c", "x")
    assert berlin.only("POST").body["packages"] == "web"


def test_a_run_here_that_needs_more_than_its_policy_gives_is_refused_with_the_line(
    command: Command, tmp_path: Path
) -> None:
    file = tmp_path / "policy.json"
    file.write_text("{}")
    outcome = command("run", "-c", "true", "--policy", str(file), "--need-network", "db:5432")
    assert outcome.status == 125
    assert 'the policy lacks network.allow: "db:5432"' in outcome.stderr
