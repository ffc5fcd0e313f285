"""The inside end of a relay: sockets that are opened in the run's network namespace, by a child that goes there for it.

The namespace has a loopback and nothing else, and in it every address is local: what the run sends to anybody comes
to the sockets that are opened here, or is refused by the kernel because there is none. No packet leaves the
namespace, whatever is done in it.

To enter it takes a capability in the user namespace that owns it. Its owner, who is the run's uid outside, has every
capability there (user_namespaces(7)); but who has entered cannot come back. So a child enters, opens, hands the sockets
over (unix(7), SCM_RIGHTS) and ends.
"""

from __future__ import annotations

import array
import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

from ..orders import Orders
from . import loopback
from .every_port import take_every_port
from .socket_filters import NOTHING, attach, unmarked_syns_dropped, what_is_watched
from .whereabouts import DNS, RESOLVER, OpeningError

NS_GET_USERNS = 0xB701
"""ioctl_ns(2)."""
CLONE_NEWUSER, CLONE_NEWNET = 0x1000_0000, 0x4000_0000

SO_MARK, IP_HDRINCL_V6, IP_TRANSPARENT, IPV6_TRANSPARENT = 36, 36, 19, 75
ETH_P_ALL = 0x0003
SOL_PACKET, PACKET_STATISTICS = 263, 6
IPPROTO_RAW = 255

BACKLOG = 1024
"""Nobody comes there whom the relay has not let in; so many at once, at most (`streams.MOST_CONNECTIONS`)."""

WATCHING_BYTES = 4 * 1024 * 1024
"""What waits to be seen by the relay, at most; what is sent beyond that is lost, as on any busy link."""

_MOST_IN_MESSAGE = 200
"""Descriptors in one message; the kernel takes 253 (unix(7), SCM_MAX_FD)."""


@dataclass(slots=True)
class Inside:
    """The sockets of the inside end.

    `watching` sees what is sent; `injecting` puts IPv4 and IPv6 packets there (no IPv6 where the kernel has none).
    `listeners` take TCP connections, `names` those to the resolver; `swallowing` keep the kernel from refusing what
    the relay takes from `watching`. `pings` is whether the run can send echo requests.
    """

    watching: socket.socket
    injecting: dict[int, socket.socket] = field(default_factory=dict)
    listeners: list[socket.socket] = field(default_factory=list)
    names: list[socket.socket] = field(default_factory=list)
    swallowing: list[socket.socket] = field(default_factory=list)
    pings: bool = False


def unseen(watching: socket.socket) -> int:
    """How many packets there was no room for since this was asked last (packet(7), PACKET_STATISTICS)."""
    lost: int = struct.unpack("II", watching.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]
    return lost


