"""The syscall filter, judged by an interpreter of classic BPF: every number, and what arguments decide."""

from __future__ import annotations

import errno
import fcntl
import re
import resource
import signal
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.sandbox.filters.seccomp import (
    Architecture,
    Syscall,
    UnsupportedArchitecture,
    syscall_filter,
    unisolated_filter,
)
from ringfence.sandbox.filters.seccomp.architecture import FIRST_COMMON, HIGHEST_KNOWN, X32_BIT
from ringfence.sandbox.filters.seccomp.bpf import ALLOW, ERRNO, KILL_PROCESS
from ringfence.sandbox.filters.seccomp.calls import ABSENT, FORBIDDEN, IDLE, UNSUPPORTED, VERDICTS
from ringfence.sandbox.filters.seccomp.judged import (
    CLONE,
    DENIED_IOCTLS,
    DENIED_SOCKET_OPTIONS,
    FCNTL,
    FLOCK,
    IDLE_SOCKET_OPTIONS,
    IOCTL,
    IOPRIO_SET,
    LISTEN,
    MADVISE,
    MMAP,
    NEW_NAMESPACES,
    PERSONALITY,
    PRCTL,
    PREADV2,
    PRLIMIT64,
    SCHED_SETAFFINITY,
    SECCOMP,
    SENDFILE,
    SENDMMSG,
    SENDMSG,
    SENDTO,
    SETPRIORITY,
    SETRLIMIT,
    SETSOCKOPT,
    SOCKET,
    SOCKETPAIR,
    SPLICE,
)

from tests.primitives import lacking
from tests.sandbox.machine import interpret, number_of

I386, ARM = 0x4000_0003, 0x4000_0028
EVERY_ARCHITECTURE = pytest.mark.parametrize("architecture", list(Architecture), ids=lambda a: a.machine)

JUDGED = (
    *(CLONE, FCNTL, FLOCK, IOCTL, IOPRIO_SET, MADVISE, MMAP, PERSONALITY, PRCTL, PREADV2, PRLIMIT64),
    *(SCHED_SETAFFINITY, SECCOMP, SENDMMSG, SENDMSG, SENDTO, SETPRIORITY, SETRLIMIT, SETSOCKOPT, SOCKET),
    *(SOCKETPAIR, LISTEN, SPLICE, SENDFILE),
)
FILTERS = {architecture: syscall_filter(architecture) for architecture in Architecture}
COUNTED = {
    architecture: syscall_filter(architecture, memory_is_counted=True) for architecture in Architecture
}
SUCCEEDS = ERRNO


def verdict(architecture: Architecture, call: Syscall, *arguments: int) -> int:
    return interpret(FILTERS[architecture], number_of(call, architecture), architecture.audit, arguments)


def refused_with(error: int) -> int:
    return ERRNO | error


@EVERY_ARCHITECTURE
@pytest.mark.parametrize("argument", [0, 1, 2**64 - 1])
def test_every_number_has_the_verdict_that_it_is_named_with_or_is_allowed_if_it_was_known(
    architecture: Architecture, argument: int
) -> None:
    named = {
        call.number(architecture): wanted
        for calls, wanted in (
            (FORBIDDEN, refused_with(errno.EPERM)),
            (ABSENT, refused_with(errno.ENOSYS)),
            (UNSUPPORTED, refused_with(errno.EOPNOTSUPP)),
            (IDLE, SUCCEEDS),
        )
        for call in calls
    }
    judged = {call.number(architecture) for call in JUDGED}
    assert len(named) > 90
    assert judged.isdisjoint(named)

    for number in range(HIGHEST_KNOWN + 2000):
        if number not in judged:
            unknown = architecture.highest_old < number < FIRST_COMMON or number > HIGHEST_KNOWN
            expected = named.get(number, refused_with(errno.ENOSYS) if unknown else ALLOW)
            found = interpret(FILTERS[architecture], number, architecture.audit, (argument,) * 6)
            assert found == expected, number


def test_no_call_is_named_twice() -> None:
    for architecture in Architecture:
        numbers = [call.number(architecture) for calls in VERDICTS.values() for call in calls]
        given_ = [number for number in numbers if number is not None]
        assert len(given_) == len(set(given_))


