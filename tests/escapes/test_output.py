"""Floods of output, and what they cost the host."""

from __future__ import annotations

import json

import pytest
from ringfence.scripts import Stopped

from tests.escapes.conftest import Supervisor

MiB = 1024 * 1024


@pytest.mark.parametrize(
    "script",
    [
        "yes",
        "cat /dev/zero",
        "cat /dev/zero >&2",
        "yes & yes >&2 & wait",
        "for n in 1 2 3 4; do (trap '' PIPE TERM; yes) & done; sleep 100",
    ],
)
def test_a_flood_is_stopped_at_the_cap_and_costs_the_host_no_more_than_that(
    supervisor: Supervisor, script: str
) -> None:
    supervisor.run("shell", ":")
    before = supervisor.peak
    result = supervisor.run("shell", script, policy={"resources": {"maxOutputBytes": 2 * MiB}})
    assert result.stopped is Stopped.OUTPUT
    assert result.output_truncated
    assert len(result.stdout) + len(result.stderr) == 2 * MiB
    # The bytes, their text, and the answer that the supervisor writes for these tests.
    assert supervisor.peak - before < 48 * MiB


def test_the_streams_can_be_opened_by_their_names(supervisor: Supervisor) -> None:
    script = "set -e; echo a >/dev/stdout; echo b >/dev/stderr; echo c >>/dev/fd/1; echo d >/proc/self/fd/2"
    result = supervisor.run("shell", script)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "a\nc\n", "b\nd\n")


def test_invalid_text_is_never_fatal(supervisor: Supervisor) -> None:
    policy = {"resources": {"maxOutputBytes": 64 * 1024}}
    result = supervisor.run("shell", "cat /dev/urandom", policy=policy)
    assert result.output_truncated
    assert "\ufffd" in result.stdout


def test_a_value_that_never_ends_does_not_cost_the_host_more_than_its_cap(supervisor: Supervisor) -> None:
    script = """
import os
data = b'[' * 65536
while True:
    os.write(4, data)
"""
    supervisor.run("python", "")
    before = supervisor.peak
    result = supervisor.run("python", script)
    assert result.value is None
    assert "larger than" in (result.value_error or "")
    assert supervisor.peak - before < 32 * MiB


def test_a_value_that_is_nested_without_end_is_no_crash(supervisor: Supervisor) -> None:
    result = supervisor.run("python", "import os\nos.write(4, b'[' * 500_000)\nos._exit(0)")
    assert result.exit_code == 0
    assert "not JSON" in (result.value_error or "")


NO_VALUES = {
    "no number": rb"NaN",
    "infinity": rb"[-Infinity]",
    "a number that is too large": rb"1e999",
    "half a pair, escaped": rb'"\ud800"',
    "half a pair, encoded": b'"\xed\xa0\x80"',
    "half a pair in UTF-16": '"\\ud800"'.encode("utf-16"),
    "another encoding": "[1]".encode("utf-16"),
    "too many digits": b"1" * 10_000,
    "too deep to be sent": b"[" * 400 + b"]" * 400,
    "too deep an object": b'{"a":' * 101 + b"1" + b"}" * 101,
}


@pytest.mark.parametrize("way", NO_VALUES)
def test_a_value_that_could_not_be_sent_or_stored_is_none(supervisor: Supervisor, way: str) -> None:
    result = supervisor.run("python", f"import os\nos.write(4, {NO_VALUES[way]!r})\nos._exit(0)")
    assert (result.exit_code, result.value) == (0, None)
    assert "not JSON" in (result.value_error or "") or "nested more than" in (result.value_error or "")


def test_a_value_of_ordinary_depth_and_numbers_is_taken(supervisor: Supervisor) -> None:
    value = json.loads("[" * 100 + '1.5e300, -0.0, "\\ud83d\\ude00"' + "]" * 100)
    result = supervisor.run("python", f"def main(context):\n    return {value!r}")
    assert (result.value, result.value_error) == (value, None)


LINGERS = """
import os, socket, struct, time
server = socket.create_server(('127.0.0.1', 0))
full = socket.create_connection(server.getsockname())
full.setblocking(False)
try:
    while True:
        full.send(bytes(65536))
except BlockingIOError:
    pass
full.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 600))
# Who does not take it in has it closed, and would wait for what it has not sent.
try:
    socket.send_fds(socket.socket(fileno=4), [b' '], [full.fileno()])
except PermissionError:
    pass
full.close()
time.sleep(1000)
"""


def test_what_is_sent_along_with_a_value_holds_nobody_up(cold_supervisor: Supervisor) -> None:
    result = cold_supervisor.run("python", LINGERS, timeout_ms=1000)
    assert result.stopped is Stopped.TIMEOUT, result.stderr
