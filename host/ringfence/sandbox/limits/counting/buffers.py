"""What the kernel keeps for a run's descriptors: the buffers of its sockets and pipes, which no process maps.

Threat: a script fills sockets and pipes that nobody reads, until the host has no memory, or none for its own
connections (what TCP may take is one pool for the machine, tcp(7)). Mechanism: a bound first, from the number of
descriptors and of sockets. Only if that is too much is each descriptor asked what it holds: the kernel gives us a copy
of it (pidfd_getfd(2)), which tells. Descriptors are told apart by what they are and by their inode, never by text.

A socket may have no descriptor: one that waits to be accepted, that is on its way in another socket's message, or that
was closed before what it sent was read. The kernel's count of sockets in a network namespace has those too, so each one
that no descriptor shows counts by what such a socket can hold; or, of TCP, by what is queued in it.

Not covered: sockets without a descriptor in a run that is in the host's own network, whose sockets are not the run's
alone; pipes on their way in a message (as many as one user may have, unix(7), of at most 64 MiB in all, pipe(7)); what
the kernel keeps for other kinds of descriptors (watches of epoll are bounded per user, epoll(7)). Where the kernel
gives us no copies (a container's filter may refuse it), unix sockets and pipes count as if they were full.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import enum
import fcntl
import os
import platform
import socket
import stat
import struct
import termios
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from ringfence.sandbox.filters.seccomp import Architecture, Syscall, UnsupportedArchitecture
from ringfence.sandbox.limits.counting import procfs

PIDFD_GETFD = Syscall("pidfd_getfd", 438, 438)
F_GETPIPE_SZ, SO_MEMINFO = 1032, 55
"""Of linux/fcntl.h and asm-generic/socket.h."""

KIB = 1024
PAGE = 4 * KIB

BYTES_PER_DESCRIPTOR = KIB // 2
"""What the kernel keeps of an open file, whatever it is."""

BYTES_PER_PIPE, MOST_IN_PIPE = 2 * KIB, 64 * KIB
"""What a pipe takes, and what it can hold: a script cannot have a larger one (see `seccomp`)."""

BYTES_PER_SOCKET = 2 * KIB

BYTES_PER_CLOSED = KIB // 2
"""What is kept for a minute of a TCP connection that this side has closed, which is no socket any more (TIME_WAIT)."""

QUEUED_FACTOR = 4
"""How much memory what is queued in a TCP socket takes at most, as a multiple of it."""


def _host(name: str, place: int, otherwise: int) -> int:
    """A number of the host's network settings, which are what a new namespace gets."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/sys/net", name).read_text().split()[place])
    return otherwise


_DEFAULT = max(_host("core/rmem_default", 0, 208 * KIB), _host("core/wmem_default", 0, 208 * KIB))

MOST_IN_SOCKET = BYTES_PER_SOCKET + _DEFAULT + 128 * KIB
"""What a socket other than TCP's can hold: a buffer as it is by default, and one message more.

What one sends on this machine is in its own buffer (unix) or in the receiver's (UDP), never in both."""

MOST_IN_TCP = MOST_IN_SOCKET + _host("ipv4/tcp_rmem", 2, 32 * KIB**2) + _host("ipv4/tcp_wmem", 2, 4 * KIB**2)