@EVERY_ARCHITECTURE
@given(number=st.integers(0, 2**32 - 1), arguments=st.tuples(*[st.integers(0, 2**64 - 1)] * 6))
def test_a_number_beyond_those_that_are_known_is_absent_and_nothing_but_an_errno_is_ever_given(
    architecture: Architecture, number: int, arguments: tuple[int, ...]
) -> None:
    result = interpret(FILTERS[architecture], number, architecture.audit, arguments)

    if number > HIGHEST_KNOWN:
        assert result == refused_with(errno.ENOSYS)
    assert result == ALLOW or result & 0xFFFF_0000 == ERRNO


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
def test_clone_makes_threads_and_processes_but_no_namespaces(architecture: Architecture) -> None:
    thread = 0x3D0F00  # what glibc passes for a thread
    assert verdict(architecture, CLONE, thread) == ALLOW
    assert verdict(architecture, CLONE, signal.SIGCHLD) == ALLOW
    for bit in range(32):
        if NEW_NAMESPACES & 1 << bit:
            assert verdict(architecture, CLONE, 1 << bit | signal.SIGCHLD) == ERRNO | errno.EPERM
            assert verdict(architecture, CLONE, 1 << 63 | 1 << bit) == ERRNO | errno.EPERM
    lends_memory, shares_descriptors = 0x4100, 0x400  # posix_spawn(3); what no library does
    assert verdict(architecture, CLONE, lends_memory | signal.SIGCHLD) == ALLOW
    assert verdict(architecture, CLONE, lends_memory | shares_descriptors) == ERRNO | errno.EINVAL


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
def test_pages_of_files_are_put_into_sockets_only_where_memory_is_counted(architecture: Architecture) -> None:
    for call in (SPLICE, SENDFILE):
        assert verdict(architecture, call) == ERRNO | errno.EINVAL
        assert (
            interpret(COUNTED[architecture], number_of(call, architecture), architecture.audit, ()) == ALLOW
        )


@EVERY_ARCHITECTURE
def test_ordinary_mappings_are_left(architecture: Architecture) -> None:
    for flags in (PRIVATE | ANONYMOUS, SHARED, PRIVATE):
        assert verdict(architecture, MMAP, 0, 0, 0, flags) == ALLOW
    assert verdict(architecture, MMAP, 0, 0, 0, SHARED | ANONYMOUS) == ERRNO | errno.EPERM


@EVERY_ARCHITECTURE
@pytest.mark.parametrize("high", [0, 1 << 32])
def test_a_socket_option_has_no_effect_or_is_refused_only_if_it_is_listed(
    architecture: Architecture, high: int
) -> None:
    for level in (0, 1, 6, 17, 41, 58, 255, 270):
        for option in range(128):
            expected = ALLOW
            if (level, option) in IDLE_SOCKET_OPTIONS:
                expected = SUCCEEDS
            elif (level, option) in DENIED_SOCKET_OPTIONS:
                expected = refused_with(errno.ENOPROTOOPT)
            assert verdict(architecture, SETSOCKOPT, 3, high | level, high | option) == expected
    for level in (2, 132, 282, 284):  # IGMP, SCTP, TLS and MPTCP among them
        assert verdict(architecture, SETSOCKOPT, 3, high | level, 1) == refused_with(errno.ENOPROTOOPT)


