"""Classic BPF as seccomp runs it: instructions, an assembler with named jumps, and the form that the kernel takes.

Nothing here knows what is refused: see `seccomp`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Instruction(NamedTuple):
    """One `struct sock_filter` of linux/filter.h."""

    code: int
    jump_true: int
    jump_false: int
    k: int


# linux/bpf_common.h, linux/filter.h and linux/seccomp.h.
LOAD, AND, RETURN = 0x20, 0x54, 0x06
JUMP_EQUAL, JUMP_GREATER, JUMP_ANY_BIT = 0x15, 0x25, 0x45
ALLOW, KILL_PROCESS, ERRNO = 0x7FFF_0000, 0x8000_0000, 0x0005_0000
NUMBER, ARCH, _ARGUMENTS = 0, 4, 16  # offsets in `struct seccomp_data`


@dataclass(frozen=True, slots=True)
class Step:
    """An instruction whose jumps are named: `to` is where a comparison that holds goes, else the next."""

    code: int
    k: int
    to: str | None = None


Source = Sequence[Step | str]
"""Steps, and between them the labels (strings) that they jump to; jumps go forward only."""


def assemble(source: Source) -> tuple[Instruction, ...]:
    """Put numbers in place of the labels. Raises AssertionError for a jump that the machine cannot make."""
    places: dict[str, int] = {}
    steps: list[Step] = []
    for item in source:
        if isinstance(item, str):
            places[item] = len(steps)
        else:
            steps.append(item)
    program = []
    for at, step in enumerate(steps):
        distance = 0 if step.to is None else places[step.to] - at - 1
        if not 0 <= distance <= 255:
            raise AssertionError(f"{step} jumps {distance}: jumps go forward by at most 255")
        program.append(Instruction(step.code, distance, 0, step.k))
    return tuple(program)


def argument(index: int) -> Step:
    """Load the low half of an argument; both architectures are little-endian."""
    return Step(LOAD, _ARGUMENTS + 8 * index)


def refuse(error: int) -> Step:
    """Have the call fail with this errno."""
    return Step(RETURN, ERRNO | error)


def to_bytes(instructions: Sequence[Instruction]) -> bytes:
    """The form that the kernel and `bwrap --add-seccomp-fd` take: one `struct sock_filter` after another."""
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in instructions)
