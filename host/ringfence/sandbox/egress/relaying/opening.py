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
import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

from .orders import Orders
from .packets import ECHO_REQUEST, ECHO_REQUEST_V6

NS_GET_USERNS = 0xB701
"""ioctl_ns(2)."""
CLONE_NEWUSER, CLONE_NEWNET = 0x1000_0000, 0x4000_0000

SO_ATTACH_FILTER, SO_MARK, IP_HDRINCL_V6, IP_TRANSPARENT, IPV6_TRANSPARENT = 26, 36, 36, 19, 75
ETH_P_ALL, PACKET_OUTGOING = 0x0003, 4
ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD
SOL_PACKET, PACKET_STATISTICS = 263, 6
IPPROTO_RAW = 255

OWN_V4, OWN_V6 = "198.19.254.100", "fd00:5e:5e::100"
"""The run's own addresses: of a range for measurements (RFC 2544), and a unique local one."""

DNS = 53
RESOLVER = "127.0.0.1"
"""Where names are resolved, inside."""

MOST_LISTENERS = 512
"""So many ports can be listed one by one; where there are more, a packet filter has to take connections."""

BACKLOG = 1024
"""Nobody comes there whom the relay has not let in; so many at once, at most (`streams.MOST_CONNECTIONS`)."""

WATCHING_BYTES = 4 * 1024 * 1024
"""What waits to be seen by the relay, at most; what is sent beyond that is lost, as on any busy link."""

_MOST_IN_MESSAGE = 200
"""Descriptors in one message; the kernel takes 253 (unix(7), SCM_MAX_FD)."""


class OpeningError(RuntimeError):
    """The inside end could not be made; the message says why."""


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
            _bring_up()
        else:
            _await_up()
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
    speaks_v6 = _make_all_local(speaks_v6=speaks_v6)
    _cut_datagrams()
    watching = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    watching.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WATCHING_BYTES)
    _filter(watching, _what_is_watched(mark))
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
        _load_filter(orders, mark, [each.getsockname()[1] for each in taking])
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
    if _lets_ping():
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
        _filter(listener, _unmarked_syns_dropped(mark))
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
    _filter(swallowing, [_Instruction(RET, 0)])
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
    _filter(injecting, [_Instruction(RET, 0)])
    return injecting


# Filters of sockets (Documentation/networking/filter.rst)

LD_BYTE, LD_HALF, LD_WORD, LD_BYTE_AT_X, LDX_HEADER = 0x30, 0x28, 0x20, 0x50, 0xB1
JUMP_EQUAL, AND, RET = 0x15, 0x54, 0x06
ANCILLARY = 0xFFFF_F000
A_PROTOCOL, A_PACKET_TYPE, A_MARK = ANCILLARY + 0, ANCILLARY + 4, ANCILLARY + 20
ALL = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class _Instruction:
    code: int
    operand: int
    if_true: int = 0
    if_false: int = 0

    def packed(self) -> bytes:
        return struct.pack("=HBBI", self.code, self.if_true, self.if_false, self.operand)


def _unmarked_syns_dropped(mark: int) -> list[_Instruction]:
    """Drops what asks for a connection (the data begins with the TCP header), but for what has the mark."""
    return [
        _Instruction(LD_BYTE, 13),
        _Instruction(AND, 0x12),
        _Instruction(JUMP_EQUAL, 0x02, 0, 2),
        _Instruction(LD_WORD, A_MARK),
        _Instruction(JUMP_EQUAL, mark, 0, 1),
        _Instruction(RET, ALL),
        _Instruction(RET, 0),
    ]


def _what_is_watched(mark: int) -> list[_Instruction]:
    """What the run sends: requests for TCP connections, UDP and echo requests; not what is injected or comes back."""
    keep, drop = "keep", "drop"
    is_first: list[tuple[int, int, str | int, str | int]] = [
        (AND, 0x12, 0, 0),
        (JUMP_EQUAL, 0x02, keep, drop),
    ]
    lines: list[tuple[int, int, str | int, str | int]] = [
        (LD_BYTE, A_PACKET_TYPE, 0, 0),
        (JUMP_EQUAL, PACKET_OUTGOING, 0, drop),
        (LD_WORD, A_MARK, 0, 0),
        (JUMP_EQUAL, mark, drop, 0),
        (LD_HALF, A_PROTOCOL, 0, 0),
        (JUMP_EQUAL, ETH_P_IP, 0, 11),
        (LD_BYTE, 9, 0, 0),
        (JUMP_EQUAL, socket.IPPROTO_UDP, keep, 0),
        (JUMP_EQUAL, socket.IPPROTO_ICMP, 0, 3),
        (LDX_HEADER, 0, 0, 0),
        (LD_BYTE_AT_X, 0, 0, 0),
        (JUMP_EQUAL, ECHO_REQUEST, keep, drop),
        (JUMP_EQUAL, socket.IPPROTO_TCP, 0, drop),
        (LDX_HEADER, 0, 0, 0),
        (LD_BYTE_AT_X, 13, 0, 0),
        *is_first,
        (JUMP_EQUAL, ETH_P_IPV6, 0, drop),
        (LD_BYTE, 6, 0, 0),
        (JUMP_EQUAL, socket.IPPROTO_UDP, keep, 0),
        (JUMP_EQUAL, socket.IPPROTO_ICMPV6, 0, 2),
        (LD_BYTE, 40, 0, 0),
        (JUMP_EQUAL, ECHO_REQUEST_V6, keep, drop),
        (JUMP_EQUAL, socket.IPPROTO_TCP, 0, drop),
        (LD_BYTE, 40 + 13, 0, 0),
        *is_first,
        (RET, ALL, 0, 0),
        (RET, 0, 0, 0),
    ]
    labels = {keep: len(lines) - 2, drop: len(lines) - 1}
    return [
        _Instruction(
            code,
            operand,
            *(to if isinstance(to, int) else labels[to] - place - 1 for to in (if_true, if_false)),
        )
        for place, (code, operand, if_true, if_false) in enumerate(lines)
    ]


