"""Too many processes: fork bombs, thread bombs, and whether one run's bomb is another's trouble."""

from __future__ import annotations

import pytest

from tests.escapes.conftest import Supervisor

POLICY = {"resources": {"maxProcesses": 20}}

FORKS = """
import os, sys, time
children = 0
try:
    while children < 1000:
        if os.fork() == 0:
            time.sleep(1000)
        children += 1
except OSError:
    pass
print(children)
"""
THREADS = """
import threading, time
started = 0
try:
    while started < 1000:
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
        started += 1
except RuntimeError:
    pass
print(started, flush=True)
import os
os._exit(0)
"""


@pytest.mark.parametrize("script", [FORKS, THREADS], ids=["forks", "threads"])
def test_the_cap_holds_for_the_run_as_a_whole(supervisor: Supervisor, script: str) -> None:
    result = supervisor.run("python", script, policy=POLICY)
    # The script's own process is one of the twenty.
    assert int(result.stdout) == 19


def test_a_tree_of_forks_has_no_more_than_the_cap(supervisor: Supervisor) -> None:
    script = """
import os, select, time
first = os.getpid()
said, say = os.pipe()
for _ in range(12):
    try:
        os.fork()
    except OSError:
        pass
os.write(say, b'x')
if os.getpid() != first:
    time.sleep(1000)
count = 0
while select.select([said], [], [], None if count < 20 else 0.2)[0]:
    count += len(os.read(said, 100))
print(count)
"""
    assert supervisor.run("python", script, policy=POLICY).stdout == "20\n"


def test_a_classic_fork_bomb_ends_with_the_clock(supervisor: Supervisor) -> None:
    result = supervisor.run(
        "shell", "bomb() { bomb | bomb & }; bomb; sleep 100", policy=POLICY, timeout_ms=1000
    )
    # Unless the shell itself finds no room for its sleep, and gives up before.
    assert result.timed_out or "fork" in result.stderr
    assert supervisor.run("shell", "echo fine").stdout == "fine\n"


def test_runs_at_the_same_time_do_not_eat_each_others_processes(supervisor: Supervisor) -> None:
    orders = [supervisor.order("python", FORKS + "time.sleep(0.3)", policy=POLICY) for _ in range(3)]
    assert [result.stdout for result in supervisor.run_all(orders)] == ["19\n"] * 3


def test_no_limit_can_be_raised_again(supervisor: Supervisor) -> None:
    script = """
import os, resource
for name in ('NPROC', 'NOFILE', 'FSIZE', 'CPU', 'DATA', 'CORE'):
    number = getattr(resource, 'RLIMIT_' + name)
    _, hard = resource.getrlimit(number)
    assert hard != resource.RLIM_INFINITY, name
    for target in (resource.setrlimit, lambda n, v: resource.prlimit(os.getpid(), n, v)):
        try:
            target(number, (hard + 1, hard + 1))
            if resource.getrlimit(number)[1] != hard:
                print('raised', name)
        except (ValueError, PermissionError):
            pass
print('held')
"""
    assert supervisor.run("python", script).stdout == "held\n"


@pytest.mark.parametrize("kind", ["shell", "python"])
def test_no_memory_is_dumped_into_a_file_or_into_a_program_of_the_hosts(
    supervisor: Supervisor, kind: str
) -> None:
    # 0 would be no limit for such a program, which the kernel starts outside of the sandbox (core(5)); 1 is.
    script = {
        "shell": "grep '^Max core' /proc/self/limits; sh -c 'kill -SEGV $$'; ls",
        "python": "import os; os.system(\"grep '^Max core' /proc/self/limits; sh -c 'kill -SEGV $$'; ls\")",
    }[kind]
    assert supervisor.run(kind, script).stdout.split() == ["Max", "core", "file", "size", "1", "1", "bytes"]


@pytest.mark.parametrize("kind", ["shell", "python"])
def test_processor_time_runs_out(cold_supervisor: Supervisor, kind: str) -> None:
    script = {"shell": "while :; do :; done", "python": "while True: pass"}[kind]
    result = cold_supervisor.run(kind, script, policy={"resources": {"cpuSeconds": 1}})
    assert result.exit_code == 128 + 24  # SIGXCPU
    assert not result.timed_out


def test_processor_time_cannot_be_stretched_by_catching_the_signal(cold_supervisor: Supervisor) -> None:
    script = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    # How long it takes for so much processor time is the machine's affair; that it was not the clock is ours.
    result = cold_supervisor.run("python", script, policy={"resources": {"cpuSeconds": 1}}, timeout_ms=60_000)
    assert result.exit_code == 128 + 9
    assert not result.timed_out


def test_open_files_run_out(supervisor: Supervisor) -> None:
    script = """
import os
held = []
try:
    while True:
        held.append(os.open('/dev/null', os.O_RDONLY))
except OSError:
    print(held[-1])
"""
    result = supervisor.run("python", script, policy={"resources": {"maxOpenFiles": 40}})
    assert result.stdout == "39\n"
