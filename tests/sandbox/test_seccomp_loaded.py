"""The syscall filter as the kernel runs it: it is loaded in a child, which then tries."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator

import pytest
from ringfence.sandbox.filters.seccomp import Architecture, Syscall, syscall_filter, unisolated_filter
from ringfence.sandbox.filters.seccomp.architecture import HIGHEST_KNOWN
from ringfence.sandbox.filters.seccomp.bpf import ERRNO
from ringfence.sandbox.filters.seccomp.calls import VERDICTS
from ringfence.sandbox.filters.seccomp.judged import (
    CLONE,
    FCNTL,
    IOCTL,
    LISTEN,
    MADVISE,
    PERSONALITY,
    PRCTL,
    PREADV2,
    PRLIMIT64,
    SCHED_SETAFFINITY,
    SECCOMP,
    SETPRIORITY,
    SOCKET,
)

from tests.sandbox.machine import number_of

HERE = Architecture.of(platform.machine())
FILTER = syscall_filter(HERE)

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2


def load(code: bytes) -> None:
    """Load a filter into this process, for good."""

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    if LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    loaded = Program(len(code) // 8, code)
    if LIBC.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(loaded)):
        raise OSError(ctypes.get_errno(), "seccomp")


def filtered(code: bytes, attempt: Callable[[], int]) -> int:
    """The exit status of a child that loads the filter and makes an attempt; negative for a signal."""
    child = os.fork()
    if child == 0:
        status = 255
        try:
            load(code)
            status = attempt()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def errno_of(number: int, *arguments: int) -> int:
    """The error of a raw call, or 0."""
    words = [ctypes.c_long(ctypes.c_int64(argument).value) for argument in (number, *arguments)]
    return ctypes.get_errno() if LIBC.syscall(*words) == -1 else 0


def attempts() -> Iterator[tuple[str, int, tuple[int, ...], int]]:
    """Every refused call (name, number, arguments, error), with arguments that are harmless if it is not."""
    for verdict, calls in VERDICTS.items():
        for call in calls:
            number = call.number(HERE)
            # vhangup and syslog take no pointer to be wrong about; the first is harmless without a terminal.
            if number is not None:
                yield call.name, number, (-1, -1, -1, -1, -1, -1), verdict & ~ERRNO
    judged: tuple[tuple[Syscall, tuple[int, ...], int], ...] = (
        (CLONE, (0x1000_0000 | 0x7, 0, 0, 0, 0), errno.EPERM),
        (IOCTL, (-1, 1 << 32 | 0x5412, 0), errno.EPERM),
        (PERSONALITY, (0x4_0000,), errno.EPERM),
        (SOCKET, (socket.AF_VSOCK, socket.SOCK_STREAM, 0), errno.EAFNOSUPPORT),
        (PRLIMIT64, (1, resource.RLIMIT_CPU, 0, 0), errno.EPERM),
        (PRLIMIT64, (0, resource.RLIMIT_CORE, 1 << 32, 0), 0),
        (SCHED_SETAFFINITY, (1, 8, 0), errno.EPERM),
        (SETPRIORITY, (os.PRIO_PGRP, 0, 19), errno.EPERM),
        (FCNTL, (0, 1026, 0), errno.EINVAL),
        (MADVISE, (0, 0, 12), errno.EINVAL),
        (PREADV2, (-1, 0, 0, 0, 0, 8), errno.EOPNOTSUPP),
        (PRCTL, (78, 1, 2, 0, 0), errno.EINVAL),
        (SECCOMP, (1, 0, 0), errno.EINVAL),
    )
    for call, arguments, error in judged:
        yield f"{call.name}-{arguments}", number_of(call, HERE), arguments, error
    yield "unknown", HIGHEST_KNOWN + 1, (), errno.ENOSYS


@pytest.fixture(scope="module")
def errors() -> list[int]:
    """The error of each refused call, all of which one child makes, one after the other."""
    reading, writing = os.pipe()

    def attempt_all() -> int:
        for _, number, arguments, _ in attempts():
            os.write(writing, errno_of(number, *arguments).to_bytes(4, "little"))
        return 0

    status = filtered(FILTER, attempt_all)
    os.close(writing)
    with open(reading, "rb") as answers:
        found = [int.from_bytes(one, "little") for one in iter(lambda: answers.read(4), b"")]
    assert (status, len(found)) == (0, len(list(attempts()))), "a call ended the child that made it"
    return found


@pytest.mark.parametrize(
    ("place", "expected"),
    [pytest.param(place, error, id=name) for place, (name, _, _, error) in enumerate(attempts())],
)
def test_the_kernel_refuses_it_with_the_filter_loaded(errors: list[int], place: int, expected: int) -> None:
    assert errors[place] == expected


def test_what_succeeds_without_effect_has_none() -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    other = (0, 0) if before[0] else (before[1], before[1])

    def attempt() -> int:
        resource.setrlimit(resource.RLIMIT_CORE, other)
        with socket.socket() as end:
            size = end.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * size)
            kept = end.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == size
        os.sync()
        return 0 if kept and resource.getrlimit(resource.RLIMIT_CORE) == before else 1

    assert filtered(FILTER, attempt) == 0


def test_both_filters_of_a_run_without_namespaces_can_be_loaded_in_their_order_and_in_no_other() -> None:
    second = unisolated_filter(HERE, sockets=True)

    def attempt() -> int:
        load(FILTER)
        with socket.socket(socket.AF_INET) as end:
            return 0 if errno_of(number_of(LISTEN, HERE), end.fileno(), 1) == errno.EACCES else 1

    def the_other_way() -> int:
        try:
            load(second)
        except OSError as error:
            return error.errno or 1
        return 0

    assert filtered(second, attempt) == 0
    assert filtered(FILTER, the_other_way) == errno.EINVAL


def test_ordinary_programs_run_with_the_filter_loaded() -> None:
    """Threads, processes, sockets, name service and a shell pipeline: what every script uses."""
    ordinary = (
        "import socket, subprocess, threading, multiprocessing as m, asyncio\n"
        "t = threading.Thread(target=print); t.start(); t.join()\n"
        "assert subprocess.run('echo a | grep -c a', shell=True, capture_output=True).stdout == b'1\\n'\n"
        "p = m.get_context('fork').Process(target=print); p.start(); p.join(); assert p.exitcode == 0\n"
        "asyncio.run(asyncio.sleep(0)); socket.getaddrinfo('127.0.0.1', 80); socket.if_nameindex()\n"
    )

    def attempt() -> int:
        os.execv(sys.executable, [sys.executable, "-c", ordinary])

    assert filtered(FILTER, attempt) == 0


# i386 number 20 and x32 number 39 are getpid, by the entry of their own; what comes back is the return value (eax).
ENTRIES = {
    "i386": bytes.fromhex("b814000000 cd80 c3"),  # mov eax, 20; int 0x80; ret
    "x32": bytes.fromhex("b827000040 0f05 c3"),  # mov eax, 0x40000027; syscall; ret
}
on_x86 = pytest.mark.skipif(HERE is not Architecture.X86_64, reason="i386 and x32 belong to x86")


def entered(code: bytes) -> int:
    """What machine code returns that enters the kernel by itself."""
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    page = mmap.mmap(-1, mmap.PAGESIZE, private, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    return int(function())


@on_x86
@pytest.mark.parametrize(("entry", "expected"), [("i386", -signal.SIGSYS), ("x32", errno.ENOSYS)])
def test_another_architectures_entry_into_the_kernel_is_refused(entry: str, expected: int) -> None:
    def attempt() -> int:
        return max(0, -entered(ENTRIES[entry]))

    assert filtered(FILTER, attempt) == expected


@on_x86
def test_without_the_filter_the_i386_entry_is_open() -> None:
    """So that the refusal above is the filter's: this kernel does serve i386 calls, or the test says so."""
    child = os.fork()
    if child == 0:
        os._exit(entered(ENTRIES["i386"]) != os.getpid())
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        pytest.skip("this kernel serves no i386 calls at all")
