"""Claims on what is not a script's own: how others are scheduled and limited, and memory that the kernel keeps."""

from __future__ import annotations

import pytest

from tests.escapes.conftest import Supervisor

ATTEMPTS = """
import ctypes, errno, os, resource, socket, struct, subprocess, sys, time
libc = ctypes.CDLL(None, use_errno=True)
names = {**errno.errorcode, errno.EOPNOTSUPP: 'EOPNOTSUPP'}
def attempt(what, *arguments):
    try:
        what(*arguments)
        return 'done'
    except OSError as error:
        return names[error.errno]
def call(number, *arguments):
    words = [ctypes.c_long(word) for word in (number, *arguments, *[0] * (6 - len(arguments)))]
    return names[ctypes.get_errno()] if libc.syscall(*words) == -1 else 'done'
def prctl(*arguments):
    if libc.prctl(*(ctypes.c_ulong(argument) for argument in arguments)):
        raise OSError(ctypes.get_errno(), 'prctl')
"""

ON_ANOTHER = """
import signal
child = os.fork()
if child == 0:
    signal.pause()
for pid in (1, child, os.getpid()):
    print(
        attempt(os.sched_setscheduler, pid, os.SCHED_IDLE, os.sched_param(0)),
        attempt(os.sched_setparam, pid, os.sched_param(0)),
        attempt(os.sched_setaffinity, pid, os.sched_getaffinity(0)),
        attempt(os.setpriority, os.PRIO_PROCESS, pid, 19),
        attempt(resource.prlimit, pid, resource.RLIMIT_CPU, (1, 1)),
        attempt(prctl, 62, 1, pid, 1, 0),
    )
print(attempt(os.setpriority, os.PRIO_PGRP, 0, 19), attempt(os.setpriority, os.PRIO_USER, 0, 19))
os.kill(child, signal.SIGKILL)
"""


def test_no_other_process_of_the_run_is_scheduled_or_limited_its_init_among_them(
    supervisor: Supervisor,
) -> None:
    """An init that runs only where nothing else wants to cannot end its namespace."""
    result = supervisor.run("python", ATTEMPTS + ON_ANOTHER)

    assert result.stderr == ""
    refused = " ".join(["EPERM"] * 5 + ["EINVAL"])
    assert result.stdout.splitlines() == [refused] * 3 + ["EPERM EPERM"]


def test_init_is_as_it_was_after_a_script_has_tried(supervisor: Supervisor) -> None:
    script = """
import os
def facts():
    return [os.sched_getscheduler(1), sorted(os.sched_getaffinity(1)), os.getpriority(os.PRIO_PROCESS, 1)]
before = facts()
for policy in (os.SCHED_IDLE, os.SCHED_BATCH, os.SCHED_FIFO):
    for what in (
        lambda: os.sched_setscheduler(1, policy, os.sched_param(0)),
        lambda: os.sched_setaffinity(1, [min(os.sched_getaffinity(0))]),
        lambda: os.setpriority(os.PRIO_PROCESS, 1, 19),
        lambda: os.setpriority(os.PRIO_USER, 0, 19),
    ):
        try:
            what()
        except OSError:
            pass
print(before == facts())
"""
    result = supervisor.run("python", script)
    assert (result.stdout, result.stderr) == ("True\n", "")


def test_a_script_may_take_less_for_itself(supervisor: Supervisor) -> None:
    script = """
import os, resource
before = os.getpriority(os.PRIO_PROCESS, 0)
os.nice(1)
os.sched_setaffinity(0, os.sched_getaffinity(0))
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
print(os.getpriority(os.PRIO_PROCESS, 0) in (before + 1, 19), resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    result = supervisor.run("python", script)
    assert (result.stdout, result.stderr) == ("True (32, 32)\n", "")


def test_the_size_of_a_core_dump_stays_whatever_a_script_asks_for(supervisor: Supervisor) -> None:
    """At 0 the kernel would start the host's crash handler over the script's memory; at 1 it starts none."""
    script = "ulimit -c; ulimit -c 0; echo $?; ulimit -Hc 0; echo $?; ulimit -c"
    before, soft, hard, after = supervisor.run("shell", script).stdout.split()
    assert (soft, hard) == ("0", "0")
    assert before == after
    script = """
