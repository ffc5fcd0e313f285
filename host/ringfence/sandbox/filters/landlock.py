"""Confinement without namespaces: Landlock for files and TCP, seccomp for calls and sockets.

For hosts where no user namespace can be made (an ordinary container, a hardened distribution) but the kernel has
Landlock: a process can take rights from itself and its descendants, for good, without any privilege. What is
decided here is applied by `landlock_main`, in the child, just before the script's interpreter.

What it covers: opening, executing, making, renaming and removing files (only the system's programs and libraries,
and the run's scratch, are there to be opened); with no network allowed, every socket; TCP ports, when the
policy lists some; signals to (since ABI 6) and tracing of processes that are not the run's own; and system calls, by
the filter that every run has, and a second one for what is special here: no socket of the host's file system and no
server; nor can a whole file be locked, which would be the host's file.

What it does not: there is no process namespace (other processes' numbers can be seen, though nothing about them in
`/proc`), no mount namespace (a path's existence, size, times and owner can be seen, wherever ordinary permissions
let them), no limit on the run as a whole; modes and times of files of the run's own uid can be changed; ranges of a
file that can be read can be locked for reading; and addresses cannot be told apart, and UDP cannot be restricted, nor a
UDP port be kept, so that an allowlist is no more than its TCP ports.
"""

from __future__ import annotations

import base64
import enum
import json
from collections.abc import Iterable
from dataclasses import dataclass

from ringfence.sandbox.filters.seccomp import Architecture, syscall_filter, unisolated_filter
from ringfence.sandbox.policy.addresses import PortRange


