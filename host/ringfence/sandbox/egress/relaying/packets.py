"""Packets as they are seen inside, and packets that are put there: IPv4 and IPv6, TCP, UDP and ICMP.

What is read was sent by a hostile script: each length in it is checked before it is believed, and what does not fit is
no packet. Sources: RFC 791, 8200 (IP), 9293 (TCP), 768 (UDP), 792, 4443 (ICMP), 1071 (checksums).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

Address = IPv4Address | IPv6Address

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
ECHO_REQUEST, ECHO_REQUEST_V6, ECHO_REPLY, ECHO_REPLY_V6 = 8, 128, 0, 129
HOPS = 64

MOST_QUOTED = 512
"""So much of a packet is quoted in an error about it: enough for every header (RFC 1812, 4.3.2.3)."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet that a run has sent: from which of its addresses to which, and what it carries.

    `transport` begins with the header of `protocol`; `whole` is all of it.
    """

    source: Address
    destination: Address
    protocol: int
    transport: bytes
    whole: bytes

    @property
    def ports(self) -> tuple[int, int]:
        """The ports of a TCP or UDP packet, its own first."""
        source, destination = struct.unpack_from("!HH", self.transport)
        return source, destination

    @property
    def key(self) -> tuple[Address, int, Address, int]:
        """What tells one connection from all others."""
        source, destination = self.ports
        return self.source, source, self.destination, destination

    @property
    def payload(self) -> bytes:
        """What a UDP packet carries."""
        return self.transport[8:]

    @property
    def is_first_of_connection(self) -> bool:
        """Whether it asks for a TCP connection."""
        return self.protocol == TCP and self.transport[13] & (SYN | ACK | RST | FIN) == SYN

    @property
    def is_echo_request(self) -> bool:
        """Whether it asks if somebody is there."""
        kinds = {ICMP: ECHO_REQUEST, ICMPV6: ECHO_REQUEST_V6}
        return kinds.get(self.protocol) == self.transport[0]


_LEAST = {TCP: 20, UDP: 8, ICMP: 8, ICMPV6: 8}


def read(data: bytes) -> Packet | None:
    """The packet of these bytes; None if it is none that matters here (a fragment, options, another protocol)."""
    if len(data) >= 20 and data[0] >> 4 == 4:
        return _read_v4(data)
    if len(data) >= 40 and data[0] >> 4 == 6:
        return _read_v6(data)
    return None


def _read_v4(data: bytes) -> Packet | None:
    start, total = (data[0] & 15) * 4, int.from_bytes(data[2:4], "big")
    fragment = int.from_bytes(data[6:8], "big") & 0x3FFF
    # Options could name another way to go: nobody who wants to be understood needs one.
    if start != 20 or fragment or not start <= total <= len(data):
        return None
    return _packet(IPv4Address(data[12:16]), IPv4Address(data[16:20]), data[9], data[20:total], data[:total])


def _read_v6(data: bytes) -> Packet | None:
    total = 40 + int.from_bytes(data[4:6], "big")
    if total > len(data):
        return None
    source, destination = IPv6Address(data[8:24]), IPv6Address(data[24:40])
    return _packet(source, destination, data[6], data[40:total], data[:total])


def _packet(
    source: Address, destination: Address, protocol: int, transport: bytes, whole: bytes
) -> Packet | None:
    if len(transport) < _LEAST.get(protocol, 1 << 16):
        return None
    return Packet(source, destination, protocol, transport, whole)


def checksum(data: bytes) -> int:
    """The ones' complement of the ones' complement sum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    # A sum of 16-bit words modulo 2**16 - 1 is the number that they make together, modulo the same.
    return ~(int.from_bytes(data, "big") % 0xFFFF) & 0xFFFF


def _sum_of(source: Address, destination: Address, protocol: int, transport: bytes) -> int:
    addresses = source.packed + destination.packed
    if source.version == 4:
        return checksum(addresses + struct.pack("!BBH", 0, protocol, len(transport)) + transport)
    return checksum(addresses + struct.pack("!II", len(transport), protocol) + transport)


def _whole(source: Address, destination: Address, protocol: int, transport: bytes) -> bytes:
    """A packet; the kernel fills in the checksum of an IPv4 header (raw(7))."""
    if source.version == 4:
        total = 20 + len(transport)
        header = struct.pack("!BBHHHBBH", 0x45, 0, total, 0, 0, HOPS, protocol, 0)
    else:
        header = struct.pack("!IHBB", 6 << 28, len(transport), protocol, HOPS)
    return header + source.packed + destination.packed + transport


def again(packet: Packet) -> bytes:
    """The same TCP packet, to be sent once more: on the loopback, its checksum was left to be filled in."""
    transport = packet.transport[:16] + b"\0\0" + packet.transport[18:]
    found = _sum_of(packet.source, packet.destination, TCP, transport)
    transport = transport[:16] + found.to_bytes(2, "big") + transport[18:]
    return packet.whole[: -len(transport)] + transport


def refusal(packet: Packet) -> bytes:
    """What tells the sender of a SYN that the connection is refused."""
    own, wanted = packet.ports
    sequence = int.from_bytes(packet.transport[4:8], "big")
    header = struct.pack(
        "!HHIIBBHHH", wanted, own, 0, (sequence + 1) & 0xFFFFFFFF, 5 << 4, RST | ACK, 0, 0, 0
    )
    found = _sum_of(packet.destination, packet.source, TCP, header)
    header = header[:16] + found.to_bytes(2, "big") + header[18:]
    return _whole(packet.destination, packet.source, TCP, header)


HOST_UNREACHABLE, PORT_UNREACHABLE = "host", "port"
_CODES = {HOST_UNREACHABLE: (1, 3), PORT_UNREACHABLE: (3, 4)}
"""The codes of "destination unreachable", in ICMP (type 3) and in ICMPv6 (type 1)."""


def unreachable(packet: Packet, what: str) -> bytes:
    """What tells the sender of a packet that the host, or the port, cannot be reached."""
    quoted = packet.whole[:MOST_QUOTED]
    version_4 = packet.source.version == 4
    code = _CODES[what][0 if version_4 else 1]
    message = struct.pack("!BBHI", 3 if version_4 else 1, code, 0, 0) + quoted
    return _icmp(packet.destination, packet.source, message)


def echo_reply(packet: Packet, data: bytes) -> bytes:
    """The answer to an echo request: the same identifier and number, with this data."""
    kind = ECHO_REPLY if packet.source.version == 4 else ECHO_REPLY_V6
    message = bytes([kind, 0, 0, 0]) + packet.transport[4:8] + data
    return _icmp(packet.destination, packet.source, message)


def _icmp(source: Address, destination: Address, message: bytes) -> bytes:
    if source.version == 4:
        found, protocol = checksum(message), ICMP
    else:
        found, protocol = _sum_of(source, destination, ICMPV6, message), ICMPV6
    return _whole(source, destination, protocol, message[:2] + found.to_bytes(2, "big") + message[4:])


def datagram(source: tuple[Address, int], destination: tuple[Address, int], payload: bytes) -> bytes:
    """A UDP packet from and to these."""
    length = 8 + len(payload)
    header = struct.pack("!HHHH", source[1], destination[1], length, 0)
    found = _sum_of(source[0], destination[0], UDP, header + payload) or 0xFFFF
    header = header[:6] + found.to_bytes(2, "big")
    return _whole(source[0], destination[0], UDP, header + payload)


def plain(address: str) -> Address:
    """An address as a socket tells it; IPv4 within IPv6 is the IPv4 address."""
    found = ip_address(address.partition("%")[0])
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found
