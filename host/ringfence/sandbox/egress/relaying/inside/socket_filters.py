"""What sockets hear, as programs for the kernel (Documentation/networking/filter.rst)."""

from __future__ import annotations

import ctypes
import socket
import struct
from dataclasses import dataclass

from ..packets import ECHO_REQUEST, ECHO_REQUEST_V6

SO_ATTACH_FILTER = 26
PACKET_OUTGOING = 4
ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD

LD_BYTE, LD_HALF, LD_WORD, LD_BYTE_AT_X, LDX_HEADER = 0x30, 0x28, 0x20, 0x50, 0xB1
JUMP_EQUAL, AND, RET = 0x15, 0x54, 0x06
ANCILLARY = 0xFFFF_F000
A_PROTOCOL, A_PACKET_TYPE, A_MARK = ANCILLARY + 0, ANCILLARY + 4, ANCILLARY + 20
ALL = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Instruction:
    """One of a program; a jump goes so many further, by whether its test holds."""

    code: int
    operand: int
    if_true: int = 0
    if_false: int = 0

    def packed(self) -> bytes:
        """It, as the kernel reads it."""
        return struct.pack("=HBBI", self.code, self.if_true, self.if_false, self.operand)


def unmarked_syns_dropped(mark: int) -> list[Instruction]:
    """Drops what asks for a connection (the data begins with the TCP header), but for what has the mark."""
    return [
        Instruction(LD_BYTE, 13),
        Instruction(AND, 0x12),
        Instruction(JUMP_EQUAL, 0x02, 0, 2),
        Instruction(LD_WORD, A_MARK),
        Instruction(JUMP_EQUAL, mark, 0, 1),
        Instruction(RET, ALL),
        Instruction(RET, 0),
    ]


def what_is_watched(mark: int) -> list[Instruction]:
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
        Instruction(
            code,
            operand,
            *(to if isinstance(to, int) else labels[to] - place - 1 for to in (if_true, if_false)),
        )
        for place, (code, operand, if_true, if_false) in enumerate(lines)
    ]


def attach(filtered: socket.socket, program: list[Instruction]) -> None:
    """Have a socket hear only what the program keeps."""
    code = b"".join(each.packed() for each in program)
    held = ctypes.create_string_buffer(code)
    filtered.setsockopt(
        socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(program), ctypes.addressof(held))
    )


NOTHING = [Instruction(RET, 0)]
"""Keeps nothing."""
