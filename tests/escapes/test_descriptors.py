"""Descriptors, terminals and sockets that were not given."""

from __future__ import annotations

import os
import socket
import stat

import pytest

from tests.escapes.conftest import Supervisor

pytestmark = pytest.mark.every_wrapper

LIST = """
import os, stat
for place in ('/proc/self/fd', '/proc/1/fd', f'/proc/{os.getppid()}/fd'):
    if not os.path.exists(place):
        continue
    for name in sorted(os.listdir(place), key=int):
        try:
            mode = os.stat(f'{place}/{name}').st_mode
            print(place, name, stat.S_IFMT(mode), os.readlink(f'{place}/{name}'))
        except OSError:
            pass
"""


@pytest.mark.parametrize("kind", ["shell", "python"])
def test_nothing_but_the_standard_three_is_open(supervisor: Supervisor, kind: str) -> None:
    script = {"shell": "ls /proc/self/fd", "python": "import os; print(*os.listdir('/proc/self/fd'))"}[kind]
    got = set(map(int, supervisor.run(kind, script).stdout.split()))
    # 3 or the lowest free one is for the listing itself; Python's own channel for its value is 4.
    assert got <= {0, 1, 2, 3, 4}


def test_no_directory_file_or_socket_of_the_host_is_open_in_any_process_of_the_run(
    supervisor: Supervisor,
) -> None:
    for line in supervisor.run("python", LIST).stdout.splitlines():
        place, number, kind, target = line.split(" ", 3)
        if int(kind) == stat.S_IFDIR:
            assert target.startswith("/proc/"), line
        if int(kind) == stat.S_IFREG:
            assert target == "/dev/null", line
        if int(kind) == stat.S_IFSOCK:
            assert (place, number) == ("/proc/self/fd", "4"), line
        if int(kind) == stat.S_IFIFO:
            # Its output, and not what the wrapper tells its end on: that could be forged.
            assert int(number) in (1, 2), line


def test_there_is_no_terminal(supervisor: Supervisor) -> None:
    script = "tty; ls /dev/tty /dev/pts /dev/ptmx; (exec < /dev/tty) && echo got; ps -o tty= -p $$ || true"
    result = supervisor.run("shell", script)
    assert "got" not in result.stdout
    assert "/dev/" not in result.stdout


def test_standard_input_is_empty(supervisor: Supervisor) -> None:
    assert supervisor.run("shell", "cat; echo end").stdout == "end\n"


def test_an_abstract_socket_of_the_host_is_out_of_reach(supervisor: Supervisor) -> None:
    name = f"ringfence-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        script = f"import socket; socket.socket(socket.AF_UNIX).connect('\\0{name}'); print('connected')"
        result = supervisor.run("python", script)
    assert result.stdout == ""
    assert "ConnectionRefusedError" in result.stderr


def test_the_supervisor_hands_down_no_descriptor_of_its_own(supervisor: Supervisor) -> None:
    result = supervisor.run("shell", "ls -l /proc/[0-9]*/fd")
    # A shell that still reads its script holds that, and nothing else of the supervisor's making.
    held = [
        line.split("ringfence-")[1].split()[0] for line in result.stdout.splitlines() if "ringfence-" in line
    ]
    assert held in ([], ["payload"])
