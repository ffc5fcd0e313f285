"""Packets of a run, as bytes: what is read of them, and what is put there in answer."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.sandbox.egress.relaying import packets
from ringfence.sandbox.egress.relaying.packets import Packet, read

V4 = ip_address("198.19.254.100"), ip_address("198.51.100.7")
V6 = ip_address("fd00:5e:5e::100"), ip_address("2001:db8::7")
BOTH = pytest.mark.parametrize("ends", [V4, V6], ids=["v4", "v6"])


def ones_complement_sum(data: bytes) -> int:
    """The sum of RFC 1071, word by word: an implementation that is not the one under test."""
    total = 0
    for at in range(0, len(data), 2):
        total += (data[at] << 8) + (data[at + 1] if at + 1 < len(data) else 0)
        total = (total & 0xFFFF) + (total >> 16)
    return total


def transport_sum(packet: Packet) -> int:
    """What the checksum of a transport header comes to, with the pseudo-header: 0xFFFF if it is right."""
    addresses = packet.source.packed + packet.destination.packed
    length = len(packet.transport)
    if packet.source.version == 4:
        pseudo = addresses + bytes([0, packet.protocol]) + length.to_bytes(2, "big")
    else:
        pseudo = addresses + length.to_bytes(4, "big") + bytes([0, 0, 0, packet.protocol])
    return ones_complement_sum(pseudo + packet.transport)


def syn(source: object, destination: object) -> bytes:
    """A request to connect, as the loopback shows it: its checksum is not filled in yet."""
    options = bytes.fromhex("020405b40402080a00000001000000000103030a")
    header = struct.pack("!HHIIBBHHH", 40000, 443, 0xFFFFFFFF, 0, 10 << 4, packets.SYN, 64240, 0x1234, 0)
    return packets._whole(source, destination, packets.TCP, header + options)  # type: ignore[arg-type]


@BOTH
def test_a_request_to_connect_is_read_and_sent_again_with_its_checksum(ends: tuple[object, object]) -> None:
    packet = read(syn(*ends))

    assert packet is not None
    assert packet.is_first_of_connection
    assert packet.key == (ends[0], 40000, ends[1], 443)
    again = read(packets.again(packet))
    assert again is not None
    assert transport_sum(again) == 0xFFFF
    assert again.transport[:16] == packet.transport[:16]
    assert again.transport[18:] == packet.transport[18:]


@BOTH
def test_a_refusal_answers_the_request(ends: tuple[object, object]) -> None:
    packet = read(syn(*ends))
    assert packet is not None

    refusal = read(packets.refusal(packet))

    assert refusal is not None
    assert refusal.key == (ends[1], 443, ends[0], 40000)
    _, _, _, acknowledged, _, flags = struct.unpack_from("!HHIIBB", refusal.transport)
    assert acknowledged == 0
    assert flags == packets.RST | packets.ACK
    assert transport_sum(refusal) == 0xFFFF


@BOTH
@given(payload=st.binary(max_size=2000))
def test_a_datagram_carries_what_it_was_given(ends: tuple[object, object], payload: bytes) -> None:
    source, destination = (ends[1], 53), (ends[0], 40000)

    packet = read(packets.datagram(source, destination, payload))  # type: ignore[arg-type]

    assert packet is not None
    assert (packet.protocol, packet.payload) == (packets.UDP, payload)
    assert packet.key == (ends[1], 53, ends[0], 40000)
    assert transport_sum(packet) == 0xFFFF


@BOTH
@pytest.mark.parametrize("what", [packets.HOST_UNREACHABLE, packets.PORT_UNREACHABLE])
def test_an_error_quotes_what_it_is_about(ends: tuple[object, object], what: str) -> None:
    packet = read(packets.datagram((ends[0], 40000), (ends[1], 53), b"?" * 1000))  # type: ignore[arg-type]
    assert packet is not None

    error = read(packets.unreachable(packet, what))

    assert error is not None
    assert (error.source, error.destination) == (ends[1], ends[0])
    assert error.transport[8:] == packet.whole[: packets.MOST_QUOTED]
    if error.source.version == 4:
        assert ones_complement_sum(error.transport) == 0xFFFF
    else:
        assert transport_sum(error) == 0xFFFF


@BOTH
def test_an_echo_is_answered_with_its_identifier_and_number(ends: tuple[object, object]) -> None:
    kind, protocol = (8, packets.ICMP) if ends is V4 else (128, packets.ICMPV6)
    request = packets._whole(ends[0], ends[1], protocol, bytes([kind, 0, 0, 0, 1, 2, 3, 4]) + b"data")  # type: ignore[arg-type]
    packet = read(request)
    assert packet is not None
    assert packet.is_echo_request

    reply = read(packets.echo_reply(packet, b"data"))

    assert reply is not None
    assert not reply.is_echo_request
    assert reply.transport[4:] == bytes([1, 2, 3, 4]) + b"data"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_packet_or_none(data: bytes) -> None:
    packet = read(data)

    if packet is not None:
        assert packet.transport in data
        assert len(packet.transport) >= 8


@given(st.integers(0, 59), st.binary(min_size=1, max_size=4), st.sampled_from([V4, V6]))
def test_what_was_changed_on_the_way_is_a_packet_or_none(
    at: int, change: bytes, ends: tuple[object, object]
) -> None:
    data = bytearray(syn(*ends))
    data[at : at + len(change)] = change

    read(bytes(data))


def test_fragments_and_ways_of_ones_own_are_no_packets() -> None:
    data = bytearray(syn(*V4))
    data[6] = 0x20  # more fragments
    assert read(bytes(data)) is None

    data = bytearray(syn(*V4))
    data[0] = 0x46  # an option
    assert read(bytes(data)) is None

    data = bytearray(syn(*V6))
    data[6] = 43  # a routing header
    assert read(bytes(data)) is None
