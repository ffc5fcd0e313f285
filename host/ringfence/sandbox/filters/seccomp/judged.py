"""The system calls that are allowed or refused by their arguments."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from dataclasses import replace

from ringfence.sandbox.filters.seccomp.architecture import Syscall
from ringfence.sandbox.filters.seccomp.bpf import ALLOW, SUCCEED, refuse
from ringfence.sandbox.filters.seccomp.rules import Case, Exceeds, Has, Is, IsNot, Points, Rule

CLONE = Syscall("clone", 56, 220)
IOCTL = Syscall("ioctl", 16, 29)
PERSONALITY = Syscall("personality", 135, 92)
SOCKET = Syscall("socket", 41, 198)
SOCKETPAIR = Syscall("socketpair", 53, 199)
SETSOCKOPT = Syscall("setsockopt", 54, 208)
SENDTO = Syscall("sendto", 44, 206)
SENDMSG = Syscall("sendmsg", 46, 211)
SENDMMSG = Syscall("sendmmsg", 307, 269)
LISTEN = Syscall("listen", 50, 201)
MMAP = Syscall("mmap", 9, 222)
MADVISE = Syscall("madvise", 28, 233)
FADVISE64 = Syscall("fadvise64", 221, 223)
FCNTL = Syscall("fcntl", 72, 25)
FLOCK = Syscall("flock", 73, 32)
PREADV2 = Syscall("preadv2", 327, 286)
SPLICE = Syscall("splice", 275, 76)
SENDFILE = Syscall("sendfile", 40, 71)
PRCTL = Syscall("prctl", 157, 167)
SECCOMP = Syscall("seccomp", 317, 277)
SETRLIMIT = Syscall("setrlimit", 160, 164)
PRLIMIT64 = Syscall("prlimit64", 302, 261)
SCHED_SETAFFINITY = Syscall("sched_setaffinity", 203, 122)
SETPRIORITY = Syscall("setpriority", 141, 140)
IOPRIO_SET = Syscall("ioprio_set", 251, 30)

NEW_NAMESPACES = 0x7E02_0000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET (linux/sched.h); NEWTIME is clone3's."""

CLONE_FILES, CLONE_THREAD = 0x400, 0x1_0000

DENIED_IOCTLS = {
    0x5412: "TIOCSTI: types into the terminal, as if whoever sits there did",
    0x541C: "TIOCLINUX: pastes into a console",
    0x5423: "TIOCSETD: loads a line discipline, old kernel code that few programs want",
    0x8901: "FIOSETOWN: has the kernel send signals to any process, as F_SETOWN",
    0x8902: "SIOCSPGRP: the same",
    0x5760: "IOC_WATCH_QUEUE_SET_SIZE: makes a pipe into a queue of the kernel's own notes",
    0x5761: "IOC_WATCH_QUEUE_SET_FILTER: the same",
}
"""Refused with EPERM on any descriptor (asm-generic/ioctls.h, sockios.h, linux/watch_queue.h)."""

PERSONALITIES = (0x0, 0x8, 0x2_0000, 0x2_0008, 0xFFFF_FFFF)
"""PER_LINUX, PER_LINUX32, either with UNAME26, and the query; no way to switch off address randomisation."""

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_TYPE_MASK = 1, 2, 5, 0xF
INET_PROTOCOLS = (0, 1, 6, 17, 58)
"""The default of the type, ICMP (unprivileged ping), TCP, UDP, ICMPv6: what the packet filter judges."""

SOL_IP, SOL_SOCKET, SOL_TCP, SOL_UDP, SOL_IPV6, SOL_ICMPV6, SOL_RAW, SOL_NETLINK = (
    0,
    1,
    6,
    17,
    41,
    58,
    255,
    270,
)
SOCKET_LEVELS = (SOL_IP, SOL_SOCKET, SOL_TCP, SOL_UDP, SOL_IPV6, SOL_ICMPV6, SOL_RAW, SOL_NETLINK)
"""The levels of socket options of the families that are left; options of any other are refused with ENOPROTOOPT."""