class File(enum.IntFlag):
    """What can be done with files (LANDLOCK_ACCESS_FS_* of linux/landlock.h)."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


BIND_TCP, CONNECT_TCP = 1 << 0, 1 << 1
SCOPE_ABSTRACT_UNIX_SOCKET, SCOPE_SIGNAL = 1 << 0, 1 << 1

TRUNCATES, NETWORKS, SCOPES = 3, 4, 6
"""The ABI versions from which on truncation, TCP, and signals and abstract sockets are covered."""

_SINCE = {File.REFER: 2, File.TRUNCATE: TRUNCATES, File.IOCTL_DEV: 5}
_EVERYTHING = File((1 << 16) - 1)

READ = File.READ_FILE | File.READ_DIR
PROGRAMS = READ | File.EXECUTE
DEVICE = File.READ_FILE | File.WRITE_FILE | File.TRUNCATE | File.IOCTL_DEV
SCRATCH = _EVERYTHING & ~(File.MAKE_CHAR | File.MAKE_BLOCK | File.IOCTL_DEV)

READABLE = (
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/pki/tls/openssl.cnf",
    "/etc/ssl/openssl.cnf",
    "/proc/cpuinfo",
    "/proc/filesystems",
    "/proc/meminfo",
)
"""Single files that programs look for, and that tell nothing that a script should not know."""

DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")

MOST_PORTS = 1024
"""So many TCP ports of an allowlist are told to Landlock; a wider list would make each start slow."""


@dataclass(frozen=True, slots=True)
class Confinement:
    """What a run without namespaces is confined to.

    Attributes:
        abi: the kernel's Landlock version.
        files: whether files are confined; if not, the paths say nothing.
        programs: directories of programs and libraries, readable and executable.
        readable: further paths that can be read.
        sockets: whether sockets can be made at all.
        ports: the TCP ports that can be connected to, if sockets can be made; None for all of them.
        python: the interpreter that applies it, reachable for the run's uid.
    """

    abi: int
    files: bool
    programs: tuple[str, ...]
    readable: tuple[str, ...]
    sockets: bool
    ports: tuple[int, ...] | None
    python: str

    @property
    def handled(self) -> File:
        """The file accesses that are refused unless a rule allows them; what the kernel does not know is left out."""
        handled = _EVERYTHING if self.files else File(0)
        for access, since in _SINCE.items():
            if self.abi < since:
                handled &= ~access
        return handled

    @property
    def handled_tcp(self) -> int:
        """The TCP actions that are refused unless a rule allows them. A script serves nobody."""
        if self.abi < NETWORKS:
            return 0
        return BIND_TCP | (CONNECT_TCP if self.ports is not None else 0)

    @property
    def scopes(self) -> int:
        """What cannot be reached outside of the run."""
        return SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL if self.abi >= SCOPES else 0

    def to_json(self, architecture: Architecture, scratch: str, script: str) -> bytes:
        """The orders for `landlock_main`: numbers and paths only, so that it decides nothing."""
        rules = [
            *((path, PROGRAMS) for path in self.programs),
            *((path, READ) for path in (*READABLE, *self.readable)),
            *((path, DEVICE) for path in DEVICES),
            (scratch, SCRATCH),
            (script, PROGRAMS),
        ]
        # The last one lets no other be loaded.
        filters = (
            unisolated_filter(architecture, sockets=self.sockets),
            syscall_filter(architecture, files_are_shared=self.files),
        )
        size = 8 * (1 + (self.abi >= NETWORKS) + (self.abi >= SCOPES))
        return json.dumps(
            {
                "attributes": [int(self.handled), self.handled_tcp, self.scopes],
                "size": size,
                "rules": [[path, int(access & self.handled)] for path, access in rules if self.files],
                "ports": list(self.ports or ()) if self.handled_tcp & CONNECT_TCP else [],
                "filters": [base64.b64encode(code).decode() for code in filters],
                "scratch": scratch,
            }
        ).encode()


def listed_ports(ranges: Iterable[PortRange | None]) -> tuple[int, ...] | None:
    """The TCP ports of an allowlist; None if it does not name them all, or too many to be told one by one."""
    ports: set[int] = set()
    for each in ranges:
        if each is None or each.last - each.first >= MOST_PORTS:
            return None
        ports.update(range(each.first, each.last + 1))
    return tuple(sorted(ports)) if len(ports) <= MOST_PORTS else None


def covers_files(abi: int) -> bool:
    """Whether no file outside of scratch can be written to, which needs truncation to be covered."""
    return abi >= TRUNCATES


FILES_BY_LANDLOCK = (
    "Landlock: only the system's programs and libraries can be opened, and the run's own scratch"
)
FILES_NOT_COVERED = (
    "under Landlock, paths outside can still be looked at (existence, size, times, owner, where a link leads), files "
    "of the same uid can have their mode and times changed, ranges of files that can be read can be locked for "
    "reading, and what a run writes to its scratch has no bound of its own"
)


def files_not_kept(abi: int) -> str:
    """Why files are not called kept on a kernel that is too old, for the downgrade that says so."""
    return f"Landlock ABI {abi} lets a script empty files that it cannot write to; ABI {TRUNCATES} does not"


def processes_not_kept(abi: int) -> str | None:
    """What a kernel without scopes leaves open, for the note that says so; None if nothing."""
    if abi >= SCOPES:
        return None
    return (
        f"Landlock ABI {abi} does not restrict signals (ABI {SCOPES} does): a script can end any process of its uid, "
        "the one that would end its own daemons among them, and reach abstract sockets if it may have sockets"
    )


NO_SOCKETS = "seccomp: no socket of any family can be made, except pairs that are connected to each other"


def tcp_only(ports: tuple[int, ...] | None, abi: int) -> str:
    """What is left of an allowlist without namespaces, for the downgrade that says so."""
    if ports is None or abi < NETWORKS:
        return "no port is restricted"
    listed = ", ".join(map(str, ports[:8])) + (" …" if len(ports) > 8 else "")
    return (
        f"Landlock restricts TCP to the listed ports ({listed}) of any address; UDP is not restricted, "
        "and its ports can be bound"
    )