@EVERY_ARCHITECTURE
@pytest.mark.parametrize(
    ("level", "option", "expected"),
    [
        (socket.SOL_SOCKET, socket.SO_SNDBUF, SUCCEEDS),
        (socket.SOL_SOCKET, socket.SO_RCVBUF, SUCCEEDS),
        (socket.SOL_SOCKET, 32, SUCCEEDS),  # SO_SNDBUFFORCE
        (socket.SOL_SOCKET, 33, SUCCEEDS),  # SO_RCVBUFFORCE
        (socket.IPPROTO_TCP, socket.TCP_FASTOPEN, refused_with(errno.ENOPROTOOPT)),
        (socket.IPPROTO_TCP, 30, refused_with(errno.ENOPROTOOPT)),  # TCP_FASTOPEN_CONNECT
        (socket.IPPROTO_TCP, 31, refused_with(errno.ENOPROTOOPT)),  # TCP_ULP
        (socket.IPPROTO_IP, 15, refused_with(errno.ENOPROTOOPT)),  # IP_FREEBIND
        (socket.IPPROTO_IPV6, 78, refused_with(errno.ENOPROTOOPT)),  # IPV6_FREEBIND
        (socket.SOL_SOCKET, 60, refused_with(errno.ENOPROTOOPT)),  # SO_ZEROCOPY
        (socket.SOL_SOCKET, 26, refused_with(errno.ENOPROTOOPT)),  # SO_ATTACH_FILTER
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, ALLOW),
        (socket.SOL_SOCKET, socket.SO_REUSEADDR, ALLOW),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, ALLOW),
        (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, ALLOW),
    ],
)
def test_socket_options_by_the_names_that_programs_use(
    architecture: Architecture, level: int, option: int, expected: int
) -> None:
    assert verdict(architecture, SETSOCKOPT, 3, level, option) == expected


@EVERY_ARCHITECTURE
def test_no_message_connects_a_socket(architecture: Architecture) -> None:
    fast_open, usual = 0x2000_0000, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT
    for call, before in ((SENDTO, 3), (SENDMSG, 2), (SENDMMSG, 3)):
        assert verdict(architecture, call, *[3] * before, usual) == ALLOW
        for flags in (fast_open, fast_open | usual, 1 << 32 | fast_open):
            assert verdict(architecture, call, *[3] * before, flags) == refused_with(errno.EOPNOTSUPP)


@EVERY_ARCHITECTURE
@given(others=st.integers(1, 2**32 - 1), high=st.integers(0, 2**32 - 1))
def test_claims_on_the_processor_and_limits_are_changed_for_oneself_alone(
    architecture: Architecture, others: int, high: int
) -> None:
    high <<= 32
    for call in (PRLIMIT64, SCHED_SETAFFINITY):
        assert verdict(architecture, call, high, 0, 1) == ALLOW
        assert verdict(architecture, call, high | others, 0, 1) == refused_with(errno.EPERM)
    for call, own in ((SETPRIORITY, 0), (IOPRIO_SET, 1)):  # PRIO_PROCESS, IOPRIO_WHO_PROCESS
        assert verdict(architecture, call, high | own, high, 1) == ALLOW
        assert verdict(architecture, call, high | own, high | others, 1) == refused_with(errno.EPERM)
        assert verdict(architecture, call, high | own + 1, high, 1) == refused_with(errno.EPERM)
        assert verdict(architecture, call, high | own + 2, high, 1) == refused_with(errno.EPERM)


@EVERY_ARCHITECTURE
@given(pointer=st.integers(1, 2**64 - 1), high=st.integers(0, 2**32 - 1))
def test_the_size_of_a_core_dump_is_read_and_setting_it_changes_nothing(
    architecture: Architecture, pointer: int, high: int
) -> None:
    core = high << 32 | resource.RLIMIT_CORE
    assert verdict(architecture, SETRLIMIT, core, pointer) == SUCCEEDS
    assert verdict(architecture, PRLIMIT64, 0, core, pointer, 0) == SUCCEEDS
    assert verdict(architecture, PRLIMIT64, 0, core, pointer, pointer) == refused_with(errno.EPERM)
    assert verdict(architecture, PRLIMIT64, 0, core, 0, pointer) == ALLOW
    for other in (resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_STACK):
        assert verdict(architecture, PRLIMIT64, 0, other, pointer, pointer) == ALLOW
        assert verdict(architecture, SETRLIMIT, other, pointer) == ALLOW


