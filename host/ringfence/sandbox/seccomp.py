"""The system calls that a script may not make: a seccomp filter, assembled here and loaded by the wrapper.

Threat: a hostile script attacks the kernel itself, through calls that ordinary programs hardly make and that
have been the way out of many a sandbox, or uses them to rebuild a power that the other layers took away (a
new user namespace gives back every capability over what is made in it). Mechanism: a classic BPF program that
the kernel runs before every call, loaded with `no_new_privs` and inherited by every descendant; a further
filter can only add to it.

It refuses by name, and what has no name here is refused when its number is above the highest known one, so
that a call that a future kernel adds is absent until it has been judged. An argument is compared by the 32
bits that the kernel reads of it: a comparison of all 64 would be passed with high bits set (CVE-2019-10063).

What it does not cover: whatever the calls that are allowed can do (open, connect, ioctl on an own descriptor:
the other layers' part), what a pointer points to (a filter cannot look; hence `clone3` is absent, so that
libraries fall back on `clone`, whose flags can be seen), and bugs in the calls that remain.
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Iterator
from typing import NamedTuple

from ringfence.sandbox.bpf import (
    ALLOW,
    AND,
    ARCH,
    JUMP_ANY_BIT,
    JUMP_EQUAL,
    JUMP_GREATER,
    KILL_PROCESS,
    LOAD,
    NUMBER,
    RETURN,
    Instruction,
    Source,
    Step,
    argument,
    assemble,
    refuse,
    to_bytes,
)


class UnsupportedArchitecture(RuntimeError):
    """No filter can be made for this machine: numbers differ between architectures and are never guessed."""

    def __init__(self, machine: str) -> None:
        known = ", ".join(architecture.machine for architecture in Architecture)
        super().__init__(f"there is no syscall filter for {machine!r} machines; there is one for: {known}")
        self.machine = machine


class Architecture(enum.Enum):
    """The kernel's interfaces that a filter is written for: (`uname -m`, AUDIT_ARCH_* of linux/audit.h)."""

    X86_64 = ("x86_64", 0xC000003E)
    AARCH64 = ("aarch64", 0xC00000B7)

    def __init__(self, machine: str, audit: int) -> None:
        self.machine = machine
        self.audit = audit

    @classmethod
    def of(cls, machine: str) -> Architecture:
        """The one of a machine as `platform.machine()` names it.

        Raises:
            UnsupportedArchitecture: if there is none.
        """
        for architecture in cls:
            if architecture.machine == machine:
                return architecture
        raise UnsupportedArchitecture(machine)


class Syscall(NamedTuple):
    """A call and its numbers; None where an architecture has no such call.

    Source: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
    """

    name: str
    x86_64: int | None
    aarch64: int | None

    def number(self, architecture: Architecture) -> int | None:
        """The call's number there, if there is one."""
        return self.x86_64 if architecture is Architecture.X86_64 else self.aarch64


HIGHEST_KNOWN = 469
"""`file_setattr` of Linux 6.17; numbers from 424 on are the same everywhere."""

X32_BIT = 0x4000_0000
"""A number with this bit is a call of the x32 interface, in a table of its own; above every known number."""

