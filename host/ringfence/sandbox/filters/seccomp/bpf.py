"""Classic BPF as seccomp runs it: instructions, an assembler with named jumps, and the form that the kernel takes.

Nothing here knows what is refused: see `calls` and `judged`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Instruction(NamedTuple):
    """One `struct sock_filter` of linux/filter.h."""

    code: int
    jump_true: int
    jump_false: int
    k: int


# linux/bpf_common.h, linux/filter.h and linux/seccomp.h.
LOAD, AND, RETURN, JUMP = 0x20, 0x54, 0x06, 0x05
JUMP_EQUAL, JUMP_GREATER, JUMP_AT_LEAST, JUMP_ANY_BIT = 0x15, 0x25, 0x35, 0x45
ALLOW, KILL_PROCESS, ERRNO = 0x7FFF_0000, 0x8000_0000, 0x0005_0000
NUMBER, ARCH, _ARGUMENTS = 0, 4, 16  # offsets in `struct seccomp_data`

FARTHEST = 255
"""How far a comparison jumps: its distances are bytes. JUMP alone has 32 bits for its own."""

LONGEST_PROGRAM = 4096
"""The most instructions that the kernel takes (BPF_MAXINSNS)."""


@dataclass(frozen=True, slots=True)
class Step:
    """An instruction; a comparison's jumps are named.

    `to` is where it goes if it holds, `otherwise` where it goes if it does not; None is the next step.
    """

    code: int
    k: int
    to: str | None = None
    otherwise: str | None = None


Source = Sequence[Step | str]
"""Steps, and between them the labels (strings) that they jump to; jumps go forward only."""


def assemble(source: Source) -> tuple[Instruction, ...]:
    """Put distances in place of the labels.

    A comparison whose target is farther than `FARTHEST` jumps by way of a JUMP that is put right behind it.

    Raises:
        ValueError: for a jump that goes backwards, and for a program that the kernel would not take.
    """
    steps: list[Step] = []
    labels: dict[str, int] = {}
    for item in source:
        if isinstance(item, str):
            labels[item] = len(steps)
        else:
            steps.append(item)
    far: set[tuple[int, str]] = set()
    while True:
        # Each detour moves what is behind it, which can put further targets out of reach; never back into it.
        places = _places(steps, far)
        grown = far | set(_out_of_reach(steps, labels, places, far))
        if grown == far:
            break
        far = grown
    program = [
        instruction
        for at, step in enumerate(steps)
        for instruction in _instructions(at, step, labels, places, far)
    ]
    if len(program) > LONGEST_PROGRAM:
        raise ValueError(f"{len(program)} instructions are more than the kernel takes")
    return tuple(program)


def _places(steps: Sequence[Step], far: set[tuple[int, str]]) -> list[int]:
    places, place = [], 0
    for at, step in enumerate(steps):
        places.append(place)
        place += 1 + sum((at, label) in far for label in _targets(step))
    return places


def _targets(step: Step) -> list[str]:
    return [label for label in (step.to, step.otherwise) if label is not None]


def _out_of_reach(
    steps: Sequence[Step], labels: dict[str, int], places: Sequence[int], far: set[tuple[int, str]]
) -> Iterator[tuple[int, str]]:
    for at, step in enumerate(steps):
        for label in _targets(step):
            if labels[label] <= at:
                raise ValueError(f"{step} jumps backwards")
            if (at, label) not in far and places[labels[label]] - places[at] - 1 > FARTHEST:
                yield at, label


def _instructions(
    at: int, step: Step, labels: dict[str, int], places: Sequence[int], far: set[tuple[int, str]]
) -> Iterator[Instruction]:
    """A step's instruction, and the detours behind it."""
    here = places[at]
    detours = [label for label in _targets(step) if (at, label) in far]

    def distance(label: str | None) -> int:
        if label is None:
            return len(detours)
        return detours.index(label) if label in detours else places[labels[label]] - here - 1

    yield Instruction(step.code, distance(step.to), distance(step.otherwise), step.k)
    for nth, label in enumerate(detours, 1):
        yield Instruction(JUMP, 0, 0, places[labels[label]] - (here + nth) - 1)


def argument(index: int, *, high: bool = False) -> Step:
    """Load the low half of an argument, or the high one; both architectures are little-endian."""
    return Step(LOAD, _ARGUMENTS + 8 * index + 4 * high)


def refuse(error: int) -> int:
    """The verdict that has the call fail with this errno."""
    return ERRNO | error


SUCCEED = ERRNO
"""The verdict that has the call succeed without being made."""


def to_bytes(instructions: Sequence[Instruction]) -> bytes:
    """The form that the kernel and `bwrap --add-seccomp-fd` take: one `struct sock_filter` after another."""
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in instructions)