@EVERY_ARCHITECTURE
def test_what_is_the_files_and_not_the_processs_is_refused_and_ordinary_locks_are_not(
    architecture: Architecture,
) -> None:
    # F_OFD_SETLK, F_OFD_SETLKW, F_SETLEASE, F_SETDELEG, F_NOTIFY
    for command in (37, 38, fcntl.F_SETLEASE, 1040, fcntl.F_NOTIFY, 1 << 32 | 37):
        assert verdict(architecture, FCNTL, 3, command) == refused_with(errno.EINVAL)
    for command in (fcntl.F_SETOWN, fcntl.F_SETSIG, 15):  # F_SETOWN_EX
        assert verdict(architecture, FCNTL, 3, command) == refused_with(errno.EPERM)
    for command in (fcntl.F_SETLK, fcntl.F_SETLKW, fcntl.F_GETLK, fcntl.F_GETFD, fcntl.F_DUPFD_CLOEXEC):
        assert verdict(architecture, FCNTL, 3, command) == ALLOW


@EVERY_ARCHITECTURE
def test_a_pipe_is_not_made_larger(architecture: Architecture) -> None:
    for size in (65_537, 1 << 20, 0xFFFF_FFFF, 1 << 32 | 65_537):
        assert verdict(architecture, FCNTL, 3, 1031, size) == refused_with(errno.EPERM)
    for size in (0, 4096, 65_536):
        assert verdict(architecture, FCNTL, 3, 1031, size) == ALLOW


@EVERY_ARCHITECTURE
def test_whole_files_are_locked_only_where_they_are_the_runs_own(architecture: Architecture) -> None:
    shared = syscall_filter(architecture, files_are_shared=True)
    number = number_of(FLOCK, architecture)
    assert verdict(architecture, FLOCK, 3, fcntl.LOCK_EX) == ALLOW
    assert interpret(shared, number, architecture.audit, (3, 2)) == refused_with(errno.EOPNOTSUPP)


@EVERY_ARCHITECTURE
def test_where_the_hosts_files_are_shown_none_of_its_sockets_can_be_used(architecture: Architecture) -> None:
    shown = syscall_filter(architecture, host_is_shown=True)
    socket_, pair = (number_of(each, architecture) for each in (SOCKET, SOCKETPAIR))
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        found = interpret(shown, socket_, architecture.audit, (socket.AF_UNIX, kind, 0))
        assert found == refused_with(errno.EACCES)
        assert interpret(shown, socket_, architecture.audit, (socket.AF_INET, kind, 0)) == ALLOW
    assert interpret(shown, pair, architecture.audit, (socket.AF_UNIX, socket.SOCK_STREAM, 0)) == ALLOW
    assert interpret(shown, pair, architecture.audit, (socket.AF_UNIX, socket.SOCK_DGRAM, 0)) == refused_with(
        errno.EACCES
    )


@EVERY_ARCHITECTURE
def test_what_is_in_memory_is_not_told(architecture: Architecture) -> None:
    nowait, merge = 0x8, 12
    assert verdict(architecture, PREADV2, 3, 0, 0, 0, 0, nowait) == refused_with(errno.EOPNOTSUPP)
    assert verdict(architecture, PREADV2, 3, nowait, nowait, nowait, nowait, 0) == ALLOW
    assert verdict(architecture, MADVISE, 0, 4096, merge) == refused_with(errno.EINVAL)
    assert verdict(architecture, MADVISE, merge, merge, 4) == ALLOW  # MADV_DONTNEED


@EVERY_ARCHITECTURE
def test_no_filter_is_loaded_by_a_script(architecture: Architecture) -> None:
    strict, filter_ = 1, 2
    assert verdict(architecture, PRCTL, 22, filter_) == refused_with(errno.EINVAL)
    assert verdict(architecture, PRCTL, 22, 1 << 32 | filter_) == refused_with(errno.EINVAL)
    assert verdict(architecture, PRCTL, 22, strict) == ALLOW
    assert verdict(architecture, SECCOMP, 1, 0) == refused_with(errno.EINVAL)  # SECCOMP_SET_MODE_FILTER
    assert verdict(architecture, SECCOMP, 2, 0) == ALLOW  # SECCOMP_GET_ACTION_AVAIL


@EVERY_ARCHITECTURE
@given(option=st.integers(0, 2**32 - 1))
def test_an_option_of_a_process_is_one_that_was_known(architecture: Architecture, option: int) -> None:
    known = {*range(1, 67), 68, 74, 75, 76, 0x53564D41, 0x59616D61, 0x41555856} - {22, 35, 36, 41, 62}
    expected = ALLOW if option in known or option == 0 else refused_with(errno.EINVAL)
    if option != 22:
        assert verdict(architecture, PRCTL, option) == expected