_IDENTITY_AND_NAMESPACES = (
    # A new user namespace gives a full set of capabilities over new namespaces, and so a way into code of the
    # kernel that only administrators reach otherwise. `clone` with such flags: see `_clone`.
    Syscall("unshare", 272, 97),
    Syscall("setns", 308, 268),
    Syscall("sethostname", 170, 161),
    Syscall("setdomainname", 171, 162),
)
_MOUNTS = (
    Syscall("mount", 165, 40),
    Syscall("umount2", 166, 39),
    Syscall("pivot_root", 155, 41),
    Syscall("chroot", 161, 51),
    Syscall("open_tree", 428, 428),
    Syscall("open_tree_attr", 467, 467),
    Syscall("move_mount", 429, 429),
    Syscall("fsopen", 430, 430),
    Syscall("fsconfig", 431, 431),
    Syscall("fsmount", 432, 432),
    Syscall("fspick", 433, 433),
    Syscall("mount_setattr", 442, 442),
    Syscall("quotactl", 179, 60),
    Syscall("quotactl_fd", 443, 443),
    Syscall("swapon", 167, 224),
    Syscall("swapoff", 168, 225),
    Syscall("sysfs", 139, None),
    Syscall("ustat", 136, None),
)
_FILES_BY_HANDLE = (
    # A handle names a file of a whole filesystem, whatever of it is mounted (the "shocker" escape).
    Syscall("open_by_handle_at", 304, 265),
    Syscall("name_to_handle_at", 303, 264),
    Syscall("lookup_dcookie", 212, 18),
    Syscall("fanotify_init", 300, 262),
)
_KERNEL_CODE = (
    Syscall("bpf", 321, 280),
    Syscall("perf_event_open", 298, 241),
    Syscall("init_module", 175, 105),
    Syscall("finit_module", 313, 273),
    Syscall("delete_module", 176, 106),
    Syscall("create_module", 174, None),
    Syscall("query_module", 178, None),
    Syscall("get_kernel_syms", 177, None),
    Syscall("kexec_load", 246, 104),
    Syscall("kexec_file_load", 320, 294),
    Syscall("uselib", 134, None),
)
_OTHER_PROCESSES = (
    Syscall("ptrace", 101, 117),
    Syscall("process_vm_readv", 310, 270),
    Syscall("process_vm_writev", 311, 271),
    Syscall("process_madvise", 440, 440),
    Syscall("process_mrelease", 448, 448),
    Syscall("pidfd_getfd", 438, 438),
    Syscall("kcmp", 312, 272),
    Syscall("migrate_pages", 256, 238),
    Syscall("move_pages", 279, 239),
)
_KEYRINGS = (
    # Keyrings are not namespaced by every kernel: keys of other sandboxes of the same uid would be in reach.
    Syscall("add_key", 248, 217),
    Syscall("request_key", 249, 218),
    Syscall("keyctl", 250, 219),
)
_UNSEEN_MEMORY = (
    # Memory that lives outside of every process and of the bounded tmpfs: no sum over a run's processes sees it, so
    # without a cgroup one run could fill the host with it. POSIX shared memory (/dev/shm) is in the bounded tmpfs.
    # `vmsplice` leaves pages in a pipe that nobody maps any more: one slot of it can hold a whole huge page.
    Syscall("memfd_create", 319, 279),
    Syscall("vmsplice", 278, 75),
    Syscall("shmget", 29, 194),
    Syscall("shmat", 30, 196),
    Syscall("shmctl", 31, 195),
    Syscall("semget", 64, 190),
    Syscall("msgget", 68, 186),
)
_WIDE_SURFACES = (
    # io_uring does its work outside of this filter's sight; userfaultfd stops the kernel at a chosen moment,
    # which turns races into certainties; memfd_secret hides memory from whoever looks after the host.
    Syscall("io_uring_setup", 425, 425),
    Syscall("io_uring_enter", 426, 426),
    Syscall("io_uring_register", 427, 427),
    Syscall("userfaultfd", 323, 282),
    Syscall("memfd_secret", 447, 447),
    Syscall("modify_ldt", 154, None),
    # The number of its events is bounded for the host as a whole (fs.aio-max-nr): one run could take them all.
    Syscall("io_setup", 206, 0),
)
_THE_MACHINE = (
    Syscall("reboot", 169, 142),
    Syscall("acct", 163, 89),
    Syscall("syslog", 103, 116),
    Syscall("vhangup", 153, 58),
    Syscall("settimeofday", 164, 170),
    Syscall("clock_settime", 227, 112),
    Syscall("clock_adjtime", 305, 266),
    Syscall("ioperm", 173, None),
    Syscall("iopl", 172, None),
    Syscall("nfsservctl", 180, 42),
    Syscall("_sysctl", 156, None),
)

DENIED: tuple[Syscall, ...] = (
    *_IDENTITY_AND_NAMESPACES,
    *_MOUNTS,
    *_FILES_BY_HANDLE,
    *_KERNEL_CODE,
    *_OTHER_PROCESSES,
    *_KEYRINGS,
    *_UNSEEN_MEMORY,
    *_WIDE_SURFACES,
    *_THE_MACHINE,
)
"""Refused with EPERM, whatever the arguments."""