def _filter(filtered: socket.socket, program: list[_Instruction]) -> None:
    code = b"".join(each.packed() for each in program)
    held = ctypes.create_string_buffer(code)
    filtered.setsockopt(
        socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(program), ctypes.addressof(held))
    )


# Addresses and routes (rtnetlink(7))

IFF_UP, SIOCGIFFLAGS, SIOCSIFFLAGS = 0x1, 0x8913, 0x8914
SIOCETHTOOL, ETHTOOL_GSTRINGS, ETHTOOL_SFEATURES, ETH_SS_FEATURES = 0x8946, 0x1B, 0x3B, 4
CUTS_DATAGRAMS = b"tx-udp-segmentation"
MOST_FEATURES = 256
"""Features that a kernel knows of links (ethtool(8), linux/ethtool.h); there are some sixty."""
RTMGRP_LINK = 1
UP_S = 10.0
RTM_NEWADDR, RTM_NEWROUTE = 20, 24
NLM_F_REQUEST_ACK_CREATE = 0x1 | 0x4 | 0x400
RT_TABLE_LOCAL, RTPROT_BOOT, RT_SCOPE_HOST, RTN_LOCAL = 255, 3, 254, 2
RTA_OIF, RTA_PREFSRC = 4, 7
IFA_ADDRESS, IFA_LOCAL, IFA_F_NODAD = 1, 2, 0x02
LOOPBACK = 1
"""The index of `lo`, in every namespace."""


def _bring_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))