def open_inside(pid: int, orders: Orders, mark: int, *, bring_up: bool) -> Inside:
    """Open the sockets in the network namespace of process `pid`, when its loopback is up, or bring that up too.

    Raises:
        OpeningError: if it cannot be entered, or is the host's own.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        ours.close()
        _open_and_end(pid, orders, mark, theirs, bring_up)
    theirs.close()
    try:
        with ours:
            return _received(ours)
    finally:
        os.waitpid(child, 0)


def _open_and_end(pid: int, orders: Orders, mark: int, told: socket.socket, bring_up: bool) -> NoReturn:
    try:
        _enter(pid)
        if bring_up:
            loopback.bring_up()
        else:
            loopback.await_up()
        for label, sockets in _opened(orders, mark):
            _send(told, label, sockets)
        told.send(b"done")
    except Exception as error:
        # Whatever it is, it is told: there is nobody else here who could.
        told.send(f"failed {error}".encode()[:4000])
    finally:
        os._exit(0)


def _send(told: socket.socket, label: str, sockets: list[socket.socket]) -> None:
    for start in range(0, len(sockets), _MOST_IN_MESSAGE):
        some = array.array("i", [each.fileno() for each in sockets[start : start + _MOST_IN_MESSAGE]])
        told.sendmsg([label.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, some)])
    for each in sockets:
        each.close()


def _received(ours: socket.socket) -> Inside:
    found: dict[str, list[socket.socket]] = {}
    while True:
        data, descriptors, _, _ = socket.recv_fds(ours, 4096, _MOST_IN_MESSAGE, socket.MSG_CMSG_CLOEXEC)
        if data == b"done":
            break
        if not data or data.startswith(b"failed "):
            raise OpeningError(data[7:].decode(errors="replace") or "the child that entered it ended")
        found.setdefault(data.decode(), []).extend(socket.socket(fileno=each) for each in descriptors)
    (watching,) = found["watching"]
    return Inside(
        watching,
        {version: each for version in (4, 6) for each in found.get(f"injecting {version}", ())},
        found.get("listeners", []),
        found.get("names", []),
        found.get("swallowing", []),
        "pings" in found,
    )


def _enter(pid: int) -> None:
    """Be in the namespaces of that process, with every capability over its network."""
    libc = ctypes.CDLL(None, use_errno=True)
    network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    if os.fstat(network).st_ino == os.stat("/proc/self/ns/net").st_ino:
        raise OpeningError("the run is not in a network namespace of its own")
    owner = fcntl.ioctl(network, NS_GET_USERNS)
    for descriptor, kind in ((owner, CLONE_NEWUSER), (network, CLONE_NEWNET)):
        if libc.setns(descriptor, kind) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"setns: {os.strerror(number)}")


def _opened(orders: Orders, mark: int) -> Iterator[tuple[str, list[socket.socket]]]:
    """All sockets, by what they are for; whatever fails but what is optional fails all."""
    speaks_v6 = os.path.exists("/proc/net/if_inet6")
    speaks_v6 = loopback.make_all_local(speaks_v6=speaks_v6)
    loopback.cut_datagrams()
    watching = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    watching.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WATCHING_BYTES)
    attach(watching, what_is_watched(mark))
    watching.bind(("lo", ETH_P_ALL))
    yield "watching", [watching]
    yield "injecting 4", [_injecting(socket.AF_INET, mark)]
    if speaks_v6:
        yield "injecting 6", [_injecting(socket.AF_INET6, mark)]
    names = _listener(socket.AF_INET, (RESOLVER, DNS))
    yield "names", [names]
    swallowing = [_swallowing(socket.AF_INET, (RESOLVER, DNS))]
    listeners = []
    wide = socket.AF_INET6 if speaks_v6 else socket.AF_INET
    if orders.every_port:
        taking = [_listener(socket.AF_INET, ("127.0.0.1", 0), mark, transparent=True)]
        if speaks_v6:
            taking.append(_listener(socket.AF_INET6, ("::1", 0), mark, transparent=True))
        take_every_port(orders, mark, [each.getsockname()[1] for each in taking])
        listeners += taking
    else:
        single = _single(orders.listed_ports())
        for port in sorted(single):
            listeners.append(_listener(wide, ("", port), mark))
            swallowing.append(_swallowing(wide, ("", port)))
        for port in sorted(_single(orders.local) - single):
            for family, address in ((socket.AF_INET, RESOLVER), (socket.AF_INET6, "::1"))[: 1 + speaks_v6]:
                if (address, port) != (RESOLVER, DNS):
                    listeners.append(_listener(family, (address, port), mark))
                    swallowing.append(_swallowing(family, (address, port)))
    yield "listeners", listeners
    yield "swallowing", swallowing
    if loopback.lets_ping():
        yield "pings", [socket.socket(socket.AF_INET, socket.SOCK_DGRAM)]


def _single(ports: tuple[tuple[int, int], ...]) -> set[int]:
    return {port for first, last in ports for port in range(first, last + 1)}


def _listener(
    family: int, where: tuple[str, int], mark: int | None = None, *, transparent: bool = False
) -> socket.socket:
    """A listening socket; one with a mark hears only those that the relay lets in."""
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _share_with_resolver(listener, where[1])
    if mark is not None:
        attach(listener, unmarked_syns_dropped(mark))
    if transparent:
        level, option = (
            (socket.SOL_IP, IP_TRANSPARENT)
            if family == socket.AF_INET
            else (socket.IPPROTO_IPV6, IPV6_TRANSPARENT)
        )
        listener.setsockopt(level, option, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(where[0] != ""))
    listener.bind(where)
    listener.listen(BACKLOG)
    return listener


def _swallowing(family: int, where: tuple[str, int]) -> socket.socket:
    swallowing = socket.socket(family, socket.SOCK_DGRAM)
    _share_with_resolver(swallowing, where[1])
    if family == socket.AF_INET6:
        swallowing.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(where[0] != ""))
    attach(swallowing, NOTHING)
    swallowing.bind(where)
    return swallowing


def _share_with_resolver(bound: socket.socket, port: int) -> None:
    """Let name servers be listed, too: who is bound to an address is preferred to who is bound to all (socket(7))."""
    if port == DNS:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _injecting(family: int, mark: int) -> socket.socket:
    injecting = socket.socket(family, socket.SOCK_RAW, IPPROTO_RAW)
    if family == socket.AF_INET6:
        injecting.setsockopt(socket.IPPROTO_IPV6, IP_HDRINCL_V6, 1)
    injecting.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
    # It takes no packets, but would keep those that come.
    attach(injecting, NOTHING)
    return injecting