IDLE_SOCKET_OPTIONS = {
    (SOL_SOCKET, 7): "SO_SNDBUF",
    (SOL_SOCKET, 8): "SO_RCVBUF",
    (SOL_SOCKET, 32): "SO_SNDBUFFORCE",
    (SOL_SOCKET, 33): "SO_RCVBUFFORCE",
}
"""Larger buffers, which are memory of the kernel's. They succeed without effect: a program takes the size for a wish,
which the kernel cuts down in silence as well (socket(7))."""

DENIED_SOCKET_OPTIONS = {
    (
        SOL_TCP,
        31,
    ): "TCP_ULP: makes a TCP socket into TLS in the kernel, or into a family that is refused (SMC)",
    (SOL_UDP, 100): "UDP_ENCAP: makes a UDP socket into one of IPsec or L2TP",
    (SOL_IP, 15): "IP_FREEBIND: sends from an address that is not the sandbox's own",
    (SOL_IPV6, 78): "IPV6_FREEBIND: the same",
    # What connects by the first message is no `connect` to anybody who judges those (Landlock).
    (SOL_TCP, 23): "TCP_FASTOPEN",
    (SOL_TCP, 30): "TCP_FASTOPEN_CONNECT",
    (SOL_TCP, 33): "TCP_FASTOPEN_KEY",
    # Memory of the kernel's: pages that nobody maps any more, programs, keys, lists.
    (SOL_SOCKET, 60): "SO_ZEROCOPY",
    (SOL_SOCKET, 73): "SO_RESERVE_MEM",
    (SOL_SOCKET, 26): "SO_ATTACH_FILTER: and the room for compiled ones is bounded for the host as a whole",
    (SOL_SOCKET, 50): "SO_ATTACH_BPF",
    (SOL_SOCKET, 51): "SO_ATTACH_REUSEPORT_CBPF",
    (SOL_SOCKET, 52): "SO_ATTACH_REUSEPORT_EBPF",
    (SOL_TCP, 14): "TCP_MD5SIG",
    (SOL_TCP, 32): "TCP_MD5SIG_EXT",
    (SOL_TCP, 38): "TCP_AO_ADD_KEY",
    (SOL_IP, 39): "IP_ADD_SOURCE_MEMBERSHIP",
    (SOL_IP, 41): "IP_MSFILTER",
    (SOL_IP, 46): "MCAST_JOIN_SOURCE_GROUP",
    (SOL_IP, 48): "MCAST_MSFILTER",
    (SOL_IPV6, 46): "MCAST_JOIN_SOURCE_GROUP",
    (SOL_IPV6, 48): "MCAST_MSFILTER",
    (SOL_IPV6, 6): "IPV6_2292PKTOPTIONS",
    (SOL_IPV6, 32): "IPV6_FLOWLABEL_MGR: the number of labels is bounded for the host as a whole",
}
"""Refused with ENOPROTOOPT, by level and option (asm-generic/socket.h, linux/tcp.h, udp.h, in.h, in6.h)."""

MSG_FASTOPEN = 0x2000_0000

F_SETLEASE, F_NOTIFY, F_SETPIPE_SZ = 1024, 1026, 1031
F_SETOWN, F_SETSIG, F_SETOWN_EX = 8, 10, 15
F_OFD_SETLK, F_OFD_SETLKW = 37, 38
F_SETDELEG = 1040
DEFAULT_PIPE_SIZE = 65_536
"""Bytes that a pipe holds unless it is told otherwise (pipe(7))."""

MAP_SHARED, MAP_ANONYMOUS, MAP_HUGETLB, MAP_TYPE = 0x1, 0x20, 0x4_0000, 0xF
"""Of linux/mman.h; the same on both architectures."""