def _cut_datagrams() -> None:
    """Have the kernel cut what is sent as several datagrams at once (udp(7), UDP_SEGMENT) before it is seen."""
    strings = bytearray(struct.pack("III", ETHTOOL_GSTRINGS, ETH_SS_FEATURES, 0) + bytes(MOST_FEATURES * 32))
    with contextlib.suppress(OSError, ValueError):
        _ethtool(strings)
        (count,) = struct.unpack_from("8xI", strings)
        names = [bytes(strings[12 + 32 * n : 44 + 32 * n]).rstrip(b"\0") for n in range(count)]
        word, bit = divmod(names.index(CUTS_DATAGRAMS), 32)
        words = -(-count // 32)
        # Which features are changed, and how, by 32 in two words; what is not said here stays.
        features = [0] * (2 * words)
        features[2 * word] = 1 << bit
        _ethtool(bytearray(struct.pack(f"{2 + 2 * words}I", ETHTOOL_SFEATURES, words, *features)))


def _ethtool(command: bytearray) -> None:
    held = (ctypes.c_char * len(command)).from_buffer(command)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sP16x", b"lo", ctypes.addressof(held))
        fcntl.ioctl(any_socket, SIOCETHTOOL, request)


def _await_up() -> None:
    """Wait until the wrapper has brought the loopback up: it takes one that is up already for a fault."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.bind((0, RTMGRP_LINK))
        netlink.settimeout(UP_S)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            while not _is_up(any_socket):
                # Told of every change of a link; there is no other.
                try:
                    netlink.recv(65536)
                except TimeoutError:
                    raise OpeningError(f"its loopback is not up after {UP_S:.0f} s") from None


def _is_up(any_socket: socket.socket) -> bool:
    told = fcntl.ioctl(any_socket, SIOCGIFFLAGS, struct.pack("16s16x", b"lo"))
    return bool(struct.unpack_from("16xH", told)[0] & IFF_UP)


def _make_all_local(*, speaks_v6: bool) -> bool:
    """Give the loopback the run's addresses, and make every other local too. Whether that is so for IPv6."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        own = socket.inet_aton(OWN_V4)
        _ask(netlink, *_address(socket.AF_INET, own))
        _ask(netlink, *_route(socket.AF_INET, own))
        if speaks_v6:
            try:
                own = socket.inet_pton(socket.AF_INET6, OWN_V6)
                _ask(netlink, *_address(socket.AF_INET6, own))
                _ask(netlink, *_route(socket.AF_INET6, own))
            except PermissionError:
                # The namespace was made without (net.ipv6.conf.default.disable_ipv6): nothing is sent there then.
                return False
    return speaks_v6


def _address(family: int, own: bytes) -> tuple[int, bytes]:
    # Without waiting whether somebody else has it (RFC 4862, 5.4): there is nobody else.
    flags, scope = (0, RT_SCOPE_HOST) if family == socket.AF_INET else (IFA_F_NODAD, 0)
    message = struct.pack("=BBBBI", family, len(own) * 8, flags, scope, LOOPBACK)
    return RTM_NEWADDR, message + _attribute(IFA_LOCAL, own) + _attribute(IFA_ADDRESS, own)


def _route(family: int, source: bytes) -> tuple[int, bytes]:
    """A route by which every address of a family that has none of its own is local."""
    message = struct.pack(
        "=BBBBBBBBI", family, 0, 0, 0, RT_TABLE_LOCAL, RTPROT_BOOT, RT_SCOPE_HOST, RTN_LOCAL, 0
    )
    message += _attribute(RTA_OIF, struct.pack("=I", LOOPBACK)) + _attribute(RTA_PREFSRC, source)
    return RTM_NEWROUTE, message


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _ask(netlink: socket.socket, kind: int, message: bytes) -> None:
    """Send a request and wait for its acknowledgement. Raises OSError."""
    netlink.send(struct.pack("=IHHII", 16 + len(message), kind, NLM_F_REQUEST_ACK_CREATE, 1, 0) + message)
    answer = netlink.recv(4096)
    (error,) = struct.unpack_from("=i", answer, 16)
    if error:
        raise OSError(-error, f"rtnetlink: {os.strerror(-error)}")


# What is optional


def _lets_ping() -> bool:
    """Let the run send echo requests, and keep the kernel from answering them. Whether both could be done."""
    try:
        with open("/proc/self/gid_map") as mapped:
            group = mapped.read().split()[0]
        for path, value in (
            ("/proc/sys/net/ipv4/icmp_echo_ignore_all", "1"),
            ("/proc/sys/net/ipv6/icmp/echo_ignore_all", "1"),
            ("/proc/sys/net/ipv4/ping_group_range", f"{group} {group}"),
        ):
            if os.path.exists(path):
                with open(path, "w") as setting:
                    setting.write(value)
    except (OSError, IndexError):
        # In this order: where the kernel would answer for everybody, nobody may ask.
        return False
    return True


_FILTER = """\
table inet ringfence {{
  chain prerouting {{
    type filter hook prerouting priority mangle; policy accept;
    meta l4proto udp meta mark {mark} accept
    {taken_v4}
    {taken_v6}
    ip daddr {{ 127.0.0.0/8, {own_v4} }} accept
    ip6 daddr {{ ::1, {own_v6} }} accept
    meta l4proto udp drop
    meta nfproto ipv4 meta l4proto tcp tproxy ip to 127.0.0.1:{port_v4} accept
    meta nfproto ipv6 meta l4proto tcp tproxy ip6 to [::1]:{port_v6} accept
  }}
}}
"""
_TAKEN = """
    {family} daddr {address} {udp} drop
    {family} daddr {address} {tcp} tproxy {family} to {listener} accept
"""
"""Ports of the host's own loopback, where everything else is the run's own."""


CAP_NET_ADMIN = 12
LINUX_CAPABILITY_VERSION_3 = 0x2008_0522
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 47, 2


def _hand_down_capability() -> None:
    """Let a program that is started here change this network: whoever is not root there has it no more otherwise."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    one = 1 << CAP_NET_ADMIN
    # Effective, permitted and inheritable, for the numbers below 32 and then for those above (capabilities(7)).
    if libc.capset(
        ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)(one, one, one, 0, 0, 0))
    ) or libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_ADMIN, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, f"a capability for nft: {os.strerror(number)}")


def _load_filter(orders: Orders, mark: int, ports: list[int]) -> None:
    """Have every TCP connection come to the listeners on these ports, and UDP be seen and not answered."""
    text = _FILTER.format(
        own_v4=OWN_V4,
        own_v6=OWN_V6,
        port_v4=ports[0],
        port_v6=ports[-1],
        mark=mark,
        taken_v4=_taken("ip", "127.0.0.1", f"127.0.0.1:{ports[0]}", orders, besides=DNS),
        taken_v6=_taken("ip6", "::1", f"[::1]:{ports[-1]}", orders),
    )
    _hand_down_capability()
    done = subprocess.run([orders.nft, "-f", "-"], input=text.encode(), capture_output=True, check=False)
    if done.returncode:
        raise OpeningError(" ".join(done.stderr.decode(errors="replace").split()) or "nft failed")


def _taken(family: str, address: str, listener: str, orders: Orders, *, besides: int | None = None) -> str:
    if not orders.local:
        return ""
    listed = ", ".join(f"{first}-{last}" for first, last in orders.local)
    tcp, udp = (
        f"{each} dport {{ {listed} }}" + (f" {each} dport != {besides}" if besides else "")
        for each in ("tcp", "udp")
    )
    return _TAKEN.format(family=family, address=address, listener=listener, tcp=tcp, udp=udp)
