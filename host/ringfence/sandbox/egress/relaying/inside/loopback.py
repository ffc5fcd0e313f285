"""The loopback of a run's network: up, with every address local to it (rtnetlink(7)), and its settings."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct

from .whereabouts import OWN_V4, OWN_V6, OpeningError

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


def bring_up() -> None:
    """Bring the loopback up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))


def cut_datagrams() -> None:
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


def await_up() -> None:
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


def make_all_local(*, speaks_v6: bool) -> bool:
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


def lets_ping() -> bool:
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
