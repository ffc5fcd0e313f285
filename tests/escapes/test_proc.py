"""Learning of the host by what `/proc` tells of the kernel and the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ringfence.sandbox.plan.furnish import MASKED_DIRECTORIES, MASKED_FILES

from tests.escapes.conftest import Supervisor
from tests.primitives import requires

pytestmark = pytest.mark.every_wrapper

READ = """
import os
def words(path):
    try:
        with open(path, 'rb') as file:
            return file.read(4096)
    except OSError:
        return b''
def names(path):
    try:
        return os.listdir(path)
    except OSError:
        return []
for path in context['files']:
    for way in (path, '/proc/self/root' + path, '/proc/self/cwd/../..' + path, '/proc/../' + path):
        if words(way):
            print(way)
for path in context['directories']:
    if names(path):
        print(path)
"""


def test_what_tells_of_the_host_reads_as_empty(supervisor: Supervisor) -> None:
    context = {"files": MASKED_FILES, "directories": MASKED_DIRECTORIES}
    result = supervisor.run("python", READ, context=context)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    # It would tell, were it not covered.
    assert Path("/proc/cmdline").read_bytes()


@pytest.mark.parametrize("mode", ["off", "scratch-only"])
def test_it_does_so_in_every_mode(cold_supervisor: Supervisor, mode: str) -> None:
    context = {"files": MASKED_FILES, "directories": MASKED_DIRECTORIES}
    result = cold_supervisor.run("python", READ, context=context, policy={"filesystem": {"mode": mode}})
    assert (result.stdout, result.stderr) == ("", "")


@requires("root")
def test_it_does_so_where_the_script_keeps_roots_uid(cold_supervisor: Supervisor) -> None:
    context = {"files": MASKED_FILES, "directories": MASKED_DIRECTORIES}
    policy = {"privilege": {"mode": "inherit"}}
    result = cold_supervisor.run("python", READ, context=context, policy=policy)
    assert (result.stdout, result.stderr) == ("", "")


def test_a_cover_cannot_be_taken_away(supervisor: Supervisor) -> None:
    script = "umount /proc/cmdline; rm -f /proc/cmdline; mv /proc/cmdline /tmp; cat /proc/cmdline; echo tried"
    assert supervisor.run("shell", script).stdout == "tried\n"


def test_what_programs_look_into_is_there(supervisor: Supervisor) -> None:
    files = "version cpuinfo meminfo stat uptime loadavg filesystems mounts self/status self/maps sys/kernel/ostype"
    script = f'cd /proc; for f in {files}; do [ -n "$(head -c 1 $f)" ] || echo $f; done; nproc; free >/dev/null || :'
    result = supervisor.run("shell", script)
    assert result.stdout.split() == [str(len(os.sched_getaffinity(0)))]
