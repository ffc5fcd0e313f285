"""The filters as programs: each number's verdict or rule, found by halving."""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence

from ringfence.sandbox.filters.seccomp import calls
from ringfence.sandbox.filters.seccomp.architecture import HIGHEST_KNOWN, Architecture
from ringfence.sandbox.filters.seccomp.bpf import (
    ALLOW,
    ARCH,
    JUMP_AT_LEAST,
    JUMP_EQUAL,
    KILL_PROCESS,
    LOAD,
    NUMBER,
    RETURN,
    Instruction,
    Step,
    assemble,
    refuse,
    to_bytes,
)
from ringfence.sandbox.filters.seccomp.judged import AMONG_THE_HOSTS, WITHOUT_SOCKETS, judged
from ringfence.sandbox.filters.seccomp.rules import Rule, source

Outcome = int | Rule
"""What becomes of a call: a verdict, or what the rule makes of its arguments."""


def program(
    architecture: Architecture,
    *,
    memory_is_counted: bool = False,
    files_are_shared: bool = False,
    host_is_shown: bool = False,
) -> tuple[Instruction, ...]:
    """The filter of every run, as instructions.

    Another architecture's call kills the process: its numbers mean other calls (26 is `ptrace` for i386). What has
    neither verdict nor rule is allowed if it was known when this was written; what is not known is absent, with every
    call of x32 among it.

    Args:
        architecture: the machine's.
        memory_is_counted: the kernel itself counts all memory of the run, mapped or not (a cgroup).
        files_are_shared: the run has files that the host or other runs have as well, and not as its policy says.
        host_is_shown: the run has files of the host's among which there may be sockets.
    """
    rules = judged(
        memory_is_counted=memory_is_counted,
        files_are_shared=files_are_shared,
        host_is_shown=host_is_shown,
    )
    named: dict[int, Outcome] = {**dict(calls.verdicts(architecture)), **_by_number(architecture, rules)}
    absent = refuse(errno.ENOSYS)
    return assemble(
        (
            Step(LOAD, ARCH),
            Step(JUMP_EQUAL, architecture.audit, to="native"),
            Step(RETURN, KILL_PROCESS),
            "native",
            *_dispatch(named, lambda number: ALLOW if architecture.knows(number) else absent),
        )
    )


@functools.cache
def syscall_filter(
    architecture: Architecture,
    *,
    memory_is_counted: bool = False,
    files_are_shared: bool = False,
    host_is_shown: bool = False,
) -> bytes:
    """The filter of every run, ready to be loaded; see `program`."""
    return to_bytes(
        program(
            architecture,
            memory_is_counted=memory_is_counted,
            files_are_shared=files_are_shared,
            host_is_shown=host_is_shown,
        )
    )


@functools.cache
def unisolated_filter(architecture: Architecture, *, sockets: bool) -> bytes:
    """A second filter, for what is special to a run without namespaces: it is in the host's own network.

    It is loaded before the filter of every run, which lets no other be loaded, and leaves it to that one to look at the
    architecture: of all filters' verdicts on a call, the kernel takes the severest.

    Args:
        architecture: the machine's.
        sockets: whether the run may have sockets.
    """
    named = _by_number(architecture, AMONG_THE_HOSTS if sockets else WITHOUT_SOCKETS)
    return to_bytes(assemble(_dispatch(named, lambda _: ALLOW)))


def _by_number(architecture: Architecture, rules: Iterable[Rule]) -> dict[int, Outcome]:
    numbers = ((rule.call.number(architecture), rule) for rule in rules)
    return {number: rule for number, rule in numbers if number is not None}


def _dispatch(named: Mapping[int, Outcome], otherwise: Callable[[int], int]) -> list[Step | str]:
    """Find the outcome of the call's number: the one that is named, or else that of the function.

    Numbers beyond those that are known are all like the first of them.
    """
    ranges: list[tuple[int, Outcome]] = []
    for number in range(HIGHEST_KNOWN + 2):
        outcome = named.get(number, otherwise(number))
        if not ranges or ranges[-1][1] != outcome:
            ranges.append((number, outcome))
    return [Step(LOAD, NUMBER), *_search(ranges)]


def _search(ranges: Sequence[tuple[int, Outcome]]) -> list[Step | str]:
    """Halve the ranges, each given by its first number and reaching to the next, until one is left."""
    if len(ranges) == 1:
        (_, outcome) = ranges[0]
        return source(outcome) if isinstance(outcome, Rule) else [Step(RETURN, outcome)]
    middle = len(ranges) // 2
    first = ranges[middle][0]
    label = f"from-{first}"
    return [
        Step(JUMP_AT_LEAST, first, to=label),
        *_search(ranges[:middle]),
        label,
        *_search(ranges[middle:]),
    ]