CLONE3 = Syscall("clone3", 435, 435)
CLONE = Syscall("clone", 56, 220)
IOCTL = Syscall("ioctl", 16, 29)
PERSONALITY = Syscall("personality", 135, 92)
SOCKET = Syscall("socket", 41, 198)
SOCKETPAIR = Syscall("socketpair", 53, 199)
SETSOCKOPT = Syscall("setsockopt", 54, 208)
MMAP = Syscall("mmap", 9, 222)
FCNTL = Syscall("fcntl", 72, 25)

NEW_NAMESPACES = 0x7E02_0000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET (linux/sched.h); NEWTIME is clone3's."""

DENIED_IOCTLS = {
    0x5412: "TIOCSTI: types into the terminal, as if whoever sits there did",
    0x541C: "TIOCLINUX: pastes into a console",
    0x5423: "TIOCSETD: loads a line discipline, old kernel code that few programs want",
}
"""Refused with EPERM on any descriptor (asm-generic/ioctls.h)."""

PERSONALITIES = (0x0, 0x8, 0x2_0000, 0x2_0008, 0xFFFF_FFFF)
"""PER_LINUX, PER_LINUX32, either with UNAME26, and the query; no way to switch off address randomisation."""

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_TYPE_MASK = 1, 2, 5, 0xF
INET_PROTOCOLS = (0, 1, 6, 17, 58)
"""The default of the type, ICMP (unprivileged ping), TCP, UDP, ICMPv6: what the packet filter judges."""


DENIED_SOCKET_OPTIONS = {
    (6, 31): "TCP_ULP: makes a TCP socket into TLS in the kernel, or into a family that is refused (SMC)",
    (0, 15): "IP_FREEBIND: sends from an address that is not the sandbox's own",
    (41, 78): "IPV6_FREEBIND: the same",
}
"""Refused with ENOPROTOOPT, by level and option (linux/tcp.h, in.h, in6.h)."""

F_OFD_SETLK = (37, 38)  # and F_OFD_SETLKW
MAP_SHARED, MAP_ANONYMOUS, MAP_HUGETLB, MAP_TYPE = 0x1, 0x20, 0x4_0000, 0xF
"""Of linux/mman.h; the same on both architectures."""


def _clone() -> Source:
    return (
        argument(0),
        Step(JUMP_ANY_BIT, NEW_NAMESPACES, "clone-new"),
        Step(RETURN, ALLOW),
        "clone-new",
        refuse(errno.EPERM),
    )


def _ioctl() -> Source:
    return (
        argument(1),
        *(Step(JUMP_EQUAL, request, "ioctl-refused") for request in DENIED_IOCTLS),
        Step(RETURN, ALLOW),
        "ioctl-refused",
        refuse(errno.EPERM),
    )


def _personality() -> Source:
    return (
        argument(0),
        *(Step(JUMP_EQUAL, persona, "personality-allowed") for persona in PERSONALITIES),
        refuse(errno.EPERM),
        "personality-allowed",
        Step(RETURN, ALLOW),
    )


def _socket() -> Source:
    """Unix sockets, TCP, UDP and ping; of netlink only what tells a program its own addresses.

    Every other family (packet, vsock, alg, can, bluetooth, xdp, tipc, smc, rds …) is code that needs no
    capability to reach and that the packet filter does not judge. Its absence is told as a kernel without it
    would tell it, so that programs which only ask fall back.
    """
    return (
        argument(0),
        Step(JUMP_EQUAL, AF_UNIX, "socket-allowed"),
        Step(JUMP_EQUAL, AF_INET, "socket-inet"),
        Step(JUMP_EQUAL, AF_INET6, "socket-inet"),
        Step(JUMP_EQUAL, AF_NETLINK, "socket-netlink"),
        refuse(errno.EAFNOSUPPORT),
        "socket-netlink",
        argument(2),
        Step(JUMP_EQUAL, 0, "socket-allowed"),  # NETLINK_ROUTE
        refuse(errno.EPROTONOSUPPORT),
        "socket-inet",
        argument(1),
        Step(AND, SOCK_TYPE_MASK),
        Step(JUMP_EQUAL, SOCK_STREAM, "socket-protocol"),
        Step(JUMP_EQUAL, SOCK_DGRAM, "socket-protocol"),
        refuse(errno.EPERM),
        "socket-protocol",
        argument(2),
        *(Step(JUMP_EQUAL, protocol, "socket-allowed") for protocol in INET_PROTOCOLS),
        refuse(errno.EPROTONOSUPPORT),
        "socket-allowed",
        Step(RETURN, ALLOW),
    )


