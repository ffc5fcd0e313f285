"""The syscall filter: judged by an interpreter of classic BPF, and by the kernel with the filter loaded."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import re
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.sandbox.bpf import (
    ALLOW,
    AND,
    ERRNO,
    JUMP_ANY_BIT,
    JUMP_EQUAL,
    JUMP_GREATER,
    KILL_PROCESS,
    LOAD,
    RETURN,
    Instruction,
    to_bytes,
)
from ringfence.sandbox.seccomp import (
    CLONE,
    CLONE3,
    DENIED,
    DENIED_IOCTLS,
    FCNTL,
    HIGHEST_KNOWN,
    HOST_WIDE,
    IOCTL,
    MMAP,
    NEW_NAMESPACES,
    ON_OTHERS,
    PERSONALITY,
    SETSOCKOPT,
    SOCKET,
    SOCKETPAIR,
    X32_BIT,
    Architecture,
    Syscall,
    UnsupportedArchitecture,
    program,
    syscall_filter,
)

from tests.primitives import lacking

I386, ARM = 0x4000_0003, 0x4000_0028
EVERY_ARCHITECTURE = pytest.mark.parametrize("architecture", list(Architecture), ids=lambda a: a.machine)
HERE = Architecture.X86_64 if platform.machine() == "x86_64" else Architecture.AARCH64


def interpret(code: bytes, number: int, audit: int, arguments: tuple[int, ...] = ()) -> int:
    """What the kernel would do: classic BPF, as far as it is used here, over one `struct seccomp_data`."""
    data = struct.pack("<IIQ6Q", number, audit, 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    instructions = [Instruction(*fields) for fields in struct.iter_unpack("<HBBI", code)]
    at, accumulator = 0, 0
    while True:
        code_, jump_true, jump_false, k = instructions[at]
        at += 1
        if code_ == RETURN:
            return k
        if code_ == LOAD:
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif code_ == AND:
            accumulator &= k
        else:
            holds = {
                JUMP_EQUAL: accumulator == k,
                JUMP_GREATER: accumulator > k,
                JUMP_ANY_BIT: bool(accumulator & k),
            }[code_]
            at += jump_true if holds else jump_false


def number_of(call: Syscall, architecture: Architecture) -> int:
    number = call.number(architecture)
    assert number is not None
    return number


def verdict(architecture: Architecture, call: Syscall, *arguments: int) -> int:
    return interpret(
        syscall_filter(architecture), number_of(call, architecture), architecture.audit, arguments
    )


@EVERY_ARCHITECTURE
def test_every_denied_call_is_refused_whatever_its_arguments(architecture: Architecture) -> None:
    denied = [call for call in DENIED if call.number(architecture) is not None]

    assert len(denied) > 45
    for call in denied:
        assert verdict(architecture, call, *[2**64 - 1] * 6) == ERRNO | errno.EPERM, call.name


@EVERY_ARCHITECTURE
@given(number=st.integers(0, 2**32 - 1), arguments=st.tuples(*[st.integers(0, 2**64 - 1)] * 6))
def test_a_call_that_is_allowed_is_a_known_one_that_is_not_denied(
    architecture: Architecture, number: int, arguments: tuple[int, ...]
) -> None:
    result = interpret(FILTERS[architecture], number, architecture.audit, arguments)

    if result == ALLOW:
        assert number <= HIGHEST_KNOWN
        assert number not in {call.number(architecture) for call in (*DENIED, CLONE3)}
    else:
        assert result & 0xFFFF_0000 == ERRNO


FILTERS = {architecture: syscall_filter(architecture) for architecture in Architecture}
COUNTED = {
    architecture: syscall_filter(architecture, memory_is_counted=True) for architecture in Architecture
}


@EVERY_ARCHITECTURE
@pytest.mark.parametrize("audit", [I386, ARM, 0, Architecture.X86_64.audit ^ Architecture.AARCH64.audit])
def test_a_call_of_another_architecture_kills_the_process(architecture: Architecture, audit: int) -> None:
    for number in range(HIGHEST_KNOWN + 1):
        assert interpret(FILTERS[architecture], number, audit) == KILL_PROCESS


@EVERY_ARCHITECTURE
def test_a_call_of_x32_is_absent(architecture: Architecture) -> None:
    for number in range(1024):
        assert interpret(FILTERS[architecture], X32_BIT | number, architecture.audit) == ERRNO | errno.ENOSYS


@EVERY_ARCHITECTURE
def test_what_a_future_kernel_adds_is_absent(architecture: Architecture) -> None:
    result = interpret(FILTERS[architecture], HIGHEST_KNOWN + 1, architecture.audit)

    assert result == ERRNO | errno.ENOSYS


@EVERY_ARCHITECTURE
def test_clone3_is_absent_so_that_libraries_fall_back_to_clone(architecture: Architecture) -> None:
    assert verdict(architecture, CLONE3) == ERRNO | errno.ENOSYS


@EVERY_ARCHITECTURE
def test_clone_makes_threads_and_processes_but_no_namespaces(architecture: Architecture) -> None:
    thread = 0x3D0F00  # what glibc passes for a thread
    assert verdict(architecture, CLONE, thread) == ALLOW
    assert verdict(architecture, CLONE, signal.SIGCHLD) == ALLOW
    for bit in range(32):
        if NEW_NAMESPACES & 1 << bit:
            assert verdict(architecture, CLONE, 1 << bit | signal.SIGCHLD) == ERRNO | errno.EPERM
            assert verdict(architecture, CLONE, 1 << 63 | 1 << bit) == ERRNO | errno.EPERM


@EVERY_ARCHITECTURE
@given(high=st.integers(0, 2**32 - 1))
def test_high_bits_do_not_hide_an_ioctl_that_the_kernel_would_take(
    architecture: Architecture, high: int
) -> None:
    number = number_of(IOCTL, architecture)

    for request in DENIED_IOCTLS:
        result = interpret(FILTERS[architecture], number, architecture.audit, (0, high << 32 | request, 0))
        assert result == ERRNO | errno.EPERM
    assert interpret(FILTERS[architecture], number, architecture.audit, (0, high << 32 | 0x5413)) == ALLOW


@EVERY_ARCHITECTURE
def test_address_randomisation_cannot_be_switched_off(architecture: Architecture) -> None:
    assert verdict(architecture, PERSONALITY, 0x0004_0000) == ERRNO | errno.EPERM
    assert verdict(architecture, PERSONALITY, 0x0040_0000) == ERRNO | errno.EPERM  # READ_IMPLIES_EXEC
    assert verdict(architecture, PERSONALITY, 0xFFFF_FFFF) == ALLOW


@EVERY_ARCHITECTURE
@pytest.mark.parametrize(
    ("family", "kind", "protocol", "expected"),
    [
        (socket.AF_UNIX, socket.SOCK_STREAM, 0, ALLOW),
        (socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, ALLOW),
        (socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0, ALLOW),
        (socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_UDP, ALLOW),
        (socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP, ALLOW),
        (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP, ERRNO | errno.EPERM),
        (socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 58, ERRNO | errno.EPERM),
        (socket.AF_INET, 10, 0x300, ERRNO | errno.EPERM),  # SOCK_PACKET
        (socket.AF_INET, socket.SOCK_STREAM, 132, ERRNO | errno.EPROTONOSUPPORT),  # SCTP
        (socket.AF_INET, socket.SOCK_STREAM, 262, ERRNO | errno.EPROTONOSUPPORT),  # MPTCP
        (socket.AF_NETLINK, socket.SOCK_RAW, 0, ALLOW),  # what getaddrinfo asks
        (socket.AF_NETLINK, socket.SOCK_RAW, 12, ERRNO | errno.EPROTONOSUPPORT),  # netfilter
        (socket.AF_PACKET, socket.SOCK_RAW, 3, ERRNO | errno.EAFNOSUPPORT),
        (socket.AF_VSOCK, socket.SOCK_STREAM, 0, ERRNO | errno.EAFNOSUPPORT),
        (38, socket.SOCK_SEQPACKET, 0, ERRNO | errno.EAFNOSUPPORT),  # AF_ALG
        (44, socket.SOCK_RAW, 0, ERRNO | errno.EAFNOSUPPORT),  # AF_XDP
        (1 << 32 | socket.AF_PACKET, socket.SOCK_RAW, 3, ERRNO | errno.EAFNOSUPPORT),
    ],
)
def test_sockets_are_of_the_families_that_the_packet_filter_judges(
    architecture: Architecture, family: int, kind: int, protocol: int, expected: int
) -> None:
    assert verdict(architecture, SOCKET, family, kind, protocol) == expected


@EVERY_ARCHITECTURE
def test_socket_pairs_are_unix_ones(architecture: Architecture) -> None:
    assert verdict(architecture, SOCKETPAIR, socket.AF_UNIX, socket.SOCK_STREAM, 0) == ALLOW
    assert verdict(architecture, SOCKETPAIR, 30, socket.SOCK_STREAM, 0) == ERRNO | errno.EAFNOSUPPORT  # TIPC


SHARED, PRIVATE, ANONYMOUS, HUGE = 0x1, 0x2, 0x20, 0x4_0000


@EVERY_ARCHITECTURE
@given(flags=st.integers(0, 2**64 - 1))
def test_memory_that_no_sum_over_processes_would_show_is_had_only_where_it_is_counted(
    architecture: Architecture, flags: int
) -> None:
    number = number_of(MMAP, architecture)
    counted = interpret(COUNTED[architecture], number, architecture.audit, (0, 0, 0, flags))
    uncounted = interpret(FILTERS[architecture], number, architecture.audit, (0, 0, 0, flags))

    assert counted == (ERRNO | errno.EPERM if flags & HUGE else ALLOW)
    unseen = flags & 0xF == SHARED and flags & ANONYMOUS
    assert uncounted == (ERRNO | errno.EPERM if flags & HUGE or unseen else ALLOW)


@EVERY_ARCHITECTURE
def test_ordinary_mappings_are_left(architecture: Architecture) -> None:
    for flags in (PRIVATE | ANONYMOUS, SHARED, PRIVATE):
        assert verdict(architecture, MMAP, 0, 0, 0, flags) == ALLOW
    assert verdict(architecture, MMAP, 0, 0, 0, SHARED | ANONYMOUS) == ERRNO | errno.EPERM


@EVERY_ARCHITECTURE
def test_a_socket_option_is_refused_only_if_it_changes_what_a_socket_is_or_sends_from(
    architecture: Architecture,
) -> None:
    for level, option in ((6, 31), (0, 15), (41, 78)):
        assert verdict(architecture, SETSOCKOPT, 3, level, option) == ERRNO | errno.ENOPROTOOPT
    assert verdict(architecture, SETSOCKOPT, 3, 1 << 32 | 6, 1 << 32 | 31) == ERRNO | errno.ENOPROTOOPT
    assert verdict(architecture, SETSOCKOPT, 3, 6, socket.TCP_NODELAY) == ALLOW
    for level, option in ((socket.SOL_SOCKET, 31), (0, 31), (6, 15), (41, 15), (0, socket.IP_TTL), (41, 26)):
        assert verdict(architecture, SETSOCKOPT, 3, level, option) == ALLOW


@pytest.mark.parametrize("architecture", Architecture)
def test_locks_that_belong_to_no_process_are_refused_and_others_are_not(architecture: Architecture) -> None:
    for command in (37, 38, 1 << 32 | 37):
        assert verdict(architecture, FCNTL, 3, command) == ERRNO | errno.EINVAL
    for command in (fcntl.F_SETLK, fcntl.F_SETLKW, fcntl.F_GETLK, fcntl.F_GETFD, fcntl.F_DUPFD_CLOEXEC):
        assert verdict(architecture, FCNTL, 3, command) == ALLOW


@pytest.mark.parametrize(
    ("architecture", "headers"),
    [
        (Architecture.X86_64, "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        (Architecture.AARCH64, "/usr/include/asm-generic/unistd.h"),
    ],
    ids=lambda value: getattr(value, "machine", None),
)
def test_the_numbers_are_those_of_the_kernels_headers(architecture: Architecture, headers: str) -> None:
    if not Path(headers).exists():
        lacking(f"no {headers} here to compare with")
    defined = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(headers).read_text())
    numbers = {name: int(number) for name, number in defined}
    further = (*(call for call, _ in ON_OTHERS), *HOST_WIDE)
    ours = (*DENIED, CLONE, CLONE3, IOCTL, PERSONALITY, SOCKET, SOCKETPAIR, SETSOCKOPT, MMAP, FCNTL, *further)

    compared = [call for call in ours if call.name in numbers]
    assert len(compared) > 45
    for call in compared:
        assert call.number(architecture) == numbers[call.name], call.name


def test_a_machine_without_a_filter_is_named() -> None:
    with pytest.raises(UnsupportedArchitecture, match=r"'riscv64'.*x86_64, aarch64"):
        Architecture.of("riscv64")


# With the kernel's own interpreter: the filter is loaded in a child, which then tries.

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
    for call in DENIED:
        number = call.number(HERE)
        # vhangup and syslog take no pointer to be wrong about; the first is harmless without a terminal.
        if number is not None:
            yield call.name, number, (-1, -1, -1, -1, -1, -1), errno.EPERM
    yield "clone3", number_of(CLONE3, HERE), (0, 0), errno.ENOSYS
    yield "clone", number_of(CLONE, HERE), (0x1000_0000 | 0x7, 0, 0, 0, 0), errno.EPERM
    yield "ioctl", number_of(IOCTL, HERE), (-1, 1 << 32 | 0x5412, 0), errno.EPERM
    yield "personality", number_of(PERSONALITY, HERE), (0x4_0000,), errno.EPERM
    yield "socket", number_of(SOCKET, HERE), (socket.AF_VSOCK, socket.SOCK_STREAM, 0), errno.EAFNOSUPPORT
    yield "unknown", HIGHEST_KNOWN + 1, (), errno.ENOSYS


@pytest.mark.parametrize(
    ("number", "arguments", "expected"),
    [pytest.param(number, arguments, error, id=name) for name, number, arguments, error in attempts()],
)
def test_the_kernel_refuses_it_with_the_filter_loaded(
    number: int, arguments: tuple[int, ...], expected: int
) -> None:
    assert filtered(FILTERS[HERE], lambda: errno_of(number, *arguments)) == expected


@pytest.mark.parametrize(
    "call", [call for call in DENIED if call.number(HERE) is not None], ids=lambda c: c.name
)
def test_each_denied_call_is_refused_by_its_own_instruction(call: Syscall) -> None:
    """Take just that comparison out of the filter, and the call is no longer refused by it."""
    number = number_of(call, HERE)
    without = [
        instruction._replace(k=X32_BIT)
        if (instruction.code, instruction.k) == (JUMP_EQUAL, number)
        else instruction
        for instruction in program(HERE)
    ]

    assert interpret(to_bytes(without), number, HERE.audit) == ALLOW


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

    assert filtered(FILTERS[HERE], attempt) == 0


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

    assert filtered(FILTERS[HERE], attempt) == expected


@on_x86
def test_without_the_filter_the_i386_entry_is_open() -> None:
    """So that the refusal above is the filter's: this kernel does serve i386 calls, or the test says so."""
    child = os.fork()
    if child == 0:
        os._exit(entered(ENTRIES["i386"]) != os.getpid())
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        pytest.skip("this kernel serves no i386 calls at all")
