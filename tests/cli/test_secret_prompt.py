"""A secret that is typed: nobody sees it, and Ctrl-C is no failure."""

from __future__ import annotations

import os
import pty
import select
import time

import pytest

from tests.cli.fake_host import Answer, FakeHost
from tests.cli.instances import RINGFENCE
from tests.waiting import PATIENCE_SECONDS

CTRL_C = b"\x03"


def type_at_the_prompt(typed: bytes) -> tuple[int, bytes]:
    """What `ringfence secret set` ends with, and what its terminal showed, when that is typed at each prompt."""
    child, terminal = pty.fork()
    if child == 0:
        os.execv(RINGFENCE[0], [*RINGFENCE, "secret", "set", "API_TOKEN"])
    shown = b""
    deadline = time.monotonic() + PATIENCE_SECONDS
    answered = 0
    with open(terminal, "r+b", buffering=0) as screen:
        try:
            while chunk := _read(screen.fileno(), deadline):
                shown += chunk
                if (asked := shown.count(b"Value of API_TOKEN:")) > answered:
                    answered = asked
                    screen.write(typed if answered > 1 or typed == CTRL_C else b"\n")
        except OSError:  # EIO: nobody has the terminal open any more (pty(7))
            pass
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown


def _read(terminal: int, deadline: float) -> bytes:
    ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
    assert ready, f"the command said nothing more within {PATIENCE_SECONDS:g} s"
    return os.read(terminal, 65536)


def test_what_is_typed_is_sent_and_not_shown_and_an_empty_line_is_asked_again(host: FakeHost) -> None:
    host.on("PUT", "/api/secrets/secrets/API_TOKEN", Answer(200, {"name": "API_TOKEN"}))
    status, shown = type_at_the_prompt(b"hunter2\n")
    assert status == 0, shown
    assert host.only("PUT").body == {"value": "hunter2"}
    assert b"hunter2" not in shown


@pytest.mark.usefixtures("host")
def test_ctrl_c_at_the_prompt_ends_as_an_interruption() -> None:
    assert type_at_the_prompt(CTRL_C)[0] == 130
