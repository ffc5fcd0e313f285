"""`ringfence agent`: what it asks for, how it stops, and what it says that this machine can enforce."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ringfence.cli.agent_process import assessed
from ringfence.sandbox import PolicySnapshot
from ringfence.sandbox.capabilities import Missing, probe

from tests.cli.conftest import Command
from tests.primitives import requires

AGENT = [sys.executable, "-P", "-m", "ringfence", "agent"]


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("secret\n")
    return path


@pytest.mark.parametrize(
    ("url", "says"),
    [("ftp://core", "is no address of a core"), ("nonsense", "is no address of a core")],
)
def test_an_address_that_is_none_is_a_usage_mistake(
    command: Command, token_file: Path, url: str, says: str
) -> None:
    outcome = command("agent", "--url", url, "--client-id", "x", "--token-file", str(token_file))
    assert outcome.status == 2
    assert says in outcome.stderr


def test_a_token_that_cannot_be_read_is_a_usage_mistake(command: Command, tmp_path: Path) -> None:
    outcome = command(
        "agent", "--url", "http://127.0.0.1:9", "--client-id", "x", "--token-file", str(tmp_path / "none")
    )
    assert outcome.status == 2
    assert "cannot read the token file" in outcome.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_goes_on_trying_and_stops_cleanly(
    token_file: Path, unused_port: int, number: signal.Signals
) -> None:
    url = f"http://127.0.0.1:{unused_port}"
    process = subprocess.Popen(
        [*AGENT, "--url", url, "--client-id", "x", "--token-file", str(token_file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    seen = process.stderr.readline()
    assert "not connected" in seen
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (0, "")
    assert "Traceback" not in stderr


def test_it_ends_with_the_process_that_it_was_told_to_die_with(token_file: Path, unused_port: int) -> None:
    arguments = [
        *AGENT, "--url", f"http://127.0.0.1:{unused_port}", "--client-id", "x", "--token-file", str(token_file),
    ]  # fmt: skip
    read, write = os.pipe()
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, subprocess, sys\n"
            "child = subprocess.Popen([*sys.argv[1:], '--die-with', str(os.getpid())], stderr=subprocess.PIPE)\n"
            "print(child.pid, flush=True)\n"
            "child.stderr.readline()\n"  # it is up, and has failed to connect
            "os.kill(os.getpid(), 9)\n",
            *arguments,
        ],
        pass_fds=(write,),
        stdout=write,
    )
    os.close(write)
    assert parent.wait(60) == -signal.SIGKILL
    with os.fdopen(read) as end:
        agent = int(end.readline())
        ended, _, _ = select.select([end], [], [], 30)  # at its end when the agent, its last holder, is gone
        if not ended:
            os.kill(agent, signal.SIGKILL)
        assert ended, "the agent outlived its parent"


@requires("user namespaces")
def test_what_it_can_enforce_is_what_a_run_would_report() -> None:
    applied = assessed(probe(), PolicySnapshot.default(), 4)
    assert applied.revision == 4
    assert applied.enforced["filesystem"] is True
    assert applied.downgrades == ()


def test_what_it_cannot_enforce_has_a_reason() -> None:
    bare = probe().model_copy(update={"wrapper": Missing(reason="bubblewrap is not installed")})
    applied = assessed(bare, PolicySnapshot.default(), 4)
    assert not any(applied.enforced.values())
    assert any("bubblewrap is not installed" in one.reason for one in applied.downgrades)