def _socketpair() -> Source:
    return (
        argument(0),
        Step(JUMP_EQUAL, AF_UNIX, "socketpair-allowed"),
        refuse(errno.EAFNOSUPPORT),
        "socketpair-allowed",
        Step(RETURN, ALLOW),
    )


def _setsockopt() -> Source:
    levels: list[Step | str] = []
    options: list[Step | str] = []
    for level, option in DENIED_SOCKET_OPTIONS:
        label = f"setsockopt-level-{level}"
        levels.append(Step(JUMP_EQUAL, level, label))
        options += (
            label,
            argument(2),
            Step(JUMP_EQUAL, option, "setsockopt-refused"),
            Step(RETURN, ALLOW),
        )
    return (
        argument(1),
        *levels,
        Step(RETURN, ALLOW),
        *options,
        "setsockopt-refused",
        refuse(errno.ENOPROTOOPT),
    )


def _mmap(memory_is_counted: bool) -> Source:
    """No huge pages, which are the host's and not among what a run is counted for, by whatever means.

    And, unless the kernel counts a run's memory: none that is shared and anonymous. Its pages stay when nobody has
    them mapped any more (MADV_DONTNEED, the end of the process that touched them), so that no sum over processes
    shows them. A file in `/dev/shm` serves as well, and is bounded.
    """
    unseen = (
        Step(AND, MAP_TYPE | MAP_ANONYMOUS),
        Step(JUMP_EQUAL, MAP_SHARED | MAP_ANONYMOUS, "mmap-refused"),
    )
    return (
        argument(3),
        Step(JUMP_ANY_BIT, MAP_HUGETLB, "mmap-refused"),
        *(() if memory_is_counted else unseen),
        Step(RETURN, ALLOW),
        "mmap-refused",
        refuse(errno.EPERM),
    )


def _fcntl() -> Source:
    """No locks of open file descriptions (F_OFD_SETLK): no process's, so that nobody can count a run's (`tree`)."""
    return (
        argument(1),
        *(Step(JUMP_EQUAL, command, "fcntl-refused") for command in F_OFD_SETLK),
        Step(RETURN, ALLOW),
        "fcntl-refused",
        refuse(errno.EINVAL),
    )


def _judged_by_argument(
    architecture: Architecture, memory_is_counted: bool
) -> Iterator[tuple[int, str, Source]]:
    for syscall, block in (
        (CLONE, _clone()),
        (IOCTL, _ioctl()),
        (PERSONALITY, _personality()),
        (SOCKET, _socket()),
        (SOCKETPAIR, _socketpair()),
        (SETSOCKOPT, _setsockopt()),
        (MMAP, _mmap(memory_is_counted)),
        (FCNTL, _fcntl()),
    ):
        number = syscall.number(architecture)
        if number is not None:
            yield number, syscall.name, block


def program(architecture: Architecture, *, memory_is_counted: bool = False) -> tuple[Instruction, ...]:
    """The filter for an architecture, as instructions.

    `memory_is_counted` is whether the kernel itself counts all memory of the run, mapped or not (a cgroup).

    In order: another architecture's call kills the process (its numbers mean other calls: 26 is `ptrace` for
    i386); what is judged by its arguments; what is refused; what is not known, with every call of x32 among
    it; the rest is allowed.
    """
    judged = tuple(_judged_by_argument(architecture, memory_is_counted))
    denied = [number for call in DENIED if (number := call.number(architecture)) is not None]
    clone3 = CLONE3.number(architecture)
    if clone3 is None:
        raise AssertionError("clone3 has a number on every architecture")
    return assemble(
        (
            Step(LOAD, ARCH),
            Step(JUMP_EQUAL, architecture.audit, "native"),
            Step(RETURN, KILL_PROCESS),
            "native",
            Step(LOAD, NUMBER),
            *(Step(JUMP_EQUAL, number, f"judge-{name}") for number, name, _ in judged),
            *(Step(JUMP_EQUAL, number, "denied") for number in sorted(denied)),
            Step(JUMP_EQUAL, clone3, "absent"),
            Step(JUMP_GREATER, HIGHEST_KNOWN, "absent"),
            Step(RETURN, ALLOW),
            "denied",
            refuse(errno.EPERM),
            "absent",
            refuse(errno.ENOSYS),
            *(item for _, name, block in judged for item in (f"judge-{name}", *block)),
        )
    )