@EVERY_ARCHITECTURE
def test_options_of_a_process_by_name(architecture: Architecture) -> None:
    allowed = {"PR_SET_PDEATHSIG": 1, "PR_SET_NAME": 15, "PR_SET_NO_NEW_PRIVS": 38, "PR_SET_VMA": 0x53564D41}
    refused = {
        "PR_SET_MM": 35,
        "PR_SET_CHILD_SUBREAPER": 36,
        "PR_SET_THP_DISABLE": 41,
        "PR_SCHED_CORE": 62,
        "PR_SET_MEMORY_MERGE": 67,
        "PR_FUTEX_HASH": 78,
        "next": 80,
    }
    for name, option in allowed.items():
        assert verdict(architecture, PRCTL, option) == ALLOW, name
    for name, option in refused.items():
        assert verdict(architecture, PRCTL, option) == refused_with(errno.EINVAL), name


# The second filter, of runs without namespaces


@EVERY_ARCHITECTURE
def test_without_sockets_only_pairs_are_left(architecture: Architecture) -> None:
    code = unisolated_filter(architecture, sockets=False)

    def judge(call: Syscall, *arguments: int) -> int:
        return interpret(code, number_of(call, architecture), architecture.audit, arguments)

    assert judge(SOCKET, 1, 1, 0) == judge(SOCKET, 2, 1, 0) == refused_with(errno.EACCES)
    for connected in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC):
        assert judge(SOCKETPAIR, 1, connected, 0) == ALLOW
    # SOCK_RAW is another name for datagrams there (unix(7)).
    for other in (socket.SOCK_DGRAM, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.SOCK_RAW, 1 << 32 | 2):
        assert judge(SOCKETPAIR, 1, other, 0) == refused_with(errno.EACCES)


@EVERY_ARCHITECTURE
def test_with_sockets_none_is_of_the_hosts_file_system_and_none_serves(architecture: Architecture) -> None:
    code = unisolated_filter(architecture, sockets=True)

    def judge(call: Syscall, *arguments: int) -> int:
        return interpret(code, number_of(call, architecture), architecture.audit, arguments)

    assert judge(SOCKET, socket.AF_UNIX, socket.SOCK_DGRAM, 0) == refused_with(errno.EACCES)
    assert judge(SOCKET, 1 << 32 | socket.AF_UNIX, socket.SOCK_STREAM, 0) == refused_with(errno.EACCES)
    for family in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK):
        assert judge(SOCKET, family, socket.SOCK_STREAM, 0) == ALLOW
    assert judge(SOCKETPAIR, socket.AF_UNIX, socket.SOCK_STREAM, 0) == ALLOW
    assert judge(SOCKETPAIR, socket.AF_UNIX, socket.SOCK_DGRAM, 0) == refused_with(errno.EACCES)
    assert judge(LISTEN, 3, 1) == refused_with(errno.EACCES)


@EVERY_ARCHITECTURE
@pytest.mark.parametrize("sockets", [True, False])
def test_the_second_filter_leaves_every_other_call_to_the_first(
    architecture: Architecture, sockets: bool
) -> None:
    code = unisolated_filter(architecture, sockets=sockets)
    judged = {number_of(call, architecture) for call in (SOCKET, SOCKETPAIR, LISTEN)}
    for number in {*range(HIGHEST_KNOWN + 100), X32_BIT, 2**32 - 1} - judged:
        assert interpret(code, number, architecture.audit, (1, 1, 1)) == ALLOW


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
    ours = (*JUDGED, *(call for calls in VERDICTS.values() for call in calls))

    compared = [call for call in ours if call.name in numbers]
    assert len(compared) > 100
    for call in compared:
        assert call.number(architecture) == numbers[call.name], call.name


def test_a_machine_without_a_filter_is_named() -> None:
    with pytest.raises(UnsupportedArchitecture, match=r"'riscv64'.*x86_64, aarch64"):
        Architecture.of("riscv64")