MOST_IN_NETWORK = min(64 * KIB**2, _host("ipv4/tcp_mem", 0, 2**40) * PAGE // 8)
"""What TCP and UDP of one run may take: an eighth of what the machine's may have without pressure."""

_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes: all that the kernel keeps for the descriptors and sockets of a run, and what of it is TCP's and UDP's."""

    bytes: int
    network: int

    def least(self, other: Held) -> Held:
        """The lower one of two upper bounds."""
        return Held(min(self.bytes, other.bytes), min(self.network, other.network))


@dataclass(frozen=True, slots=True)
class Sockets:
    """How many sockets a network namespace has: all, and what of it are TCP's and UDP's.

    `closed` are connections of TCP that are not sockets any more, and of which something is kept.
    """

    used: int = 0
    tcp: int = 0
    udp: int = 0
    closed: int = 0

    @classmethod
    def told(cls, sockstat: bytes, sockstat6: bytes) -> Sockets:
        """Of `/proc/PID/net/sockstat` and `sockstat6`, which have no chosen text."""
        return cls(
            used=_after(sockstat, b"sockets: used"),
            tcp=_after(sockstat, b"TCP: inuse") + _after(sockstat6, b"TCP6: inuse"),
            udp=_after(sockstat, b"UDP: inuse") + _after(sockstat6, b"UDP6: inuse"),
            # Of both families: only TCP's line has such a word, and no words but its own names (proc_pid_net(5)).
            closed=_within(sockstat, b"TCP:", b"tw"),
        )

    @property
    def others(self) -> int:
        return max(self.used - self.tcp, 0)


def _after(text: bytes, words: bytes) -> int:
    _, found, rest = (b"\n" + text).partition(b"\n" + words + b" ")
    return procfs.digits(rest.split()[:1], words) if found else 0


def _within(text: bytes, line: bytes, word: bytes) -> int:
    """The number after a word of a line that begins so."""
    _, found, rest = (b"\n" + text).partition(b"\n" + line + b" ")
    words = rest.partition(b"\n")[0].split()
    return procfs.digits(words[words.index(word) + 1 :][:1], word) if found and word in words else 0


def bound(descriptors: int, sockets: Sockets) -> Held:
    """What so many descriptors and sockets can hold."""
    pipes = descriptors * (BYTES_PER_DESCRIPTOR + BYTES_PER_PIPE + MOST_IN_PIPE)
    network = sockets.tcp * MOST_IN_TCP + sockets.udp * MOST_IN_SOCKET
    others = max(sockets.others - sockets.udp, 0) * MOST_IN_SOCKET + sockets.closed * BYTES_PER_CLOSED
    return Held(pipes + network + others, network)


class Queued(NamedTuple):
    """A socket in `/proc/PID/net/tcp` (proc_pid_net(5)): its inode, 0 without a descriptor, and what is queued."""

    inode: int
    bytes: int


_TIME_WAIT, _REQUEST = b"06", b"0C"
"""States (net/tcp_states.h) of what is not a socket yet, or not any more."""


def queued(text: bytes) -> Iterator[Queued]:
    """The sockets in `/proc/PID/net/tcp` or `tcp6`, which have no chosen text. Raises UnknownFormat."""
    for line in text.split(b"\n")[1:]:
        words = line.split()
        if not words or words[3] in (_TIME_WAIT, _REQUEST):
            continue
        try:
            sent, _, received = words[4].partition(b":")
            yield Queued(int(words[9]), int(sent, 16) + int(received, 16))
        except (ValueError, IndexError):
            raise procfs.UnknownFormat("a line of net/tcp has an unknown form") from None


class Kind(enum.Enum):
    """What a socket is, as far as it matters whose pool its buffers are from."""

    TCP = enum.auto()
    UDP = enum.auto()
    OTHER = enum.auto()


class InSocket(NamedTuple):
    """What is in one socket, with all that the kernel keeps for it."""

    kind: Kind
    bytes: int


@dataclass(slots=True)
class Tally:
    """What is found descriptor by descriptor; each socket and pipe once, however many descriptors it has."""

    known: Mapping[int, InSocket | None] = field(default_factory=dict)
    """What was found a moment ago; it is not asked again."""
    certain: int = 0
    """Bytes that were found so far, whatever else there is."""
    descriptors: int = 0
    unseen: int = 0
    pipes: dict[tuple[int, int], int] = field(default_factory=dict)
    sockets: dict[int, InSocket | None] = field(default_factory=dict)
    """By inode; None for one that could not be asked."""

    def add(self, owner: int | None, number: int, found: os.stat_result) -> None:
        """Take in a descriptor: `found` is what it is of, `owner` a pidfd of who has it, if there is one."""
        self.descriptors += 1
        if stat.S_ISFIFO(found.st_mode):
            key = found.st_dev, found.st_ino
            if key not in self.pipes:
                self.pipes[key] = BYTES_PER_PIPE + _asked(owner, number, found, _in_pipe, MOST_IN_PIPE)
                self.certain += self.pipes[key]
        elif stat.S_ISSOCK(found.st_mode) and self.sockets.get(found.st_ino) is None:
            told = self.known.get(found.st_ino) or _asked(owner, number, found, _in_socket, None)
            self.sockets[found.st_ino] = told
            self.certain += 0 if told is None else told.bytes

    def add_unseen(self, descriptors: int) -> None:
        """Take in so many descriptors that may not be looked at: pipes, and full.

        Sockets are counted elsewhere.
        """
        self.descriptors += descriptors
        self.unseen += descriptors * (BYTES_PER_PIPE + MOST_IN_PIPE)

    def held(self, before: Tally, sockets: Sockets, tcp: Callable[[], Iterable[Queued]]) -> Held:
        """What is held at most, with the sockets of which there is no descriptor.

        Args:
            before: a tally of the same descriptors that was made before this one.
            sockets: how many there were between the two. What both have seen was there then.
            tcp: tells of those of TCP.
        """
        told = {inode: known for inode, known in self.sockets.items() if known is not None}
        untold = self.sockets.keys() - told.keys()
        both = self.sockets.keys() & before.sockets.keys()
        seen_tcp = sum(1 for inode in both if inode in untold or told[inode].kind is Kind.TCP)
        hidden_tcp = max(sockets.tcp - seen_tcp, 0)
        hidden = max(sockets.used - len(both) - hidden_tcp, 0)
        network = sum(known.bytes for known in told.values() if known.kind is not Kind.OTHER)
        others = sum(known.bytes for known in told.values() if known.kind is Kind.OTHER)
        if hidden_tcp or (untold and sockets.tcp):
            for inode, size in tcp():
                if inode not in told:
                    network += BYTES_PER_SOCKET + size * QUEUED_FACTOR
                    untold -= {inode}
        others += (hidden + len(untold)) * MOST_IN_SOCKET + sockets.closed * BYTES_PER_CLOSED
        pipes = self.unseen + self.descriptors * BYTES_PER_DESCRIPTOR + sum(self.pipes.values())
        return Held(pipes + others + network, network)


def _asked(owner: int | None, number: int, found: os.stat_result, ask: Callable[[int], T], otherwise: T) -> T:
    """What a copy of the descriptor tells, if there can be one, and it still is what was found."""
    copy = -1 if owner is None else _copied(owner, number)
    if copy < 0:
        return otherwise
    try:
        now = os.fstat(copy)
        return ask(copy) if (now.st_dev, now.st_ino) == (found.st_dev, found.st_ino) else otherwise
    except OSError:
        return otherwise
    finally:
        os.close(copy)


def _copied(owner: int, number: int) -> int:
    try:
        call = PIDFD_GETFD.number(Architecture.of(platform.machine()))
    except UnsupportedArchitecture:
        return -1
    return int(_libc.syscall(call, owner, number, 0))


def _in_pipe(pipe: int) -> int:
    """What a pipe holds at most: as many pages as there are bytes in it, and no more than it has room for."""
    waiting = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, waiting)
    return min(waiting[0] * PAGE, fcntl.fcntl(pipe, F_GETPIPE_SZ))


def _in_socket(number: int) -> InSocket:
    """What a socket holds: SO_MEMINFO, whose fields are those of SK_MEMINFO_* (linux/sock_diag.h)."""
    asked = socket.socket(fileno=number)
    try:
        told = asked.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 64)
        received, _, sent, _, reserved, waiting, options, backlog, *_ = struct.unpack(
            f"{len(told) // 4}i", told
        )
        # What is reserved for what is to come can be overdrawn for a moment.
        used = received + max(sent, waiting) + max(reserved, 0) + options + backlog
        kind = Kind.OTHER
        if asked.family in (socket.AF_INET, socket.AF_INET6):
            kind = Kind.TCP if asked.type == socket.SOCK_STREAM else Kind.UDP
        return InSocket(kind, BYTES_PER_SOCKET + used)
    finally:
        asked.detach()
