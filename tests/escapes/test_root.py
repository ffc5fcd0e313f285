"""A script that keeps root's uid: many parts of the kernel ask for that alone, and for no capability."""

from __future__ import annotations

from pathlib import Path

import pytest
from ringfence.sandbox.wrappers.choice import chosen

from tests.escapes.conftest import Supervisor, Supervisors
from tests.primitives import requires

INHERIT = {"privilege": {"mode": "inherit"}}

OPEN = """
import os
tried = 0
for top in ('/proc', '/sys'):
    for directory, names, files in os.walk(top):
        if '/fd' in directory or '/task/' in directory:
            names[:] = []
            continue
        for name in files:
            path = os.path.join(directory, name)
            tried += 1
            try:
                opened = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                continue
            # One wrapper covers files of /proc by /dev/null.
            if os.fstat(opened).st_rdev != os.stat('/dev/null').st_rdev:
                print(path)
            os.close(opened)
print('tried' if tried > 100 else tried)
"""


@pytest.fixture
def root_supervisor(supervisors: Supervisors) -> Supervisor:
    """The one that has root to hand on."""
    return Supervisor(supervisors.get("self", chosen()), 0, warm=False)


def test_nothing_under_proc_or_sys_can_be_opened_for_writing(supervisor: Supervisor) -> None:
    result = supervisor.run("python", OPEN)
    assert (result.stdout, result.stderr) == ("tried\n", "")


@requires("root")
def test_nor_can_it_by_root(root_supervisor: Supervisor) -> None:
    result = root_supervisor.run("python", OPEN, policy=INHERIT)

    assert (result.stdout, result.stderr) == ("tried\n", "")
    assert result.sandbox.enforced.filesystem
    assert not result.sandbox.enforced.privilege


@requires("root")
def test_the_number_of_roots_processes_is_not_claimed_to_be_limited(root_supervisor: Supervisor) -> None:
    script = """
import os, time
made = 0
try:
    while made < 30:
        if os.fork() == 0:
            time.sleep(100)
        made += 1
except OSError:
    pass
print(made)
"""
    result = root_supervisor.run("python", script, policy=INHERIT | {"resources": {"maxProcesses": 10}})

    # The kernel exempts root (RLIMIT_NPROC in getrlimit(2)); if it ever did not, the claim could be made.
    if "pids.max" not in result.sandbox.mechanisms.get("maxProcesses", ""):
        assert result.stdout == "30\n"
        assert not result.sandbox.enforced.resources
        assert "maxProcesses" not in result.sandbox.mechanisms
        assert any("maxProcesses does not hold" in note.note for note in result.sandbox.notes)


@requires("root")
def test_of_root_that_sees_the_hosts_files_nothing_is_claimed(root_supervisor: Supervisor) -> None:
    policy = INHERIT | {"filesystem": {"mode": "off"}}
    result = root_supervisor.run("shell", "[ -w /etc/passwd ] && echo could", policy=policy)

    assert result.stdout == "could\n"
    assert not any(result.sandbox.enforced.model_dump().values())
    assert result.sandbox.mechanisms == {}
    (said,) = [note.note for note in result.sandbox.notes if "take over the host" in note.note]
    assert "it can write to all of root's" in said


@requires("root")
def test_of_another_uid_that_sees_the_hosts_files_the_other_layers_are_claimed(
    cold_supervisor: Supervisor,
) -> None:
    result = cold_supervisor.run(
        "shell", "[ -w /etc/passwd ] || echo not", policy={"filesystem": {"mode": "off"}}
    )

    assert result.stdout == "not\n"
    assert result.sandbox.enforced.model_dump() == {
        "filesystem": False,
        "network": True,
        "privilege": True,
        "resources": True,
        "syscalls": True,
    }


DEVICES = """
import os
for name in ('null', 'zero', 'full', 'random', 'urandom'):
    path = f'/dev/{name}'
    for change in (lambda: os.chmod(path, 0), lambda: os.utime(path), lambda: os.chown(path, 1, 1)):
        try:
            change()
            print('changed', path)
        except OSError:
            pass
    os.stat(path)
with open('/dev/null', 'wb') as null:
    null.write(b'x')
print(len(os.urandom(4)), open('/dev/zero', 'rb').read(2))
"""


@requires("root")
@pytest.mark.parametrize("mode", ["scratch-only", "off"])
def test_the_hosts_devices_are_used_and_not_changed_by_root(root_supervisor: Supervisor, mode: str) -> None:
    devices = [Path("/dev", name) for name in ("null", "zero", "full", "random", "urandom")]
    before = [(device.stat().st_mode, device.stat().st_mtime_ns) for device in devices]

    result = root_supervisor.run("python", DEVICES, policy=INHERIT | {"filesystem": {"mode": mode}})

    assert (result.stdout, result.stderr) == ("4 b'\\x00\\x00'\n", "")
    assert [(device.stat().st_mode, device.stat().st_mtime_ns) for device in devices] == before
