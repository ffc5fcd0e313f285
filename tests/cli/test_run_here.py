"""`ringfence run` on this machine: real sandboxes, under the host's policy or the fail-closed profile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from ringfence.sandbox import DEFAULT_POLICY, FAIL_CLOSED_POLICY

from tests.cli.conftest import Command
from tests.cli.fake_host import Answer, FakeHost, problem
from tests.primitives import requires
from tests.waiting import wait_until
from tests.warm_process import heed_interrupts

POLICY = "/api/script-packages/sandbox-policy"
pytestmark = requires("user namespaces")


def test_the_script_has_stdout_and_its_status_is_ours(command: Command) -> None:
    outcome = command("run", "-c", "echo out; echo err >&2; exit 3")
    assert outcome.status == 3
    assert outcome.stdout == "out\n"
    assert "err\n" in outcome.stderr
    assert "exit 3" in outcome.stderr
    assert "✓ filesystem" in command("run", "--verbose", "-c", "true").stderr


def test_without_a_host_the_fail_closed_profile_holds_and_is_said_to(command: Command) -> None:
    outcome = command("run", "-c", "true")
    assert "the fail-closed profile holds" in outcome.stderr
    sandbox = command("run", "--json", "-c", "true").json["sandbox"]
    assert sandbox["requested"] == FAIL_CLOSED_POLICY.to_wire()
    assert sandbox["origin"]["source"] == "fail-closed"
    assert "no running host is known" in sandbox["origin"]["reason"]


def test_the_policy_of_the_host_holds(command: Command, host: FakeHost) -> None:
    policy = DEFAULT_POLICY.to_wire() | {"network": {**DEFAULT_POLICY.to_wire()["network"], "mode": "deny"}}
    host.on("GET", POLICY, Answer(200, {"policy": policy, "revision": 7}))
    sandbox = command("run", "--json", "-c", "true").json["sandbox"]
    assert sandbox["requested"] == policy
    assert (sandbox["origin"]["source"], sandbox["origin"]["revision"]) == ("stored", 7)


@pytest.mark.parametrize(
    "answer",
    [
        problem(403, "Forbidden"),
        problem(500, "broken"),
        Answer(200, {"policy": {}}),
        Answer(200, {"revision": 3}),
        Answer(200, []),
        Answer(200, raw=b"<html>"),
    ],
)
def test_a_policy_that_cannot_be_read_is_never_the_permissive_path(
    command: Command, host: FakeHost, answer: Answer
) -> None:
    host.on("GET", POLICY, answer)
    sandbox = command("run", "--json", "-c", "true").json["sandbox"]
    assert sandbox["requested"] == FAIL_CLOSED_POLICY.to_wire()
    assert sandbox["origin"]["source"] == "fail-closed"


def test_a_restriction_of_a_newer_host_is_refused_with_125(command: Command, host: FakeHost) -> None:
    policy = {**DEFAULT_POLICY.to_wire(), "gravity": {"mode": "none"}}
    host.on("GET", POLICY, Answer(200, {"policy": policy, "revision": 7}))
    outcome = command("run", "--json", "-c", "echo started")
    assert outcome.status == 125
    assert outcome.json["exitCode"] == -1
    assert outcome.json["stdout"] == ""
    assert "gravity" in json.dumps(outcome.json["sandbox"]["downgrades"])


def test_a_policy_file_holds_for_this_run_alone(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    file.write_text('{"resources": {"maxFileSizeBytes": 1024}}')
    write = "head -c 100000 /dev/zero > file; stat -c %s file"
    outcome = command("run", "--json", "--policy", str(file), "-c", write)
    assert outcome.json["stdout"] == "1024\n"
    assert outcome.json["sandbox"]["origin"]["source"] == "file"


def test_a_timeout_is_124(command: Command) -> None:
    outcome = command("run", "--timeout", "0.3", "-c", "sleep 60")
    assert outcome.status == 124
    assert "timed out" in outcome.stderr


def test_a_signal_is_128_and_its_number(command: Command) -> None:
    assert command("run", "-c", "kill -9 $$").status == 137


def test_the_suffix_says_the_kind_and_the_context_arrives(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text("def main(context):\n    print('in Python')\n    return {'doubled': context['n'] * 2}\n")
    outcome = command("run", str(file), "--context", '{"n": 21}', "--json")
    assert outcome.json["stdout"] == "in Python\n", outcome.json
    assert outcome.json["value"] == {"doubled": 42}


def run_process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-P", "-m", "ringfence", "run", *arguments]
    return subprocess.run(command, capture_output=True, timeout=60, **options)


def test_a_script_comes_by_standard_input_and_bytes_stay_as_they_are() -> None:
    finished = run_process("-", input=b"printf 'caf\\303\\251 \\033[31m'")
    assert finished.returncode == 0
    assert finished.stdout == "café \033[31m".encode()


def test_json_is_safe_for_a_terminal_and_one_document() -> None:
    finished = run_process("--json", "-c", "printf '\\033[31m\\302\\233'")
    assert json.loads(finished.stdout)["stdout"] == "\033[31m\x9b"
    assert all(byte == 0x0A or 0x20 <= byte < 0x7F for byte in finished.stdout)
    assert finished.stderr == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_being_stopped_is_told_to_machines_in_one_object(number: signal.Signals) -> None:
    begun = f"1000.{os.getpid():07}{number.value}"
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "ringfence", "run", "--json", "-c", f"sleep {begun}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=heed_interrupts,
    )
    wait_until(
        lambda: any(begun in (one.info["cmdline"] or ()) for one in psutil.process_iter(["cmdline"])),
        "the script did not start",
    )
    process.send_signal(number)
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(stdout) == {"error": {"message": "the run was cancelled", "hint": None}}


@pytest.mark.parametrize("policy", ["{}", '{"enabled": false}'])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_whatever_ends_it_ends_the_script_and_all_that_it_started(
    number: signal.Signals, policy: str, tmp_path: Path
) -> None:
    mark = f"1000.{os.getpid():07}{number.value}"
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    scratch.chmod(0o777)
    tmp_path.joinpath("policy.json").write_text(policy)
    script = f"(setsid sleep {mark} &) ; echo begun; exec sleep {mark}"
    process = subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", "ringfence", "run"),
            *("--policy", str(tmp_path / "policy.json"), "-c", script),
        ],
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )

    def sleepers() -> int:
        return sum(mark in (one.info["cmdline"] or ()) for one in psutil.process_iter(["cmdline"]))

    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    wait_until(lambda: sleepers() == 2, "the script did not start")
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == (130 if number != signal.SIGKILL else -signal.SIGKILL)
    assert "Traceback" not in stderr
    wait_until(lambda: sleepers() == 0, "the script outlived its run")
    if number != signal.SIGKILL:
        assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("ignored", ["HUP", "USR1", "CHLD"])
def test_whoever_starts_it_may_ignore_signals_and_the_script_does_not(ignored: str) -> None:
    script = f"grep SigIgn /proc/self/status; trap 'echo trapped' {ignored}; kill -{ignored} $$; echo end"
    number = signal.Signals[f"SIG{ignored}"]
    before = signal.signal(number, signal.SIG_IGN)
    try:
        process = started(script, preexec_fn=None)
    finally:
        signal.signal(number, before)
    stdout, _ = process.communicate(timeout=60)
    _, mask, *said = stdout.split()
    # 32 and 33 are the threads' own (nptl(7)).
    assert int(mask, 16) & 0x7FFF_FFFF == 0
    assert "trapped" in said
    assert said[-1] == "end"


def started(script: str, preexec_fn: Callable[[], None] | None = heed_interrupts) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "ringfence", "run", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=preexec_fn,
    )


def test_what_it_writes_is_shown_as_it_comes_and_ctrl_c_takes_none_of_it_back() -> None:
    process = started("printf 'half a '; echo line; echo wrong >&2; sleep 3600")
    assert process.stdout is not None
    # It has come although the script has not ended, and does not by itself.
    assert process.stdout.readline() == "half a line\n"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "wrong\n" in stderr
    assert "cancelled" in stderr


def test_each_character_is_shown_once_however_it_was_cut(command: Command) -> None:
    text = "h€llo ✓ " * 40_000
    outcome = command("run", "--kind", "python", "-c", f"print('h€llo ✓ ' * {text.count('h')}, end='')")
    assert outcome.stdout == text


def test_what_the_cap_cuts_off_is_not_shown(command: Command, tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text('{"resources": {"maxOutputBytes": 4099}}')
    outcome = command("run", "--policy", str(policy), "--kind", "python", "-c", "print('€' * 100_000)")
    # Of the last character, which does not fit, nothing is shown.
    assert outcome.stdout == "€" * (4099 // len("€".encode()))


def test_a_script_whose_reader_has_gone_is_ended() -> None:
    process = started("while :; do echo again; sleep 0.01; done")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "again\n"
    process.stdout.close()
    assert process.wait(timeout=50) == 1
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
