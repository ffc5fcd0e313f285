"""`ringfence logs`: what was logged here is found, by time, level, run and request, and followed."""

from __future__ import annotations

import json
import logging
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import structlog
from ringfence.process import kept_logs, logs

from tests.cli.conftest import Command
from tests.cli.instances import RINGFENCE
from tests.waiting import wait_until
from tests.warm_process import heed_interrupts

SECRET = "S3cret-hunter2"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    directory.mkdir()
    return directory


@pytest.fixture
def keep(monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> None:
    """Keep what this process logs, as a host does."""
    monkeypatch.setenv("RINGFENCE_LOG_LEVEL", "debug")
    logs.configure()
    kept_logs.keep(data_dir, "host")


def entries(command: Command, *options: str) -> list[dict[str, object]]:
    shown = command("logs", "--json", *options)
    assert shown.status == 0, shown.stderr
    return [json.loads(line) for line in shown.stdout.splitlines()]


def events(command: Command, *options: str) -> list[object]:
    return [one["event"] for one in entries(command, *options)]


@pytest.mark.usefixtures("keep")
def test_what_was_logged_is_found_by_level_run_request_and_number(command: Command, data_dir: Path) -> None:
    log = structlog.get_logger("ringfence.probe")
    log.debug("first")
    log.info("second", run_id="r-1")
    log.warning("third", request_id="q-1", password=SECRET, url=f"https://u:{SECRET}@x/")
    logging.getLogger("library").error("fourth token=%s", SECRET)
    assert events(command)[:3] == ["first", "second", "third"]
    assert events(command, "--level", "warning")[0] == "third"
    assert events(command, "--run", "r-1") == ["second"]
    assert events(command, "--request", "q-1") == ["third"]
    assert len(events(command, "-n", "2")) == 2
    assert len(events(command, "--since", "1h")) == 4
    assert events(command, "--since", "2999-01-01") == []
    assert SECRET not in command("logs").stdout
    assert "second  run_id=r-1 logger=ringfence.probe" in command("logs").stdout
    kept = data_dir / "logs" / "host.log"
    assert SECRET not in kept.read_text()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700


@pytest.mark.usefixtures("keep")
def test_the_files_are_bounded_and_read_in_order(
    command: Command, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (handler,) = [one for one in logging.getLogger().handlers if isinstance(one, kept_logs._Files)]
    handler.maxBytes = 2000
    for number in range(100):
        structlog.get_logger("ringfence.probe").info("counted", number=number)
    assert len(list((data_dir / "logs").glob("host.log*"))) == 1 + kept_logs.OLDER_FILES
    numbers = [one["number"] for one in entries(command, "-n", "1000")]
    assert numbers == list(range(100 - len(numbers), 100))
    assert 10 < len(numbers) < 100


@pytest.mark.usefixtures("keep")
def test_lines_of_programs_are_told_in_the_order_of_their_times(command: Command, data_dir: Path) -> None:
    structlog.get_logger("ringfence.probe").info("of the host")
    early = {"event": "of the agent", "level": "info", "timestamp": "2026-01-01T00:00:00Z"}
    (data_dir / "logs" / "agent-1.json").write_text("{}")
    (data_dir / "logs" / "agent-1.log").write_text(json.dumps(early) + "\nno JSON \x1b[31m\n")
    assert events(command) == ["of the agent", "no JSON \x1b[31m", "of the host"]
    assert events(command, "--program", "host") == ["of the host"]
    assert events(command, "--program", "agent")[0] == "of the agent"
    assert "\x1b" not in command("logs").stdout


def test_where_nothing_is_kept_that_is_said(command: Command) -> None:
    shown = command("logs")
    assert shown.status == 1
    assert "no host or agent has kept a log in" in shown.stderr
    assert command("logs", "--since", "never").status in {1, 2}


def test_what_cannot_be_kept_keeps_nobody_from_starting(data_dir: Path) -> None:
    (data_dir / "logs").write_text("in the way")
    kept_logs.keep(data_dir, "host")
    assert kept_logs.found(data_dir) == []


JOURNALCTL = """#!{python}
import json, sys, time
def entry(cursor, message, priority="6"):
    print(json.dumps({{"__CURSOR": cursor, "__REALTIME_TIMESTAMP": "1767225600000000", "PRIORITY": priority,
                      "MESSAGE": message}}), flush=True)
assert "--unit=ringfence.service" in sys.argv, sys.argv
if "--follow" in sys.argv:
    assert "--after-cursor=c3" in sys.argv, sys.argv
    entry("c4", json.dumps({{"event": "came", "level": "info", "timestamp": "2026-01-02T00:00:00Z"}}))
    time.sleep(60)
entry("c1", json.dumps({{"event": "of JSON", "level": "error", "timestamp": "2026-01-01T00:00:00Z", "run_id": "r"}}))
entry("c2", "of text", "4")
entry("c3", list(b"no \\xff UTF-8"))
"""


@pytest.fixture
def journal(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that the journal keeps, as journalctl would tell it."""
    program = tmp_path / "bin" / "journalctl"
    program.parent.mkdir()
    program.write_text(JOURNALCTL.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    (data_dir / "logs").mkdir()
    (data_dir / "logs" / "host.json").write_text('{"unit": "ringfence.service", "ofUser": false}')


@pytest.mark.usefixtures("journal")
def test_under_a_unit_the_journal_is_read(command: Command) -> None:
    assert events(command) == ["of JSON", "of text", "no \ufffd UTF-8"]
    assert events(command, "--level", "warning") == ["of JSON", "of text"]
    assert events(command, "--run", "r") == ["of JSON"]


def test_under_a_unit_no_file_is_written(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = os.stat("/dev/null")
    monkeypatch.setenv("JOURNAL_STREAM", f"{there.st_dev}:{there.st_ino}")
    groups = tmp_path / "cgroup"
    groups.write_text(
        "12:pids:/system.slice/ringfence.service\n0::/system.slice/ringfence.service/supervisor\n"
    )
    monkeypatch.setattr(kept_logs, "_GROUPS", groups)
    with open("/dev/null", "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        kept_logs.keep(data_dir, "host")
        groups.write_text(
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/ringfence-agent.service\n"
        )
        kept_logs.keep(data_dir, "agent-1")
    agent, host = kept_logs.found(data_dir)
    assert (host.unit, host.of_user, host.files()) == ("ringfence.service", False, [])
    assert (agent.unit, agent.of_user) == ("ringfence-agent.service", True)


@pytest.mark.parametrize("kept", ["files", "journal"])
def test_what_comes_is_followed_also_into_the_next_file(
    kept: str, data_dir: Path, request: pytest.FixtureRequest
) -> None:
    if kept == "journal":
        request.getfixturevalue("journal")
    else:
        (data_dir / "logs").mkdir()
        (data_dir / "logs" / "host.json").write_text("{}")
        (data_dir / "logs" / "host.log").write_text('{"event": "there before"}\n')
    process = subprocess.Popen(
        [*RINGFENCE, "logs", "--follow", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    assert process.stdout is not None
    try:
        if kept == "journal":
            said = [json.loads(process.stdout.readline())["event"] for _ in range(4)]
            assert said == ["of JSON", "of text", "no \ufffd UTF-8", "came"]
        else:
            assert json.loads(process.stdout.readline())["event"] == "there before"
            log = data_dir / "logs" / "host.log"
            with log.open("a") as file:
                file.write('{"event": "half of')
                file.flush()
                file.write(' a line"}\n')
            assert json.loads(process.stdout.readline())["event"] == "half of a line"
            log.rename(log.with_name("host.log.1"))
            log.write_text('{"event": "in the next file"}\n')
            assert json.loads(process.stdout.readline())["event"] == "in the next file"
    finally:
        process.send_signal(signal.SIGINT)
        wait_until(lambda: process.poll() is not None, "it ends")
    assert process.returncode == 130