def syscall_filter(architecture: Architecture, *, memory_is_counted: bool = False) -> bytes:
    """The filter for an architecture, ready to be loaded; see `program`."""
    return to_bytes(program(architecture, memory_is_counted=memory_is_counted))


def socketless_filter(architecture: Architecture) -> bytes:
    """A further filter, for runs that have no network namespace to keep them from the network: no sockets at all.

    Pairs of connected sockets, by which a program talks to its own children, are left; not those of datagrams,
    which can send to any other socket that has a name. It does not look at the architecture, since it is loaded
    after the filter that does.
    """
    return _further_filter(
        architecture,
        (SOCKET, (refuse(errno.EACCES),)),
        (
            SOCKETPAIR,
            (
                argument(1),
                Step(AND, SOCK_TYPE_MASK),
                Step(JUMP_EQUAL, SOCK_STREAM, "socketpair-allowed"),
                Step(JUMP_EQUAL, SOCK_SEQPACKET, "socketpair-allowed"),
                refuse(errno.EACCES),
                "socketpair-allowed",
                Step(RETURN, ALLOW),
            ),
        ),
    )


ON_OTHERS = (
    # (call, the arguments that must be so for it to be about the caller itself)
    (Syscall("prlimit64", 302, 261), (0,)),
    (Syscall("sched_setaffinity", 203, 122), (0,)),
    (Syscall("sched_setparam", 142, 118), (0,)),
    (Syscall("sched_setscheduler", 144, 119), (0,)),
    (Syscall("sched_setattr", 314, 274), (0,)),
    (Syscall("setpriority", 141, 140), (0, 0)),  # PRIO_PROCESS
    (Syscall("ioprio_set", 251, 30), (1, 0)),  # IOPRIO_WHO_PROCESS
)
"""Calls that change a process of the same uid, wherever it is: a limit of one second of processor time kills it."""

HOST_WIDE = (
    Syscall("mq_open", 240, 180),
    Syscall("mq_unlink", 241, 181),
    # Tells the names of what others make in a directory that the script cannot list.
    Syscall("inotify_add_watch", 254, 27),
)
"""Calls that reach what other namespaces than the mount namespace would keep apart, or that Landlock does not judge."""


def neighbourless_filter(architecture: Architecture) -> bytes:
    """A further filter, for runs without namespaces: nothing that changes, or tells of, others of the same uid.

    Loaded after the filter that looks at the architecture, as `socketless_filter` is.
    """
    return _further_filter(
        architecture,
        *((call, _about_itself(call, arguments)) for call, arguments in ON_OTHERS),
        *((call, (refuse(errno.EPERM),)) for call in HOST_WIDE),
    )


def _about_itself(call: Syscall, arguments: tuple[int, ...]) -> Source:
    checks: list[Step | str] = []
    for index, value in enumerate(arguments):
        checks += [
            argument(index),
            Step(JUMP_EQUAL, value, f"{call.name}-{index}"),
            refuse(errno.EPERM),
            f"{call.name}-{index}",
        ]
    return (*checks, Step(RETURN, ALLOW))


def _further_filter(architecture: Architecture, *judged: tuple[Syscall, Source]) -> bytes:
    numbered = [(call.number(architecture), call.name, block) for call, block in judged]
    known = [(number, name, block) for number, name, block in numbered if number is not None]
    return to_bytes(
        assemble(
            (
                Step(LOAD, NUMBER),
                *(Step(JUMP_EQUAL, number, f"judge-{name}") for number, name, _ in known),
                Step(RETURN, ALLOW),
                *(item for _, name, block in known for item in (f"judge-{name}", *block)),
            )
        )
    )
