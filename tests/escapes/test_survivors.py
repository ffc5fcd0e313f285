"""Outliving the run: daemons, sessions, stopped processes, deaf ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.escapes.conftest import Supervisor

MARK = f"31536000.{os.getpid():07}"
"""A time to sleep that tells our own sleepers from those of other tests on this machine."""


def survivors() -> list[str]:
    """What still sleeps for our mark, wherever on this machine."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if MARK.encode() in words and words[0] in (b"sleep", b"/usr/bin/sleep", b"/bin/sleep"):
            found.append(pid)
    return found


WAYS = {
    "background": f"sleep {MARK} &",
    "nohup": f"nohup sleep {MARK} >/dev/null 2>&1 &",
    "setsid": f"setsid sleep {MARK} >/dev/null 2>&1 &",
    "double fork": f"( ( setsid sleep {MARK} </dev/null >/dev/null 2>&1 & ) & )",
    "stopped": f"sleep {MARK} & kill -STOP $!",
    "deaf": f"(trap '' TERM INT HUP QUIT; exec setsid sleep {MARK}) &",
    "holding the output": f"setsid sleep {MARK} &",
}


@pytest.mark.parametrize("way", WAYS)
def test_nothing_survives_a_normal_end(supervisor: Supervisor, way: str) -> None:
    result = supervisor.run("shell", f"{WAYS[way]}\necho done")
    assert (result.exit_code, result.stdout) == (0, "done\n")
    assert survivors() == []


@pytest.mark.parametrize("way", WAYS)
def test_nothing_survives_the_timeout(supervisor: Supervisor, way: str) -> None:
    result = supervisor.run(
        "shell", f"{WAYS[way]}\ntrap '' TERM\nwhile :; do sleep {MARK}; done", timeout_ms=150
    )
    assert result.timed_out
    assert survivors() == []


def test_nothing_survives_the_output_cap(supervisor: Supervisor) -> None:
    policy = {"resources": {"maxOutputBytes": 1000}}
    assert supervisor.run("shell", f"{WAYS['double fork']}\nyes", policy=policy).output_truncated
    assert survivors() == []


def test_nothing_survives_a_script_that_kills_itself(supervisor: Supervisor) -> None:
    result = supervisor.run("shell", f"{WAYS['setsid']}\nkill -9 $$")
    assert result.exit_code == 128 + 9
    assert survivors() == []


def test_a_script_that_stops_itself_is_ended_by_the_clock(supervisor: Supervisor) -> None:
    result = supervisor.run("shell", f"{WAYS['setsid']}\nkill -STOP $$", timeout_ms=200)
    assert result.timed_out
    assert survivors() == []


@pytest.mark.every_wrapper
@pytest.mark.parametrize("signal", ["HUP", "INT", "QUIT", "TERM"])
def test_what_a_script_sends_to_its_whole_group_ends_nothing_but_that(
    cold_supervisor: Supervisor, signal: str
) -> None:
    """The init of its namespace may be of the same group; with it, all would end, and with another exit code."""
    script = f"trap 'echo caught; exit 7' {signal}; kill -{signal} 0; exit 3"
    result = cold_supervisor.run("shell", script)
    assert (result.exit_code, result.stdout) == (7, "caught\n"), result.stderr
