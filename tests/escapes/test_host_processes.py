"""Seeing, reading, stopping or entering processes that are not the run's."""

from __future__ import annotations

import os

from tests.escapes.conftest import Supervisor


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


def test_the_namespaces_init_cannot_be_traced_or_written(supervisor: Supervisor) -> None:
    script = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
print(libc.ptrace(16, 1, 0, 0))  # PTRACE_ATTACH
try:
    os.write(os.open('/proc/1/mem', os.O_WRONLY), b'x')
    print('wrote')
except OSError:
    print('refused')
print(libc.syscall(311, 1, 0, 0, 0, 0, 0) if os.uname().machine == 'x86_64' else -1)  # process_vm_writev
"""
    assert supervisor.run("python", script).stdout.split() == ["-1", "refused", "-1"]


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
