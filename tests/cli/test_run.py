"""`ringfence run`: its exit status, its report, and where its policy comes from."""

from __future__ import annotations

from typing import Any

import pytest
from ringfence.cli import report

from tests.cli.conftest import Command
from tests.cli.fake_host import Answer, FakeHost

SATELLITES = "/api/satellite/satellites"


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
    berlin.on("POST", f"{SATELLITES}/s1/runs", Answer(200, result(exitCode=7, stdout="out", stderr="err\n")))
    outcome = command("run", "--satellite", "berlin", "--kind", "python", "--timeout", "2.5", "-c", "main()")
    assert berlin.only("POST").body == {"kind": "python", "script": "main()", "timeoutMs": 2500}
    assert outcome.status == 7
    assert outcome.stdout == "out"
    assert "err\n" in outcome.stderr
    assert "✓ filesystem" in outcome.stderr
    assert "✗ network" in outcome.stderr
    assert r"no \x1b[1mslirp4netns" in outcome.stderr
    assert "revision 4" in outcome.stderr


def test_json_is_the_result_and_nothing_else(command: Command, berlin: FakeHost) -> None:
    answered = result(exitCode=-1, stopped="refused")
    berlin.on("POST", f"{SATELLITES}/s1/runs", Answer(200, answered))
    outcome = command("run", "--satellite", "berlin", "--json", "-c", "x")
    assert outcome.json == answered
    assert outcome.stderr == ""
    assert outcome.status == 125


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