MADV_MERGEABLE, MADV_PAGEOUT = 12, 21
POSIX_FADV_DONTNEED = 4
RWF_NOWAIT = 0x8

PR_SET_SECCOMP, SECCOMP_MODE_STRICT, SECCOMP_SET_MODE_FILTER = 22, 1, 1
HIGHEST_KNOWN_PRCTL = 66
LATER_PRCTLS = (
    *(68, 74, 75, 76),  # PR_GET_MEMORY_MERGE, PR_GET_, SET_ and LOCK_SHADOW_STACK_STATUS
    0x4155_5856,  # PR_GET_AUXV
    0x5356_4D41,  # PR_SET_VMA
    0x5961_6D61,  # PR_SET_PTRACER
)
DENIED_PRCTLS = {
    35: "PR_SET_MM: moves what is read as the process's command line and environment",
    36: "PR_SET_CHILD_SUBREAPER: hides who has forked whom from whoever counts what forks cost (`counting.mapped`)",
    41: "PR_SET_THP_DISABLE: would have huge pages again, of which a run has none (`spawning.claims`)",
    62: "PR_SCHED_CORE: decides what runs beside a process, and beside others of its uid",
}
"""Refused with EINVAL, as is every option that is newer than `HIGHEST_KNOWN_PRCTL` and not among `LATER_PRCTLS`: of
these, PR_FUTEX_HASH (78) takes memory of the kernel's without a bound, and PR_SET_MEMORY_MERGE (67) tells what others
have in theirs."""

RLIMIT_CORE = 4
PRIO_PROCESS, IOPRIO_WHO_PROCESS = 0, 1
ONESELF = 0

_EPERM, _EINVAL = refuse(errno.EPERM), refuse(errno.EINVAL)

_PROCESSES = (
    Rule(
        CLONE,
        (
            Case(_EPERM, (Has(0, NEW_NAMESPACES),)),
            # Processes with one table of descriptors have their locks of files together: those of one that has ended
            # stay, and the kernel tells of them no more, so that nobody can count them. Threads are one process.
            Case(_EINVAL, (Is(0, (CLONE_FILES,), mask=CLONE_FILES | CLONE_THREAD),)),
        ),
    ),
    Rule(PERSONALITY, (Case(ALLOW, (Is(0, PERSONALITIES),)),), _EPERM),
    # Limits and claims of others are not a script's to change: one second of processor time kills as a signal does.
    # A size of core dump that a pipe's reader would take is not either (core(5)): setting it succeeds without effect,
    # since programs that hold secrets take a failure to set it to 0 as a reason to give up.
    Rule(SETRLIMIT, (Case(SUCCEED, (Is(0, (RLIMIT_CORE,)),)),)),
    Rule(
        PRLIMIT64,
        (
            Case(_EPERM, (IsNot(0, (ONESELF,)),)),
            # It would have to tell the old limit as well.
            Case(_EPERM, (Is(1, (RLIMIT_CORE,)), Points(2), Points(3))),
            Case(SUCCEED, (Is(1, (RLIMIT_CORE,)), Points(2))),
        ),
    ),
    Rule(SCHED_SETAFFINITY, (Case(ALLOW, (Is(0, (ONESELF,)),)),), _EPERM),
    Rule(SETPRIORITY, (Case(ALLOW, (Is(0, (PRIO_PROCESS,)), Is(1, (ONESELF,)))),), _EPERM),
    Rule(IOPRIO_SET, (Case(ALLOW, (Is(0, (IOPRIO_WHO_PROCESS,)), Is(1, (ONESELF,)))),), _EPERM),
    # A filter is memory of the kernel's, and the room for compiled ones is bounded for the host as a whole.
    Rule(SECCOMP, (Case(_EINVAL, (Is(0, (SECCOMP_SET_MODE_FILTER,)),)),)),
    Rule(
        PRCTL,
        (
            Case(_EINVAL, (Is(0, (PR_SET_SECCOMP,)), IsNot(1, (SECCOMP_MODE_STRICT,)))),
            Case(_EINVAL, (Is(0, tuple(DENIED_PRCTLS)),)),
            Case(_EINVAL, (Exceeds(0, HIGHEST_KNOWN_PRCTL), IsNot(0, LATER_PRCTLS))),
        ),
    ),
)


