"""Rules about a call's arguments, and what they are as BPF.

An argument is compared by the 32 bits that the kernel reads of it: a comparison of all 64 would be passed with high
bits set (CVE-2019-10063). Only a pointer is looked at as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ringfence.sandbox.filters.seccomp.architecture import Syscall
from ringfence.sandbox.filters.seccomp.bpf import (
    ALLOW,
    AND,
    JUMP_ANY_BIT,
    JUMP_EQUAL,
    JUMP_GREATER,
    RETURN,
    Step,
    argument,
)


@dataclass(frozen=True, slots=True)
class Is:
    """The argument is one of these values, looked at through the mask."""

    index: int
    values: tuple[int, ...]
    mask: int = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class IsNot:
    """The argument is none of these values, looked at through the mask."""

    index: int
    values: tuple[int, ...]
    mask: int = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Has:
    """The argument has a bit of the mask."""

    index: int
    mask: int


@dataclass(frozen=True, slots=True)
class Exceeds:
    """The argument is greater than this value, both without a sign."""

    index: int
    value: int


@dataclass(frozen=True, slots=True)
class Points:
    """The argument is a pointer, and not NULL: any of its 64 bits is set."""

    index: int


Condition = Is | IsNot | Has | Exceeds | Points


@dataclass(frozen=True, slots=True)
class Case:
    """A verdict, and all that must hold for it."""

    verdict: int
    when: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """A call's cases, of which the first that holds decides; without one that holds, `otherwise` does."""

    call: Syscall
    cases: tuple[Case, ...]
    otherwise: int = ALLOW


def source(rule: Rule) -> list[Step | str]:
    """The rule as steps that all end in a verdict. Its labels begin with the call's name."""
    steps: list[Step | str] = []
    for nth, case in enumerate(rule.cases):
        following = f"{rule.call.name}-{nth + 1}"
        for place, condition in enumerate(case.when):
            steps += _unless(condition, following, f"{rule.call.name}-{nth}-{place}")
        steps += (Step(RETURN, case.verdict), following)
    return [*steps, Step(RETURN, rule.otherwise)]


def _unless(condition: Condition, away: str, label: str) -> Iterator[Step | str]:
    """Steps that jump `away` unless the condition holds; `label` is theirs to use."""
    yield argument(condition.index)
    match condition:
        case Is(_, values, mask):
            yield from _masked(mask)
            *some, last = values
            yield from (Step(JUMP_EQUAL, value, to=label) for value in some)
            yield Step(JUMP_EQUAL, last, otherwise=away)
        case IsNot(_, values, mask):
            yield from _masked(mask)
            yield from (Step(JUMP_EQUAL, value, to=away) for value in values)
        case Has(_, mask):
            yield Step(JUMP_ANY_BIT, mask, otherwise=away)
        case Exceeds(_, value):
            yield Step(JUMP_GREATER, value, otherwise=away)
        case Points(index):
            yield Step(JUMP_EQUAL, 0, otherwise=label)
            yield argument(index, high=True)
            yield Step(JUMP_EQUAL, 0, to=away)
    yield label


def _masked(mask: int) -> Sequence[Step]:
    return () if mask == 0xFFFF_FFFF else (Step(AND, mask),)
