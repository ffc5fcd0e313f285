"""What the kernel would do with a filter: an interpreter of classic BPF that is not its assembler's."""

from __future__ import annotations

import struct

from ringfence.sandbox.filters.seccomp import Architecture, Syscall
from ringfence.sandbox.filters.seccomp.bpf import (
    AND,
    JUMP,
    JUMP_ANY_BIT,
    JUMP_AT_LEAST,
    JUMP_EQUAL,
    JUMP_GREATER,
    LOAD,
    RETURN,
)


def interpret(code: bytes, number: int, audit: int, arguments: tuple[int, ...] = ()) -> int:
    """The verdict on one call: classic BPF, as far as it is used here, over one `struct seccomp_data`."""
    data = struct.pack("<IIQ6Q", number, audit, 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    instructions = list(struct.iter_unpack("<HBBI", code))
    at, accumulator = 0, 0
    while True:
        code_, jump_true, jump_false, k = instructions[at]
        at += 1
        if code_ == RETURN:
            return int(k)
        if code_ == LOAD:
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif code_ == AND:
            accumulator &= k
        elif code_ == JUMP:
            at += k
        else:
            holds = {
                JUMP_EQUAL: accumulator == k,
                JUMP_GREATER: accumulator > k,
                JUMP_AT_LEAST: accumulator >= k,
                JUMP_ANY_BIT: bool(accumulator & k),
            }[code_]
            at += jump_true if holds else jump_false


def number_of(call: Syscall, architecture: Architecture) -> int:
    """The number of a call that the architecture has."""
    number = call.number(architecture)
    assert number is not None
    return number