def _options(verdict: int, options: Iterable[tuple[int, int]]) -> Iterator[Case]:
    """Cases for these socket options, a case for each level."""
    levels: dict[int, list[int]] = {}
    for level, option in options:
        levels.setdefault(level, []).append(option)
    for level, numbers in levels.items():
        yield Case(verdict, (Is(1, (level,)), Is(2, tuple(numbers))))


_SOCKETS = (
    # Every other family (packet, vsock, alg, can, bluetooth, xdp, tipc, smc, rds …) is code that needs no capability to
    # reach and that the packet filter does not judge. Its absence is told as a kernel without it would tell it, so that
    # programs which only ask fall back. Of netlink there is only what tells a program its own addresses.
    Rule(
        SOCKET,
        (
            Case(ALLOW, (Is(0, (AF_UNIX,)),)),
            Case(
                ALLOW,
                (
                    Is(0, (AF_INET, AF_INET6)),
                    Is(1, (SOCK_STREAM, SOCK_DGRAM), mask=SOCK_TYPE_MASK),
                    Is(2, INET_PROTOCOLS),
                ),
            ),
            Case(ALLOW, (Is(0, (AF_NETLINK,)), Is(2, (0,)))),  # NETLINK_ROUTE
            Case(
                _EPERM,
                (Is(0, (AF_INET, AF_INET6)), IsNot(1, (SOCK_STREAM, SOCK_DGRAM), mask=SOCK_TYPE_MASK)),
            ),
            Case(refuse(errno.EPROTONOSUPPORT), (Is(0, (AF_INET, AF_INET6, AF_NETLINK)),)),
        ),
        refuse(errno.EAFNOSUPPORT),
    ),
    Rule(SOCKETPAIR, (Case(ALLOW, (Is(0, (AF_UNIX,)),)),), refuse(errno.EAFNOSUPPORT)),
    Rule(
        SETSOCKOPT,
        (
            *_options(SUCCEED, IDLE_SOCKET_OPTIONS),
            *_options(refuse(errno.ENOPROTOOPT), DENIED_SOCKET_OPTIONS),
            Case(ALLOW, (Is(1, SOCKET_LEVELS),)),
        ),
        refuse(errno.ENOPROTOOPT),
    ),
    *(
        Rule(call, (Case(refuse(errno.EOPNOTSUPP), (Has(flags, MSG_FASTOPEN),)),))
        for call, flags in ((SENDTO, 3), (SENDMSG, 2), (SENDMMSG, 3))
    ),
)

_FILES = (
    Rule(IOCTL, (Case(_EPERM, (Is(1, tuple(DENIED_IOCTLS)),)),)),
    Rule(
        FCNTL,
        (
            # Locks of open file descriptions are no process's, so that nobody can count a run's (`tree`). The others
            # tell of what others do with a file, or hold them up. It is as if the file system did not have them.
            Case(_EINVAL, (Is(1, (F_OFD_SETLK, F_OFD_SETLKW, F_SETLEASE, F_SETDELEG, F_NOTIFY)),)),
            # The kernel would send a signal to whatever process this names.
            Case(_EPERM, (Is(1, (F_SETOWN, F_SETOWN_EX, F_SETSIG)),)),
            Case(_EPERM, (Is(1, (F_SETPIPE_SZ,)), Exceeds(2, DEFAULT_PIPE_SIZE))),
        ),
    ),
    # It tells what of a file is in memory, and so what others have read.
    Rule(PREADV2, (Case(refuse(errno.EOPNOTSUPP), (Has(5, RWF_NOWAIT),)),)),
    # What of the host's programs and libraries is in memory would be read from the disk again, by everybody. Whoever
    # may read a file may have that.
    Rule(FADVISE64, (Case(SUCCEED, (Is(3, (POSIX_FADV_DONTNEED,)),)),)),
)