before = resource.getrlimit(resource.RLIMIT_CORE)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
print(before, resource.getrlimit(resource.RLIMIT_CORE))
"""
    result = supervisor.run("python", ATTEMPTS + script)
    assert result.stdout == "(1, 1) (1, 1)\n", result.stderr


KERNEL_MEMORY = """
import fcntl
inside, outside = os.pipe()
end = socket.socket()
pair, other = socket.socketpair()
room = {
    name: (each, option, each.getsockopt(socket.SOL_SOCKET, option))
    for name, each, option in (
        ('receive', end, socket.SO_RCVBUF),
        ('send', end, socket.SO_SNDBUF),
        ('pair', pair, socket.SO_SNDBUF),
    )
}
for each, option, before in room.values():
    each.setsockopt(socket.SOL_SOCKET, option, 2 * before)
open('file', 'w').close()
entries = [(1, 2**32 - 1), *((2, uid) for uid in range(1000)), *((tag, 2**32 - 1) for tag in (4, 16, 32))]
acl = struct.pack('<I', 2) + b''.join(struct.pack('<HHI', tag, 7, who) for tag, who in entries)
size = fcntl.fcntl(inside, 1032)
print(attempt(fcntl.fcntl, inside, 1031, 1 << 20), fcntl.fcntl(inside, 1032) == size)
print(*(each.getsockopt(socket.SOL_SOCKET, option) == before for each, option, before in room.values()))
print(attempt(prctl, 78, 1, 1 << 12, 0, 0))
print(attempt(os.setxattr, 'file', 'system.posix_acl_access', acl))
print(call(444, ctypes.addressof(ctypes.create_string_buffer((1).to_bytes(8, 'little'))), 8, 0))
print(attempt(end.setsockopt, socket.SOL_SOCKET, 26, struct.pack('HxxxxxxP', 0, 0)))
print(attempt(end.setsockopt, socket.SOL_SOCKET, 60, 1))
program = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0x7fff0000))
filter = ctypes.create_string_buffer(struct.pack('HxxxxxxP', 1, ctypes.addressof(program)))
print(attempt(prctl, 22, 2, ctypes.addressof(filter), 0, 0))
"""


def test_memory_that_the_kernel_would_keep_uncounted_is_not_to_be_had(supervisor: Supervisor) -> None:
    result = supervisor.run("python", ATTEMPTS + KERNEL_MEMORY)

    assert result.stdout.splitlines() == [
        "EPERM True",  # a larger pipe
        "True True True",  # the sizes of sockets' buffers
        "EINVAL",  # a larger table of futexes
        "EOPNOTSUPP",  # an access control list
        "EOPNOTSUPP",  # a Landlock ruleset
        "ENOPROTOOPT",  # a socket's filter
        "ENOPROTOOPT",  # pages that stay with a socket
        "EINVAL",  # a filter of system calls
    ], result.stderr


def test_no_file_is_watched(supervisor: Supervisor) -> None:
    script = """
import fcntl
print(call(26 if os.uname().machine == 'aarch64' else 294, 0))
print(call(27 if os.uname().machine == 'aarch64' else 254, 0, 0, 0x20))
with open('/usr/bin/env') as file:
    print(attempt(fcntl.fcntl, os.open('/usr/bin', os.O_RDONLY), fcntl.F_NOTIFY, fcntl.DN_ACCESS))
    print(attempt(fcntl.fcntl, file, fcntl.F_SETLEASE, fcntl.F_RDLCK))
    print(attempt(os.preadv, file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT))
"""
    result = supervisor.run("python", ATTEMPTS + script)
    assert result.stdout.split() == ["ENOSYS", "EPERM", "EINVAL", "EINVAL", "EOPNOTSUPP"], result.stderr


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("nice -n 3 true && nproc && ulimit -n 16", id="claims on oneself"),
        pytest.param(
            "mkdir a && echo x > a/f && cp -a a b && mv b c && cat c/f >/dev/null && sync", id="copies"
        ),
        pytest.param(
            "echo x > f; (sleep 0.2; echo y >> f) & timeout 5 tail -n 2 -f f 2>&1 | grep -m 1 -q y",
            id="tail -f",
        ),
        pytest.param("echo x > f && flock f true && flock -n f true && flock -s f true", id="locks"),
    ],
)
def test_programs_that_would_use_such_calls_go_on_without(cold_supervisor: Supervisor, script: str) -> None:
    result = cold_supervisor.run("shell", script)
    assert (result.exit_code, result.stderr) == (0, "")