_MEMORY = (
    # Merging with what others have in memory tells what that is, by the time that a write takes. The other one has what
    # is mapped leave memory, whosever it is besides (madvise(2)).
    Rule(MADVISE, (Case(_EINVAL, (Is(2, (MADV_MERGEABLE, MADV_PAGEOUT)),)),)),
)


_UNSEEN_PAGES = tuple(Rule(call, (), _EINVAL) for call in (SPLICE, SENDFILE))
"""For runs whose memory is summed up: no pages of files put into sockets and pipes as they are.

One byte of a page keeps it whole (or a huge one), while a socket counts the byte; and when the file is truncated, the
file system counts it no more. Programs fall back on reading and writing, as for files that cannot do it (splice(2))."""


def _mmap(memory_is_counted: bool) -> Rule:
    """No huge pages, which are the host's and not among what a run is counted for, by whatever means.

    And, unless the kernel counts a run's memory: none that is shared and anonymous. Its pages stay when nobody has
    them mapped any more (MADV_DONTNEED, the end of the process that touched them), so that no sum over processes
    shows them. A file in `/dev/shm` serves as well, and is bounded.
    """
    unseen = Case(_EPERM, (Is(3, (MAP_SHARED | MAP_ANONYMOUS,), mask=MAP_TYPE | MAP_ANONYMOUS),))
    return Rule(MMAP, (Case(_EPERM, (Has(3, MAP_HUGETLB),)), *(() if memory_is_counted else (unseen,))))


def judged(*, memory_is_counted: bool, files_are_shared: bool, host_is_shown: bool) -> tuple[Rule, ...]:
    """The rules of every run; see `program` for what they depend on."""
    if host_is_shown:
        # A socket among the host's files can be connected to through a mount that is read-only.
        closed = replace(_SOCKETS[0], cases=(*AMONG_THE_HOSTS[0].cases, *_SOCKETS[0].cases[1:]))
        sockets = (closed, AMONG_THE_HOSTS[1], *_SOCKETS[2:])
    else:
        sockets = _SOCKETS
    # The lock of a whole file is the file's: who holds it keeps out everybody who has the same file.
    flock = (Rule(FLOCK, (), refuse(errno.EOPNOTSUPP)),) if files_are_shared else ()
    unseen = () if memory_is_counted else _UNSEEN_PAGES
    return (*_PROCESSES, *sockets, *_FILES, *_MEMORY, *unseen, _mmap(memory_is_counted), *flock)


WITHOUT_SOCKETS = (
    Rule(SOCKET, (), refuse(errno.EACCES)),
    # Pairs of connected sockets, by which a program talks to its own children, are left; not those of datagrams, which
    # can send to any other socket that has a name.
    Rule(
        SOCKETPAIR,
        (Case(ALLOW, (Is(1, (SOCK_STREAM, SOCK_SEQPACKET), mask=SOCK_TYPE_MASK),)),),
        refuse(errno.EACCES),
    ),
)
"""For runs that have no network namespace to keep them from the network: no sockets at all."""

AMONG_THE_HOSTS = (
    Rule(SOCKET, (Case(refuse(errno.EACCES), (Is(0, (AF_UNIX,)),)),)),
    WITHOUT_SOCKETS[1],
    # A socket that is not bound yet is bound by this, to a port of the kernel's choice; Landlock judges `bind` alone.
    Rule(LISTEN, (), refuse(errno.EACCES)),
)
"""For runs that may have sockets, but have no namespaces: none of the host's own in its file system, and no server."""
